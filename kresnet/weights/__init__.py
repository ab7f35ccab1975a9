"""Weights from files, and the names and forms that they have in PyTorch's checkpoints."""

from kresnet.weights.layout import Layout
from kresnet.weights.loading import load

__all__ = ["Layout", "load"]
