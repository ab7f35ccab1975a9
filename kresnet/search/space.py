"""What a search may choose: options for fields of a network's spec, any combination of which that makes sense."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.models import registry
from kresnet.models.scaling import make_divisible

Point = dict[str, Any]  # by the name of a choice, the option's label: None, a truth value, a number or text
Builder = Callable[..., keras.Model]
DRAWS = 2000  # refused in a row, after which nothing is left to be drawn
PATIENCE = 100  # refused in a row, after which a strategy that keeps choosing what was tried draws at random
_PATH = re.compile(r"([a-z_]\w*)(?:\[(\d+)\](?:\.(\w+))?)?")


class Exhausted(ValueError):
    """There is nothing left to be drawn."""


@dataclasses.dataclass(frozen=True)
class Space:
    """Networks that differ in some fields of a spec.

    A point of the space that makes no sense, such as 32 groups of 48 channels, is never drawn: of those that the
    network's spec refuses none is built.

    Attributes:
        network: the registry key of the network that is changed, or its builder; or any function that takes the choices
            as keyword arguments and returns a model.
        choices: by the place, the options for it. A place is a field of the spec ("stem"), an element of one
            ("depths[2]") or, in a table of rows, a column of a row ("table[3].k", the fourth stage's kernel). Options
            are values; or a mapping from labels to fields that are set together, and then the place is any name:
            `{"block": {"basic": {"expansion": 1}, "bottleneck": {"expansion": 4}}}`.
        fixed: other fields that are changed, in all networks alike, such as `{"stem_width": 16}`.
        valid: what else must hold of a point.

    Raises:
        ValueError: if there is no such network or place, or a choice has no options or the same one twice.
    """

    network: str | Builder
    choices: Mapping[str, Sequence[Any] | Mapping[str, Mapping[str, Any]]]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    valid: Callable[[Point], bool] | None = None

    def __post_init__(self) -> None:
        checks.require(
            isinstance(self.choices, Mapping) and len(self.choices) > 0,
            "`choices` must map places in the network's spec to options",
            choices=self.choices,
        )
        for place, options in self.choices.items():
            ok = isinstance(options, Mapping | Sequence) and not isinstance(options, str) and len(options) > 0
            checks.require(ok, f"`choices` must have options for {place!r}", options=options)
            labels = [_label(option) for option in options]
            checks.require(len({*map(repr, labels)}) == len(labels), f"{place!r} has an option twice", options=labels)
            self._check_place(place, options)

    def _check_place(self, place: str, options: Any) -> None:
        if self.base is None:
            return
        own = {field.name for field in dataclasses.fields(self.base)}
        names = {name for option in options.values() for name in option} if isinstance(options, Mapping) else {place}
        for name in names:
            match = _PATH.fullmatch(name)
            field, index, column = match.groups() if match else (name, None, None)
            hint = checks.closest(field, own)
            checks.require(field in own, f"{type(self.base).__name__} has no field {field!r}.{hint}", place=name)
            value = getattr(self.base, field)
            fits = index is None or (isinstance(value, tuple) and int(index) < len(value))
            columns = getattr(value[int(index)], "_fields", ()) if fits and column else (column,)
            checks.require(fits and column in columns, "There is no such place in the spec", place=name, field=value)

    @functools.cached_property
    def builder(self) -> Builder:
        """The function that builds the network."""
        return registry.get_builder(self.network) if isinstance(self.network, str) else self.network

    @functools.cached_property
    def base(self) -> Any:
        """The spec that the choices change, with the fixed fields; None of a function that has none."""
        spec = getattr(self.builder, "spec", None)
        return None if spec is None else dataclasses.replace(spec, **self.fixed)

    @functools.cached_property
    def labels(self) -> dict[str, tuple[Any, ...]]:
        """The options' labels by the choice, as points have them."""
        return {name: tuple(_label(option) for option in options) for name, options in self.choices.items()}

    @property
    def size(self) -> int:
        """The number of points, those included that make no sense."""
        return math.prod(map(len, self.choices.values()))

    def fields(self, point: Point) -> dict[str, Any]:
        """Returns the builder's arguments at a point.

        Raises:
            ValueError: if the point has other choices than the space, or an option that is none.
        """
        checks.require(set(point) == set(self.choices), "A point has an option for each choice", point=point)
        fields: dict[str, Any] = {}
        for name, options in self.choices.items():
            label = checks.choice(name, point[name], self.labels[name])
            number = [*map(repr, self.labels[name])].index(repr(label))  # 1 is not True here
            changes = [*options.values()][number] if isinstance(options, Mapping) else {name: options[number]}
            for place, change in changes.items():
                _put(fields, self.base, place, change)
        return {**self.fixed, **fields}

    def spec(self, point: Point) -> Any:
        """Returns the spec at a point; None where there are none.

        Raises:
            ValueError: if the point makes no sense; the spec says why.
        """
        checks.require(self.valid is None or self.valid(point), "The space excludes this point", **point)
        fields = self.fields(point)
        return None if self.base is None else dataclasses.replace(self.base, **fields)

    def changes(self, point: Point) -> dict[str, Any]:
        """Returns the fields in which the network at a point differs from the published one of its key.

        They are more than `fields` where the space's own network is a change already, such as a search's `best`.
        """
        own, published = self.spec(point), registry.get_builder(self.builder.key).spec
        names = [field.name for field in dataclasses.fields(own)]
        return {name: getattr(own, name) for name in names if getattr(own, name) != getattr(published, name)}

    def holds(self, point: Point) -> bool:
        """Tells whether a point makes sense."""
        try:
            self.spec(point)
        except ValueError:
            return False
        return True

    def build(self, point: Point, **arguments: Any) -> keras.Model:
        """Builds the network at a point; the arguments are further ones of the builder."""
        self.spec(point)
        return self.builder(**self.fields(point), **arguments)

    def sample(self, generator: np.random.Generator, allowed: Callable[[Point], bool] | None = None) -> Point:
        """Draws a point, each that makes sense (and is allowed) with the same probability.

        Raises:
            Exhausted: if 2000 in a row did not.
        """
        labels = self.labels
        for _ in range(DRAWS):
            point = {name: options[generator.integers(len(options))] for name, options in labels.items()}
            if self.holds(point) and (allowed is None or allowed(point)):
                return point
        raise Exhausted(f"None of {DRAWS} points that were drawn is valid and allowed. Received: choices={labels}")

    def mutated(
        self, point: Point, generator: np.random.Generator, allowed: Callable[[Point], bool] | None = None
    ) -> Point:
        """Returns a point that differs in one choice; in two or more, where none with one makes sense or is allowed."""
        labels = {name: options for name, options in self.labels.items() if len(options) > 1}
        checks.require(len(labels) > 0, "There is nothing to choose", choices=self.labels)
        for draw in range(DRAWS):
            changes = min(len(labels), 1 + draw // 50)
            new = dict(point)
            for name in generator.choice([*labels], changes, replace=False):
                others = [label for label in labels[name] if label != point[name]]
                new[str(name)] = others[generator.integers(len(others))]
            if self.holds(new) and (allowed is None or allowed(new)):
                return new
        raise Exhausted(f"No neighbour in {DRAWS} draws is valid and allowed. Received: point={point}")

    def every(self) -> Iterator[Point]:
        """Yields all points that make sense."""
        labels = self.labels
        points = (dict(zip(labels, options, strict=True)) for options in itertools.product(*labels.values()))
        return filter(self.holds, points)


def _label(option: Any) -> Any:
    return option if option is None or isinstance(option, bool | int | float | str) else str(option)


def _put(fields: dict[str, Any], base: Any, place: str, value: Any) -> None:
    """Sets what a place means in the fields."""
    match = _PATH.fullmatch(place)
    name, index, column = match.groups() if match else (place, None, None)
    if index is not None:
        whole = list(fields.get(name, getattr(base, name)))
        whole[int(index)] = whole[int(index)]._replace(**{column: value}) if column else value
        value = tuple(whole)
    fields[name] = value


def mobile(
    network: str = "mobilenetv2_100",
    *,
    kernels: Sequence[int] = (3, 5),
    expansions: Sequence[float] = (3, 6),
    squeezes: Sequence[float] = (0.0, 0.25),
    depths: Sequence[int] = (-1, 0, 1),
    widths: Sequence[float] = (0.75, 1.0, 1.25),
    **fixed: Any,
) -> Space:
    """The factorized space of inverted residuals: in each stage its own kernel, expansion, squeeze, depth and width.

    MnasNet's convolutions and pooled shortcuts, which no published network of the search has, are left out.

    Args:
        network: the registry key of a network of inverted residuals; its table gives the stages and their strides.
        kernels: sides in pixels of a stage's depthwise kernels.
        expansions: t; a stage without expansion in the network keeps none.
        squeezes: widths of squeeze-and-excitation as fractions of the block's input; 0: there is none.
        depths: blocks more or less than the network has; at least one is left.
        widths: factors of the network's channels, to multiples of 8.
        **fixed: other fields of the spec, such as `table` and `stem_width` for small images.

    Source: Tan et al. 2019, arXiv:1807.11626, section 4.1.
    """
    rows = dataclasses.replace(registry.get_builder(network).spec, **fixed).table
    choices: dict[str, Sequence[Any]] = {}
    for i, row in enumerate(rows):
        choices[f"table[{i}].k"] = kernels
        choices[f"table[{i}].t"] = expansions if row.expansion(0) > 1 else (row.t,)
        choices[f"table[{i}].se"] = squeezes
        choices[f"table[{i}].n"] = [row.n + more for more in depths if row.n + more > 0]
        choices[f"table[{i}].c"] = [make_divisible(row.c * factor) for factor in widths]
    return Space(network, _distinct(choices), fixed)


def residual(
    network: str = "resnet26",
    *,
    depths: Sequence[int] = (-1, 0, 1),
    widths: Sequence[float] = (0.75, 1.0, 1.25),
    expansions: Sequence[int] = (1, 4),
    groups: Sequence[int] = (1, 8, 32),
    squeezes: Sequence[int | None] = (None, 16),
    stems: Sequence[str] | None = None,
    **fixed: Any,
) -> Space:
    """The space of residual networks: each stage's depth and width; the blocks, their groups and squeeze; the stem.

    Args:
        network: the registry key of a residual network.
        depths: blocks more or less than the network has in a stage; at least one is left.
        widths: factors of a stage's channels, to multiples of 8.
        expansions: 1: basic blocks; more: bottlenecks.
        groups: of a bottleneck's 3x3, which must divide its channels; basic blocks have 1.
        squeezes: ratios of squeeze-and-excitation; None: there is none.
        stems: such as "conv7" and "deep". Default: these two, or "conv3" alone where the network has it.
        **fixed: other fields of the spec.

    Source: Radosavovic et al. 2020, arXiv:2003.13678, table 1, for the choices of a stage.
    """
    spec = dataclasses.replace(registry.get_builder(network).spec, **fixed)
    if stems is None:
        stems = ("conv3",) if spec.stem == "conv3" else ("conv7", "deep")
    choices: dict[str, Sequence[Any]] = {"stem": stems, "expansion": expansions, "groups": groups}
    choices["se_reduction"] = squeezes
    for i, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
        choices[f"depths[{i}]"] = [depth + more for more in depths if depth + more > 0]
        choices[f"widths[{i}]"] = [make_divisible(width * factor) for factor in widths]
    return Space(network, _distinct(choices), fixed)


def _distinct(choices: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Returns the choices without options that rounding has made alike."""
    return {name: list(dict.fromkeys(options)) for name, options in choices.items()}


SPACES = {"mobile": mobile, "residual": residual}
