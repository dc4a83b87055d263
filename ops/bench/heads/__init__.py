"""What an LM head at each exit costs, by each way to a token, and that the way changes no text."""
