"""Sweeps: many trials of one recipe, each a run whose steps are shared with all others."""
