"""Tasks: what a label is, and everything that follows from it."""
