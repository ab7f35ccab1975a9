"""Searches for networks: in a space of their fields, for compound scaling's coefficients, and by comparison."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kresnet.search.attempts import Attempt
    from kresnet.search.goals import Goal, front
    from kresnet.search.journal import Trial
    from kresnet.search.layer_times import LatencyTable, latency_table
    from kresnet.search.searching import Budget, Found, run
    from kresnet.search.space import Space, mobile, residual

# Public names, and the module that each is in: a space needs no exporter, and a comparison no Optuna.
_PLACES = {
    "Attempt": "attempts",
    "Budget": "searching",
    "Found": "searching",
    "Goal": "goals",
    "LatencyTable": "layer_times",
    "Space": "space",
    "Trial": "journal",
    "front": "goals",
    "latency_table": "layer_times",
    "mobile": "space",
    "residual": "space",
    "run": "searching",
}

__all__ = [
    "Attempt",
    "Budget",
    "Found",
    "Goal",
    "LatencyTable",
    "Space",
    "Trial",
    "front",
    "latency_table",
    "mobile",
    "residual",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"kresnet.search.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'kresnet.search' has no attribute {name!r}")
