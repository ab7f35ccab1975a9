"""What the commands of `kresnet` do, with their options."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from kresnet import terminal


def list_networks(options: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from kresnet.models import catalogue
    from kresnet.papers import cited

    if options.pretrained:
        columns, rows = _weights(options.pattern)
    else:
        columns = ("key", "builder", "parameters", "GMACs", "pixels", "paper")
        rows = [
            (
                *(row["key"], f"kresnet.{row['builder']}", f"{int(row['parameters']):,}"),
                *(f"{int(row['macs']) / 1e9:.3f}", row["pixels"], cited(row["paper"])),
            )
            for row in catalogue.rows(options.pattern)
        ]
    if not rows:
        raise ValueError(f"No network matches. Received: pattern={options.pattern!r}")
    table = Table(box=box.SIMPLE)
    numbers = ("parameters", "GMACs", "pixels", "top-1", "crop")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _weights(pattern: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the columns and rows of networks' published weights; "imagenet" means the first of each."""
    from fnmatch import fnmatchcase

    from kresnet.models.catalogue import natural
    from kresnet.weights.pretrained import published

    rows = [
        (
            *(row.key, row.tag, f"{row.top1:.1f}" if row.top1 else "", str(row.size), f"{row.crop_fraction:.3f}"),
            *(row.licence, f"{row.source}: {row.name if '://' in row.place else row.place}"),
        )
        for row in sorted(published(), key=lambda row: natural(row.key))
        if fnmatchcase(row.key, pattern)
    ]
    return ("key", "weights", "top-1", "pixels", "crop", "licence", "source"), rows


def cost(options: argparse.Namespace) -> int:
    from rich.console import Console

    from kresnet.graph.cost import cost, without_weights
    from kresnet.models.registry import get_builder

    builder = get_builder(options.key)
    size = (options.input or builder.input_size,) * 2
    with without_weights():
        model = builder(input_shape=(*size, len(builder.spec.mean)))
    found = cost(model, batch_size=options.batch_size, dtype=options.dtype)
    if options.csv:
        found.to_csv(options.csv)
    Console(width=None if sys.stdout.isatty() else 160).print(found.table())
    print(found.summary())
    return 0


def compare(options: argparse.Namespace) -> int:
    if options.latency:
        os.environ["KERAS_BACKEND"] = "tensorflow"  # which exports
    from pathlib import Path

    from kresnet.search.compare import compare, write_csv

    rows = compare(options.patterns, options.out, weights=options.weights, latency=options.latency)
    if options.csv:
        write_csv(options.csv, rows)
    print(f"{len(rows)} networks in {options.out} and {Path(options.out).with_suffix('.png')}")
    return 0


def train(options: argparse.Namespace) -> int:
    from kresnet.training import hosts
    from kresnet.training.train import train

    settings = {name: value for name, value in vars(options).items() if name not in ("run", "set", "fields")}
    if not settings.get("resume") and not {"model", "data"} <= settings.keys():
        raise ValueError(f"`KEY` and `--data` are needed. Received: {', '.join(settings) or 'nothing'}")
    job = {name: settings.pop(name) for name in ("coordinator", "processes", "process_id") if name in settings}
    if job:
        hosts.join(**{"coordinator": None} | job)
    fields = {"model_fields": _fields(options.fields)} if options.fields else {}
    try:
        train(**settings, **fields, **_fields(options.set))
    except hosts.Lost as error:
        print(f"kresnet: {error}", file=sys.stderr)
        terminal.leave(2)  # JAX would wait for the lost process, and end with a page of C++
    if hosts.index() == 0:
        print(f"{options.out}/ holds best.keras, last.keras, history.csv, report.html, config.json, tensorboard/")
    return 0


def search(options: argparse.Namespace) -> int:
    from kresnet import checks
    from kresnet.search.goals import COSTS
    from kresnet.search.searching import Budget, run
    from kresnet.search.space import SPACES

    given = {name: value for name, value in vars(options).items() if name != "run"}
    checks.choice("space", given["space"], SPACES)
    network = [given.pop("network")] if "network" in given else []
    space = SPACES[given.pop("space")](*network, **_fields(given.pop("fields")))
    bounds = {name: given.pop(name) for name in COSTS if name in given}
    bounds = {"targets" if given.pop("soft") else "limits": bounds}
    budget = Budget(given.pop("trials", None), given.pop("hours", None))
    found = run(space, given.pop("data"), budget, **bounds, **given)
    print(
        f"{options.out}/ holds best/ (network {found.best.number}, accuracy {found.best.accuracy:.2%}), report.html, "
        f"trials.db; kresnet train {options.out}/best trains it"
    )
    return 0


