"""Selectors: beliefs in, weights out. Fitted on mergeable statistics, applied row by row."""
