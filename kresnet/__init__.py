"""Residual and mobile convolutional networks for Keras, exactly as their papers have them."""

from kresnet.models.resnet import *
from kresnet.zoo import create_model, get_builder, list_models
