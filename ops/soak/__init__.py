"""Hours of random faults on one installation: does every answer stay right, and does memory stay put?

`soak.py` runs it, `devices.py` asks without a pause, `deck.py` draws the faults, `memory.py` samples the
processes, `trend.py` finds what grows, and `report.py` says whether all is well.
"""
