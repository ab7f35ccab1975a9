"""What a network costs, without training it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.graph.cost import cost, without_weights
from kresnet.search.goals import COSTS, Goal
from kresnet.search.layer_times import WHOLES, LatencyTable
from kresnet.search.space import Point, Space

LATENCIES = ("table", "file")


class Meter:
    """Counts and times the networks of a space, each once.

    Args:
        space: what they are of.
        shape: (height, width, channels) of their images.
        classes: that they tell apart.
        goal: whose limits count; latency is taken only where it has to do with it.
        table: times layers.
        latency: "table": what the layers of a network take is added up; "file": it is exported and run as a whole.
    """

    def __init__(
        self, space: Space, shape: Sequence[int], classes: int, goal: Goal, table: LatencyTable | None, latency: str
    ):
        checks.choice("latency", latency, LATENCIES)
        self.space, self.goal, self.table, self.latency = space, goal, table, latency
        self.arguments = {"input_shape": tuple(shape), "classes": classes}
        self._known: dict[str, dict[str, float]] = {}

    def costs(self, point: Point) -> dict[str, float]:
        """Returns multiply-adds and bytes of activations at the peak for one image, parameters, and milliseconds."""
        return self._costs(point, lambda counted: True)

    def allows(self, point: Point) -> bool:
        """Tells whether a network is within the limits. One that is too large already is not timed."""
        if not self.goal.limits:
            return True
        counts = [name for name in self.goal.limits if name != "latency_ms"]

        def fits(found: dict[str, float]) -> bool:
            return all(found[name] <= self.goal.limits[name] for name in counts)

        found = self._costs(point, fits)
        return fits(found) and self.goal.allows(found)

    def _costs(self, point: Point, timed: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        found = self._known.setdefault(repr(point), {})
        if not found:
            found |= counted(self._weightless(point))
        if self.table is not None and "latency_ms" not in found and timed(found):
            found["latency_ms"] = self._milliseconds(point)
        return found

    def _milliseconds(self, point: Point) -> float:
        if self.latency == "file":
            return self.table.measured(self._weightless(point))
        # Always of the same networks: whatever was asked for before, and is again after a kill, costs the same.
        generator = np.random.default_rng(0)
        self.table.calibrate(self._weightless(self.space.sample(generator)) for _ in range(WHOLES))
        return self.table.milliseconds(self._weightless(point))

    def _weightless(self, point: Point) -> keras.Model:
        with without_weights():
            return self.space.build(point, **self.arguments)


def counted(model: Any) -> dict[str, float]:
    """Returns those of `COSTS` that need no clock."""
    found = cost(model)
    counts = {"macs": found.macs, "parameters": found.params, "peak_bytes": found.peak_bytes}
    return {name: counts[name] for name in COSTS if name in counts}
