"""Data: sources in, the tables of the design out."""
