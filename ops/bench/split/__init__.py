"""What the split itself costs: every token asked of the cloud, against the same model in one process.

`unsplit.py` is the yardstick, `measure.py` runs both in turn, `timeline.py` says where the difference sits.
"""
