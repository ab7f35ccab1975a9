"""Labelled images: sources, decoding, augmentation, and the batches that `fit` takes."""

from kresnet.data.loading import Epochs, load, without_tuning

__all__ = ["Epochs", "load", "without_tuning"]
