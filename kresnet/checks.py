"""Argument checks: every refused value is a ValueError that names the argument and ends in "Received: ..."."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Collection, Iterable
from typing import Any


def require(condition: bool, expectation: str, **received: Any) -> None:
    """Raises `ValueError("<expectation>. Received: name=value, ...")` unless `condition` holds."""
    if not condition:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"{expectation}. Received: {values}")


def integer(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int of at least `minimum`; NumPy integers pass, bools and floats do not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    ok = number is not None and not isinstance(value, bool) and number >= minimum
    require(ok, f"`{name}` must be an integer of at least {minimum}", **{name: value})
    return number


def integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple of positive ints, at least one of them."""
    ok = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    require(ok, f"`{name}` must be a sequence of positive integers", **{name: values})
    values = tuple(values)
    require(len(values) > 0, f"`{name}` must hold at least one integer", **{name: values})
    try:
        return tuple(integer(name, value) for value in values)
    except ValueError:
        raise ValueError(f"`{name}` must hold positive integers only. Received: {name}={values!r}") from None


def number(name: str, value: Any, low: float, high: float, expectation: str) -> float:
    """Returns `value` as a float in [low, high); `expectation` says in the error what it must be."""
    try:
        value_ok = not isinstance(value, bool | str) and low <= float(value) < high
    except (TypeError, ValueError):
        value_ok = False
    require(value_ok and math.isfinite(value), f"`{name}` must be {expectation}", **{name: value})
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """Returns `value` if it is True or False."""
    require(isinstance(value, bool), f"`{name}` must be True or False", **{name: value})
    return value


def choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Returns `value` if it is one of `choices`; the error names the closest of them."""
    if any(type(value) is type(option) and value == option for option in choices):  # 1 is not True here
        return value
    listed = ", ".join(repr(option) for option in choices)
    raise ValueError(f"`{name}` must be one of {listed}.{closest(value, choices)} Received: {name}={value!r}")


def closest(value: Any, choices: Iterable[Any]) -> str:
    """Returns " Did you mean ...?" with the choices that read like `value`, in whatever case; "" if there are none."""
    options = {str(option).lower(): str(option) for option in choices}
    matches = difflib.get_close_matches(str(value).lower(), options, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(options[match]) for match in matches)}?" if matches else ""
