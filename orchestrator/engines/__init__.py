"""Engines: where the work of a step is done. Two of them, one result."""
