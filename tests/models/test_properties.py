"""Specs drawn at random: each builds with the parameters that a formula predicts, or is refused."""

import math

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kresnet
from kresnet.layers import ACTIVATIONS
from kresnet.models.residual.spec import SHORTCUTS, STEMS

STAGES = st.integers(1, 3)
SPECS = STAGES.flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "depths": st.lists(st.sampled_from([1, 1, 1, 2, 2, 2, 0]), min_size=n, max_size=n),
            "widths": st.lists(st.sampled_from([4, 6, 8, 12, 16]), min_size=n, max_size=n),
        },
        optional={
            "expansion": st.sampled_from([1, 2, 4]),
            "groups": st.sampled_from([1, 2, 3, 4]),
            "group_width": st.sampled_from([None, 1, 4, 6]),
            "entry_divisor": st.sampled_from([1, 2]),
            "se_reduction": st.sampled_from([None, 4, 4, 16, 16, -1]),
            "stem": st.sampled_from(STEMS),
            "stem_width": st.sampled_from([None, 4, 5, 8]),
            "stem_pool": st.sampled_from(["symmetric", "ceil"]),
            "shortcut": st.sampled_from(SHORTCUTS),
            "stride_in": st.sampled_from(["1x1", "3x3"]),
            "preactivation": st.booleans(),
            "shared_entry": st.booleans(),
            "final_norm": st.sampled_from([True, False, None]),
            "activation": st.sampled_from(ACTIVATIONS),
            "output_stride": st.sampled_from([8, 16, 32]),
            "zero_init_residual": st.booleans(),
            "drop_path_rate": st.sampled_from([0.0, 0.2, 0.5, 1.5]),
            "dropout_rate": st.sampled_from([0.0, 0.3]),
            "head_dropout_rate": st.sampled_from([0.0, 0.2]),
        },
    )
)


