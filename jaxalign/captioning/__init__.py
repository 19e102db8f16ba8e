"""What is left in an embedding, in words."""
