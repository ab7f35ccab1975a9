"""Measures a network's accuracy, and writes the report of a training run."""
