"""Faults on purpose: real processes are killed, frozen and cut off, and every answer is checked.

`rig.py` is the installation that suffers, `catalog/` what it suffers, `oracle.py` knows what each answer
has to be, and `bench.py` counts.
"""
