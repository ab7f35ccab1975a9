"""Published weights for a network: which ones are meant, and that its spec is theirs."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.models import architectures
from kresnet.models.family import Spec
from kresnet.weights import entries, keras_applications, pretrained
from kresnet.weights.pretrained import Checkpoint


def checkpoint(key: str, weights: Any, origin: str | None, spec: Spec) -> Checkpoint:
    """Returns the checkpoint that `weights` means, with all that is known of it.

    Args:
        key: of the network.
        weights: the name of published weights, the path of a file, or a `Checkpoint`.
        origin: of a file, what it is of: a timm architecture, or "architecture.tag".
        spec: the network's.

    Raises:
        ValueError: if there are no such weights, or `origin` is unknown.
    """
    named = weights.source if isinstance(weights, Checkpoint) else weights if pretrained.is_name(weights) else None
    checks.require(
        named is None or origin is None,
        "`weights_origin` is for files: these weights say themselves what they are of",
        weights=named,
        weights_origin=origin,
    )
    if isinstance(weights, Checkpoint):
        return weights
    if named is not None:
        return pretrained.by_name(key, weights)
    checks.require(
        isinstance(weights, str | os.PathLike),
        "`weights` must be None, the name of published weights, or the path of a file",
        weights=weights,
    )
    file = entries.checked(weights)
    found = _described(key, file, origin)
    if found is None:
        found = Checkpoint.of_file(file)
        if entries.of_pytorch(file):
            _warn_of_others(file, spec)
    # A row of the table says what its file is, and not where this one lies.
    return dataclasses.replace(found, source=str(weights), file=lambda: file, head="kept")


def _described(key: str, file: Path, origin: str | None) -> Checkpoint | None:
    """Returns what is said of a file: by `origin`, by the file itself, by a `config.json` beside it, by its name."""
    make = functools.partial(Checkpoint.of_file, file)
    if origin is not None:
        checks.require(isinstance(origin, str), "`weights_origin` must be text", weights_origin=origin)
        architecture, _, tag = origin.partition(".")
        checks.require(
            architecture in architectures.known(),
            f"`weights_origin` must be a timm architecture.{checks.closest(architecture, architectures.known())}",
            weights_origin=origin,
        )
        rows = [row for row in pretrained.published() if row.name == origin]
        checks.require(rows or not tag, f"There are no known weights of {architecture} with that tag", tag=tag)
        return rows[0].checkpoint() if rows else make(architecture=architecture)
    told = entries.metadata(file)
    if "spec" in told:
        facts = pretrained.facts(*(told.get(name) for name in ("crop_fraction", "interpolation", "licence")))
        return make(spec=told["spec"], facts=facts, architecture=told.get("key"), labels=told.get("labels") or ())
    if not entries.of_pytorch(file):
        fields = keras_applications.fields(entries.layers(file))
        return fields and make(fields=fields)
    beside = file.with_name("config.json")
    if beside.is_file():
        try:
            return pretrained.described(json.loads(beside.read_text()), make)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError):
            return None  # some other program's
    rows = [row for row in pretrained.published(key) if row.name == file.name]
    return rows[0].checkpoint() if rows else None


def _warn_of_others(file: Path, spec: Spec) -> None:
    """Warns if published networks that compute something else have the names and shapes of a network of that spec."""
    alike = {name: other for name, other in architectures.known().items() if not _apart(spec, other)}
    others = [name for name, other in alike.items() if _settings(spec, other)]
    if others:
        own = [name for name in alike if name not in others]
        warnings.warn(
            f"{file.name} does not say what it is of, and is taken for {own[0] if own else 'this very network'}. "
            f"{', '.join(others)} have the same names and shapes and compute something else: if it is of one of "
            f"these, say so by `weights_origin={others[0]!r}`.",
            stacklevel=5,
        )


def _apart(spec: Spec, other: Spec) -> list[str]:
    """Returns the fields that make two networks' checkpoints differ in names or shapes."""
    if type(spec) is not type(other):
        return ["family"]
    passed = {*spec.settings, *spec.free}
    return [name for name in vars(spec) if name not in passed and getattr(spec, name) != getattr(other, name)]


def _settings(spec: Spec, other: Spec) -> dict[str, Any]:
    """Returns another's values of the fields in which a spec computes otherwise with the same weights.

    Mean and deviation are the checkpoint's to say, and not the architecture's.
    """
    names = [name for name in spec.settings if name not in ("mean", "std")]
    return {name: getattr(other, name) for name in names if getattr(spec, name) != getattr(other, name)}


def fitted(spec: Spec, given: Mapping[str, Any], found: Checkpoint) -> Spec:
    """Returns a network's spec with the fields that a checkpoint needs.

    Args:
        spec: the network's.
        given: those of its fields that the caller gave.
        found: the checkpoint.

    Raises:
        ValueError: if the checkpoint is of another network, or a given field contradicts it.
    """
    fields, target = {name: _plain(value) for name, value in found.fields.items()}, None
    unknown = (fields | dict(found.spec or {})).keys() - vars(spec).keys()
    checks.require(
        not unknown,
        f"The weights are another family's, or a newer kresnet's, whose networks have {sorted(unknown)[:3]}",
        weights=found.source,
    )
    if found.spec is not None:
        # A field that an older file does not have has its default, which changes nothing.
        target = type(spec)(**{name: _plain(value) for name, value in found.spec.items()})
        fields = {"mean": target.mean, "std": target.std}
    elif found.architecture is not None:
        known = architectures.known()
        checks.require(
            found.architecture in known,
            "No network here is known to compute what these weights were trained for."
            f"{checks.closest(found.architecture, known)}",
            architecture=found.architecture,
            weights=found.source,
        )
        target = known[found.architecture]
    if target is not None:
        apart = _apart(spec, target)
        cure = f"`kresnet.create_model({found.architecture!r}, weights=...)` builds it"
        if found.spec is not None:  # perhaps one that nobody has named
            cure = f"it is built with {_named({name: getattr(target, name) for name in apart})}"
        checks.require(
            not apart,
            f"The weights are another network's, which differs in {', '.join(f'`{name}`' for name in apart)}: {cure}",
            weights=found.source,
        )
        fields = _settings(spec, target) | fields
    wrong = {name: value for name, value in fields.items() if name in given and getattr(spec, name) != value}
    checks.require(
        not wrong,
        f"The weights need {_named(wrong)}",
        **{name: given[name] for name in wrong},
        weights=found.source,
    )
    try:
        return dataclasses.replace(spec, **fields)
    except ValueError as error:
        reason = str(error).partition(" Received: ")[0]
        raise ValueError(
            f"The weights are another network's, which differs in {_named(fields)}, and this one cannot: {reason} "
            f"Received: weights={found.source!r}"
        ) from error


def _named(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value
