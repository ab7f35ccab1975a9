"""Whatever a builder is given that makes no sense is refused by name, before anything is built."""

import inspect
import math
import numbers
import random

import numpy as np
import pytest

import kresnet

SMALL = {"depths": (1, 1, 1), "widths": (4, 4, 8)}
BUILDERS = {
    "ResNet20": SMALL,
    "ResNet110V2": SMALL,
    "MobileNetV2": {"table": ((1, 8, 1, 2),), "stem_width": 8, "head_width": 8},
    "VGG11": SMALL | {"dense_widths": (8,)},
}
ODD = [
    *(
        -1,
        0,
        1,
        2.5,
        10**30,
        -(10**30),
        1e308,
        math.nan,
        math.inf,
        1 + 1j,
        True,
        False,
        None,
        np.int64(-4),
        np.float32(3),
    ),
    *("", " ", "x", "stage9", "a/b", "1", "None", "Avg", b"x", bytearray(b"abc")),
    *(
        (),
        [],
        {},
        set(),
        (0, 0, 0),
        (None,) * 3,
        (1, -2),
        ("x",),
        [[]],
        ((1, 2), (3, 4)),
        range(-3, 3),
        {"a": 1},
        {1: 2},
    ),
    *(np.array([1, 2]), np.zeros((2, 2)), object(), int, lambda: None, math, NotImplemented, ...),
]


def makes_sense(name, value, default):
    """Tells of what an argument may be right: True and False where it is either, small numbers where it is one."""
    if name == "features":
        return value is None or isinstance(value, bool)
    if value is None:
        return default is None or name in ("classifier_activation", "final_norm", "head_width")
    if isinstance(default, bool) or name == "final_norm":
        return isinstance(value, bool)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return -20 < value < 20 and not isinstance(default, str | tuple)
    if name == "name":
        return isinstance(value, str) and value.strip() and "/" not in value
    if name == "mean":
        return isinstance(value, tuple) and value == (0, 0, 0)
    if name == "dense_widths":
        return isinstance(value, tuple | list | np.ndarray) and np.shape(value) in ((0,), (2,)) and "x" not in value
    return name in ("depths", "widths", "dense_widths") and isinstance(value, np.ndarray) and value.ndim == 1


def calls():
    for builder, small in BUILDERS.items():
        for name, parameter in inspect.signature(getattr(kresnet, builder)).parameters.items():
            for value in ODD:
                if not makes_sense(name, value, parameter.default):
                    yield builder, small | {"input_shape": (32, 32, 3), name: value}, name


def refusal(builder, arguments):
    """Returns what the builder says; None if it builds."""
    try:
        getattr(kresnet, builder)(**arguments)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def test_odd_arguments_are_refused_by_name():
    for builder, arguments, name in random.Random(0).sample(list(calls()), 1000):
        said = refusal(builder, arguments)
        assert said is not None, f"{builder}({name}={arguments[name]!r}) was built"
        assert name in said, f"{builder}({name}={arguments[name]!r}): {said}"
        assert "Received: " in said, f"{builder}({name}={arguments[name]!r}): {said}"


@pytest.mark.parametrize(
    ("builder", "arguments", "message"),
    [
        ("ResNet20", {"features": 1}, r"`features` must be None, True or a sequence .* Received: features=1"),
        ("ResNet20", {"features": ()}, r"Received: features=\(\)"),
        ("ResNet20", {"classes": 10**9}, r"at most 10000000\. Received: classes=1000000000"),
        ("ResNet20", {"depths": (3, 3, 10**6)}, r"integers in 1 to 1000 only\. Received: depths="),
        ("ResNet50", {"expansion": 1000}, r"at most 100000 channels, .* Received: expansion=1000"),
        ("ResNet20", {"phi": 20, "alpha": 9.0, "beta": 1.0, "gamma": 1.0}, r"at most 100 each\. Received: phi=20"),
        (
            "MobileNetV2",
            {"alpha": 0.5, "width_multiplier": 2.0},
            r"give one\. Received: width_multiplier=2\.0, alpha=0\.5",
        ),
        ("MobileNetV2", {"table": ((1, 8, 10**9, 1),)}, r"A row of `table` has at most .* Received: row=Row"),
    ],
)
@pytest.mark.filterwarnings("ignore:alpha")
def test_numbers_that_are_slips(builder, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(kresnet, builder)(**arguments)


def test_numpy_s_numbers_are_numbers():
    """They pass, and the network can still tell what it is in JSON."""
    numbers = {"drop_path_rate": np.float32(0.5), "se_reduction": np.int64(4), "epsilon": np.float64(1e-3)}
    model = kresnet.ResNet20(**SMALL, input_shape=(32, 32, 3), **numbers)
    assert model.kresnet_config["changes"]["drop_path_rate"] == 0.5
    assert type(model.kresnet_config["spec"]["se_reduction"]) is int
