"""Registered networks with fewer blocks and channels, for what is the same in each of them."""

import pytest

import kresnet

# One of each kind, for the daily tests (`make quick`).
DAILY = {
    *("vgg11_bn", "resnet18", "resnet20", "plainnet20", "resnet50d", "resnetv2_18", "resnext50_32x4d", "seresnet18"),
    *("wrn_16_8", "mobilenetv1_100", "mobilenetv2_035", "efficientnet_b0", "efficientnet_lite0"),
}


def every_network():
    """Returns all keys to parametrize a test with, those that are not daily marked as slow."""
    return [key if key in DAILY else pytest.param(key, marks=pytest.mark.slow) for key in kresnet.list_models()]


def shallow(key, size, **arguments):
    """Builds a network for images of size x size with all fields of its own spec but these: a stage has at most two
    blocks, since the others are like the second; and a quarter of the channels."""
    builder = kresnet.get_builder(key)
    spec = builder.spec
    if hasattr(spec, "table"):
        table = tuple(row._replace(n=1) for row in spec.table)
        fields = {"table": table, "depth_multiplier": 1.0, "width_multiplier": spec.width_multiplier / 4}
    else:
        widths = tuple(width // 4 for width in spec.widths)
        fields = {"depths": tuple(min(depth, 2) for depth in spec.depths), "widths": widths}
        if hasattr(spec, "dense_widths"):
            fields["dense_widths"] = tuple(width // 64 for width in spec.dense_widths)
        elif spec.group_width:
            fields["group_width"] = max(4, spec.group_width // 4)
    return builder(input_shape=(size, size, 3), **fields | arguments)
