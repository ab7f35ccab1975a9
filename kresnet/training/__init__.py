"""Trains networks with `model.fit`: recipes, and the optimizers, losses and callbacks that they need."""
