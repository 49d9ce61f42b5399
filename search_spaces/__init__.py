"""What may vary: pure data."""
