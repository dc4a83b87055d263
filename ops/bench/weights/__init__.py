"""What eight and four bits for weights cost and save."""
