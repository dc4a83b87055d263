"""Benchmarks of speed, memory and bytes; `antiphon bench …` runs them."""
