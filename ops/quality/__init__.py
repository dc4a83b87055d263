"""How good answers are, and what they cost: calibration with a guarantee, and the quality report.

Everything here decodes for real, each answer along its own text; nothing is estimated from texts that
the model did not write.
"""
