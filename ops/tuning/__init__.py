"""Exit tuning: the backbone stays as it is, exit heads learn to foretell what it will say.

Source: Pan et al., EE-Tuning (arXiv 2402.00518).
"""
