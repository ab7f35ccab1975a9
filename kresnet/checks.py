"""Argument checks: every refused value is a ValueError that names the argument and ends in "Received: ..."."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any


def require(condition: bool, expectation: str, **received: Any) -> None:
    """Raises `ValueError("<expectation>. Received: name=value, ...")` unless `condition` holds."""
    if not condition:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        end = "" if expectation.endswith("?") else "."  # behind what `closest` asks
        raise ValueError(f"{expectation}{end} Received: {values}")


def integer(name: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Returns `value` as an int in [minimum, maximum]; NumPy integers pass, bools and floats do not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    ok = number is not None and not isinstance(value, bool) and minimum <= number
    most = "" if maximum is None else f" and at most {maximum}"
    ok = ok and (maximum is None or number <= maximum)
    require(ok, f"`{name}` must be an integer of at least {minimum}{most}", **{name: value})
    return number


def integers(name: str, values: Any, *, maximum: int | None = None) -> tuple[int, ...]:
    """Returns `values`, which have an order, as a tuple of ints in [1, maximum], at least one of them."""
    ok = isinstance(values, Iterable) and not isinstance(values, str | bytes | bytearray | Mapping | Set)
    require(ok, f"`{name}` must be a sequence of positive integers", **{name: values})
    values = tuple(values)
    require(len(values) > 0, f"`{name}` must hold at least one integer", **{name: values})
    try:
        return tuple(integer(name, value, maximum=maximum) for value in values)
    except ValueError:
        most = "positive integers only" if maximum is None else f"integers in 1 to {maximum} only"
        raise ValueError(f"`{name}` must hold {most}. Received: {name}={values!r}") from None


def number(name: str, value: Any, low: float, high: float, expectation: str) -> float:
    """Returns `value` as a float in [low, high); `expectation` says in the error what it must be."""
    ok = isinstance(value, numbers.Real) and not isinstance(value, bool) and low <= value < high
    require(ok and math.isfinite(value), f"`{name}` must be {expectation}", **{name: value})
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
