"""Checkpoints: where they are, what they hold, and which model they are."""
