"""Hidden-state codecs: rows in, bytes out, and back."""