def predicted_parameters(
    channels,
    classes,
    *,
    depths,
    widths,
    expansion=4,
    groups=1,
    group_width=None,
    entry_divisor=1,
    se_reduction=None,
    stem="conv7",
    stem_width=None,
    shortcut="conv",
    preactivation=False,
    final_norm=True,
    output_stride=32,
    **_,
):
    """Counts trainable parameters by arithmetic alone."""
    stem_width = stem_width or widths[0]
    convs, norms = {
        "conv7": ([49 * channels * stem_width], [stem_width]),
        "conv3": ([9 * channels * stem_width], [stem_width]),
        "deep": (
            [9 * channels * (stem_width // 2), 9 * (stem_width // 2) ** 2, 9 * (stem_width // 2) * stem_width],
            [stem_width // 2, stem_width // 2, stem_width],
        ),
        "tiered": (
            [
                9 * channels * (3 * stem_width // 8),
                9 * (3 * stem_width // 8) * (stem_width // 2),
                9 * (stem_width // 2) * stem_width,
            ],
            [3 * stem_width // 8, stem_width // 2, stem_width],
        ),
    }[stem]
    total = sum(convs) + 2 * sum(norms[:-1] if preactivation else norms)
    before, stride, dilation = stem_width, 1 if stem == "conv3" else 4, 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        step = 2 if stage else 1
        if stride * step > output_stride:
            step, dilation = 1, dilation * step
        stride *= step
        out = width * expansion
        for block in range(depth):
            if expansion == 1:
                rows = [(before, out, 9), (out, out, 9)]
            else:
                inner = width if group_width is None else group_width * width // widths[0] * groups
                entry = inner // entry_divisor
                rows = [(before, entry, 1), (entry, inner, 9 // 1), (inner, out, 1)]
            weights = [a * b * taps for a, b, taps in rows]
            if expansion > 1:
                weights[1] //= groups
            total += sum(weights) + 2 * sum(a if preactivation else b for a, b, _ in rows)
            if se_reduction:
                hidden = max(8, int(out / se_reduction + 4) // 8 * 8)
                total += 2 * out * hidden + hidden + out
            strided = block == 0 and step == 2
            if (strided or before != out) and shortcut in ("conv", "avg_conv", "conv3"):
                taps = 9 if shortcut == "conv3" and (strided or dilation > 1) else 1
                total += before * out * taps + (0 if preactivation else 2 * out)
            before = out
    if preactivation and (final_norm or (final_norm is None and stem != "conv3")):
        total += 2 * before
    return total + before * classes + classes


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS, st.integers(1, 4), st.integers(2, 5), st.sampled_from([None, 31, 32, 40]))
def test_a_spec_builds_as_predicted_or_is_refused(fields, channels, classes, size):
    try:
        model = kresnet.ResNet(input_shape=(size, size, channels), classes=classes, **fields)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = None
    assert (refusal is not None) == is_nonsense(fields, size), refusal
    if refusal is not None:
        assert "Received: " in refusal.splitlines()[-1]
        return
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert parameters == predicted_parameters(channels, classes, **fields)
    images = np.zeros((1, size or 33, size or 35, channels), "uint8")
    assert keras.ops.shape(model(images)) == (1, classes)
    keras.backend.clear_session(free_memory=False)


def is_nonsense(fields, size):
    """Tells, in other words than the package's, whether no network can be meant."""
    depths, widths, expansion = fields["depths"], fields["widths"], fields.get("expansion", 4)
    groups, group_width, entry = fields.get("groups", 1), fields.get("group_width"), fields.get("entry_divisor", 1)
    stem, shortcut = fields.get("stem", "conv7"), fields.get("shortcut", "conv")
    stem_width = fields.get("stem_width") or widths[0]
    stride = min((1 if stem == "conv3" else 4) * 2 ** (len(depths) - 1), fields.get("output_stride", 32))
    inner = [w if group_width is None else group_width * w // widths[0] * groups for w in widths]
    outs = [stem_width, *(w * expansion for w in widths)]
    return (
        0 in depths
        or fields.get("se_reduction") == -1
        or fields.get("drop_path_rate") == 1.5
        or (expansion == 1 and (groups > 1 or group_width is not None or entry > 1))
        or (expansion > 1 and any(i == 0 or i % groups or i % entry or i // entry % groups for i in inner))
        or (stem == "deep" and stem_width % 2 == 1)
        or (stem == "tiered" and stem_width % 8 != 0)
        or (shortcut == "pad" and outs != sorted(outs))
        or (shortcut == "none" and (fields.get("zero_init_residual", False) or fields.get("drop_path_rate", 0) > 0))
        or (size is not None and size < stride)
    )


ROWS = st.tuples(
    st.sampled_from([1, 1, 3, 6]),
    st.sampled_from([4, 8, 12, 16]),
    st.sampled_from([1, 1, 2, 2, 3, 0]),
    st.sampled_from([1, 1, 2, 2, 2, 3]),
    st.sampled_from([3, 3, 3, 5, 5, 4]),
    st.sampled_from([0.0, 0.0, 0.25, 1.0, 1.5]),
)
INVERTED = st.fixed_dictionaries(
    {"table": st.lists(ROWS, min_size=1, max_size=3)},
    optional={
        "stem_width": st.sampled_from([8, 12, 12, 0]),
        "head_width": st.sampled_from([None, 16, 20]),
        "width_multiplier": st.sampled_from([0.35, 0.75, 1.0, 1.4]),
        "depth_multiplier": st.sampled_from([0.5, 1.0, 1.1, 2.0]),
        "fixed_ends": st.booleans(),
        "head_never_shrinks": st.booleans(),
        "linear": st.booleans(),
        "shortcut": st.booleans(),
        "activation": st.sampled_from(ACTIVATIONS),
        "padding": st.sampled_from(["same", "symmetric"]),
        "drop_path_rate": st.sampled_from([0.0, 0.2]),
    },
)


def inverted_parameters(
    channels,
    classes,
    *,
    table,
    stem_width=32,
    head_width=1280,
    width_multiplier=1.0,
    depth_multiplier=1.0,
    fixed_ends=False,
    head_never_shrinks=False,
    **_,
):
    """Counts trainable parameters by arithmetic alone."""

    def scaled(width, multiplier=width_multiplier):
        if multiplier == 1:
            return width
        eights = max(1, math.floor(width * multiplier / 8 + 0.5))
        return 8 * (eights if 8 * eights >= 0.9 * width * multiplier else eights + 1)

    before = stem_width if fixed_ends else scaled(stem_width)
    total = 9 * channels * before + 2 * before
    for i, (t, c, n, _, k, se) in enumerate(table):
        out, end = scaled(c), fixed_ends and i in (0, len(table) - 1)
        for _ in range(n if end else math.ceil(n * depth_multiplier - 1e-6)):
            inner, hidden = before * t, max(1, round(before * se))
            total += (before * inner + 2 * inner if t > 1 else 0) + inner * k * k + 2 * inner + inner * out + 2 * out
            total += 2 * inner * hidden + hidden + inner if se else 0
            before = out
    if head_width:
        head = head_width if fixed_ends else scaled(head_width)
        head = max(head, head_width) if head_never_shrinks else head
        total, before = total + before * head + 2 * head, head
    return total + before * classes + classes


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(INVERTED, st.integers(1, 4), st.sampled_from([None, 15, 32, 33]))
def test_a_table_builds_as_predicted_or_is_refused(fields, channels, size):
    stride = 2 * math.prod(row[3] for row in fields["table"])
    nonsense = (
        any(n == 0 or s == 3 or k == 4 or se == 1.5 for _, _, n, s, k, se in fields["table"])
        or fields.get("stem_width") == 0
        or (size is not None and size < stride)
    )
    try:
        model = kresnet.EfficientNet(input_shape=(size, size, channels), classes=3, **fields)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = None
    assert (refusal is not None) == nonsense, refusal
    if refusal is not None:
        assert "Received: " in refusal.splitlines()[-1]
        return
    defaults = {"stem_width": 32, "head_width": 1280}
    assert kresnet.cost(model, (64, 64, channels)).trainable_params == inverted_parameters(
        channels, 3, **defaults | fields
    )
    assert keras.ops.shape(model(np.zeros((1, size or 33, size or 35, channels), "uint8"))) == (1, 3)
    keras.backend.clear_session(free_memory=False)
