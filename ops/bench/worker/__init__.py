"""`antiphon bench worker`: what a worker gets through when many sessions step at once."""
