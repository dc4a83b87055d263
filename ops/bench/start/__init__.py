"""How long a fresh process takes to its first token, what takes the time, and how much memory it needs.

`launch.py` starts the real commands, `measure.py` asks them, `phases.py` is a start taken apart.
"""
