"""Training data for the home model, and the training itself."""
