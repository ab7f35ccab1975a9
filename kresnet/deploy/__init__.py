"""Models for phones and servers: written, made small, and compared with the network before they get their names."""

from kresnet.deploy.quantize import quantize_aware
from kresnet.graph.branches import reparameterize
from kresnet.graph.fold import fold_batch_norm

__all__ = ["fold_batch_norm", "quantize_aware", "reparameterize"]
