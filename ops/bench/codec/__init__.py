"""`antiphon bench codec`: what hidden-state codecs cost in bytes, time and tokens."""
