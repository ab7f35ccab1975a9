"""Weights from files, and the names and forms that they have in other packages' checkpoints."""