def _fields(settings: Sequence[str]) -> dict[str, Any]:
    """Reads FIELD=VALUE."""
    fields = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"A field is set as FIELD=VALUE. Received: {setting!r}")
        fields[name.replace("-", "_")] = read_value(value)
    return fields


def read_value(text: str) -> Any:
    """A number, true, false, null or a list as in JSON; else the text itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def evaluate(options: argparse.Namespace) -> int:
    from kresnet.evaluation.evaluate import evaluate

    names = ("crops", "scales", "split", "batch_size", "image_size", "split_seed", "on_error")
    names += ("crop_fraction", "interpolation")
    found = evaluate(options.model, options.data, **{name: getattr(options, name) for name in names})
    if options.csv:
        found.to_csv(options.csv)
    print(found.summary())
    return 0


def predict(options: argparse.Namespace) -> int:
    from kresnet.data import folders
    from kresnet.inference.predictors import predict, write_csv
    from kresnet.progress import track

    files = folders.expanded(options.images)
    names = ("crop_fraction", "interpolation", "on_error", "top")
    found = predict(options.model, files, **{name: getattr(options, name) for name in names})
    if options.csv:
        found = track(found, "Predicting", total=len(files))
        print(f"{write_csv(options.csv, found)} images in {options.csv}")
        return 0
    for file, classes in found:
        print(file)
        for name, probability in classes:
            print(f"  {probability:7.2%}  {name}")
    return 0


def export(options: argparse.Namespace) -> int:
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the network was trained on
    from pathlib import Path

    from kresnet.data.loading import load
    from kresnet.deploy import proof
    from kresnet.deploy.export import export
    from kresnet.inference import preprocessing
    from kresnet.inference.predictors import held_out_by, predictor

    found = predictor(options.model)
    if found.model is None:
        raise ValueError(f"Only a run or a .keras is exported. Received: model={options.model!r}")
    names = ("quantize", "io", "batch_size", "tolerance", "agreement")
    settings = {name: getattr(options, name) for name in names if hasattr(options, name)}
    if options.data:
        size = found.image_shape[0]
        if size is None:
            raise ValueError(f"`--data` is for networks of a fixed size. Received: input_shape={found.image_shape}")
        wanted = preprocessing.wanted([found], size) | {"grey": found.image_shape[2] == 1}
        if split_seed := held_out_by(options.model):
            wanted["split_seed"] = split_seed
        settings["verify"] = load(options.data, "validation", size, **wanted)
        if options.quantize == "int8" and not options.quantize_aware:
            settings["calibration"] = load(options.data, "train", size, drop_remainder=False, **wanted)
    model = _quantize_aware(options) if options.quantize_aware or options.epochs else found.model
    labels = Path(options.labels).read_text().splitlines() if options.labels else found.class_names
    path = export(model, options.out, labels=labels, **settings)
    print(proof.summary(json.loads(preprocessing.description_of(path).read_text())["proof"]))
    print(f"wrote {path} and {preprocessing.description_of(path)}")
    return 0


def _quantize_aware(options: argparse.Namespace) -> Any:
    from kresnet.training import quantized

    if not options.quantize_aware or options.quantize != "int8" or not options.data:
        raise ValueError(
            "Training with int8's rounding needs `--quantize int8 --quantize-aware --data SOURCE`. Received: "
            f"--quantize {options.quantize} --data {options.data}"
        )
    out = f"{os.path.splitext(options.out)[0]}-aware"
    model = quantized.tune(options.model, options.data, out=out, epochs=options.epochs or quantized.EPOCHS)
    print(f"{out}/ holds the network that computes with int8's rounding")
    return model


def check_data(options: argparse.Namespace) -> int:
    from PIL import Image

    from kresnet.data.check import check

    Image.MAX_IMAGE_PIXELS = None  # ours is the limit, and comes first
    found = check(options.folder, options.pixel_limit)
    lines = [f"error: {line}" for line in found.errors] + [f"warning: {line}" for line in found.warnings]
    print(*lines, *found.summary(), sep="\n")
    return 1 if found.errors else 0


def pack_data(options: argparse.Namespace) -> int:
    from kresnet.data.pack import pack

    print(f"wrote {pack(options.folder, options.out)}")
    return 0


def demo(options: argparse.Namespace) -> int:
    from kresnet.inference.demo import serve

    names = ("labels", "port", "threads", "crop_fraction", "interpolation", "open_browser")
    serve(options.file, **{name: getattr(options, name) for name in names})
    return 0
