"""Messages, their codec and the topics they travel on."""
