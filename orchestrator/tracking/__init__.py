"""Tracking: an append-only event log is the truth; W&B, CSV and the console are projections."""
