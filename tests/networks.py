"""Registered networks with fewer blocks and channels, for what is the same in each of them."""

import dataclasses

import pytest

import kresnet
from kresnet.graph.cost import without_weights  # noqa: F401 (tests have it from here)
from kresnet.models.inception.modules import InceptionSpec

# One of each kind, for the daily tests (`make quick`).
DAILY = {
    *("vgg11_bn", "resnet18", "resnet20", "plainnet20", "resnet50d", "resnetv2_18", "resnext50_32x4d", "seresnet18"),
    *("wrn_16_8", "mobilenetv1_100", "mobilenetv2_035", "mobilenetv3_small_100"),
    *("efficientnet_b0", "efficientnet_lite0", "lenet5"),
}

# Kinds of many branches, whose families have a lighter one.
HEAVY = {"inception_v4", "inception_resnet_v1", "inception_resnet_v2", "googlenet", "parnet_m", "parnet_l", "senet154"}


def marked(keys, thorough=()):
    """Returns keys to parametrize a test with, marked as slow if they are not daily, and some as thorough."""
    marks = {key: [pytest.mark.slow] + [pytest.mark.thorough] * (key in thorough) for key in keys}
    return [key if key in DAILY else pytest.param(key, marks=marks[key]) for key in keys]


def every_kind():
    """Returns a key of each kind to parametrize a test with: networks are of one kind if their specs differ in numbers
    only. Marked as thorough are heavy kinds, and those all of whose values others of their family have."""
    kinds = {}
    for key in sorted(kresnet.list_models(), key=lambda key: key not in DAILY):
        kinds.setdefault(kind(key), key)
    values = {key: {(one[0], i, value) for i, value in enumerate(one)} for one, key in kinds.items()}
    needed = {key for key in values if key in DAILY}
    while left := set().union(*values.values()) - set().union(*(values[key] for key in needed)):
        needed.add(max(values, key=lambda key, left=left: len(values[key] & left)))
    return marked(values, thorough=values.keys() - needed | HEAVY)


def kind(key):
    """Returns what networks of one kind share: all fields of their specs, but of numbers only whether they exceed 1."""
    builder = kresnet.get_builder(key)
    fields = dataclasses.asdict(builder.spec)
    # What layers there are does not depend on these, but whether there is dropout at all does.
    for name in ("depths", "modules", "widths", "dense_widths", "depth_multiplier", "width_multiplier", "mean", "std"):
        fields.pop(name, None)
    fields["head_dropout_rate"] = fields["head_dropout_rate"] > 0
    if "rows" in fields:
        fields["rows"] = frozenset((row.s > 1, row.g > 1, row.then, bool(row.maps)) for row in builder.spec.rows)
        fields.pop("head_size")
    if "table" in fields:
        fields["table"] = frozenset(map(row_kind, builder.spec.table))
    numbers = {name: value > 1 for name, value in fields.items() if type(value) in (int, float)}
    return builder.family.name, *(fields | numbers).values()


def row_kind(row):
    """Returns what rows of an inverted residual network's table share that differ in numbers only."""
    return row.expansion(0) > 1, row.s, row.k, row.se > 0, row.fused, row.activation


def cut_short(spec):
    """Returns the fields of a shallow network: two stages, since the others are like the second, or one row of a table
    of each kind; at most two blocks in each, since the others are like the second; and a quarter of MobileNet's
    channels, or 16 in the first stage."""
    if hasattr(spec, "table"):
        rows = {}
        for row in spec.table:
            rows.setdefault(row_kind(row), row._replace(n=min(row.n, 2)))
        return {"table": tuple(rows.values()), "depth_multiplier": 1.0, "width_multiplier": 0.25}
    if isinstance(spec, InceptionSpec):
        fields = {"width_multiplier": 0.25}
        return fields | ({"depths": (2, 1, 2)} if hasattr(spec, "depths") else {"modules": spec.modules[:1] * 3})
    if hasattr(spec, "growth_rate"):
        return {"depths": tuple(min(depth, 2) for depth in spec.depths[:2]), "growth_rate": 8, "stem_width": 16}
    if hasattr(spec, "rows"):
        rows = [row if row.maps else row._replace(c=min(row.c, 16 if i else 8)) for i, row in enumerate(spec.rows)]
        return {"rows": tuple(rows), "dense_widths": tuple(min(width, 64) for width in spec.dense_widths)}
    if hasattr(spec, "head_width"):  # ParNet, whose first, middle and last streams are joined in different ways
        return {"depths": (1, 1, 1), "widths": (16, 32, 48), "head_width": 64}
    if not hasattr(spec, "widths"):
        raise ValueError(f"`cut_short` (tests/networks.py) must be told how. Received: spec={spec}")
    stages = len(spec.depths) if hasattr(spec, "dense_widths") else 2
    fields = {"depths": tuple(min(depth, 2) for depth in spec.depths[:stages])}
    fields["widths"] = tuple(16 * width // spec.widths[0] for width in spec.widths[:stages])
    if hasattr(spec, "dense_widths"):
        fields["dense_widths"] = tuple(width // 64 for width in spec.dense_widths)
    elif getattr(spec, "group_width", None):
        fields["group_width"] = 4 if spec.groups > 1 else 32
    elif hasattr(spec, "deployed") and spec.se_reduction:  # of RepVGG, whose squeezed layers would have one channel
        fields["se_reduction"] = 2
    return fields


def shallow(key, size, **arguments):
    """Builds a network for images of size x size, or what it takes at least, with all fields of its own spec but those
    that cut it short."""
    builder = kresnet.get_builder(key)
    size = max(size, getattr(builder.spec, "smallest", 1))
    return builder(input_shape=(size, size, len(builder.spec.mean)), **cut_short(builder.spec) | arguments)
