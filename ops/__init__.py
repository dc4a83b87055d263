"""What people run: the command line, model preparation and training, the demo."""
