"""The command `kresnet`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

import kresnet
from kresnet import actions, terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: the process's own) and returns its exit status.

    As the process's own command, it keeps the start-up lines of TensorFlow off the standard error.
    """
    parser = argparse.ArgumentParser("kresnet", description="Convolutional networks for Keras.")
    parser.add_argument("--version", action="version", version=f"kresnet {kresnet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="list the networks", description="List the networks.")
    command.add_argument("pattern", nargs="?", default="*", help="only keys that match, such as 'resnet*d'")
    command.add_argument("--pretrained", action="store_true", help="list published weights instead")
    command.set_defaults(run=actions.list_networks)
    command = commands.add_parser("cost", help="what a network costs", description="MACs, parameters, memory by layer.")
    command.add_argument("key", help="one of `kresnet list`")
    command.add_argument("--input", type=int, metavar="PIXELS", help="height and width (default: as published)")
    command.add_argument("--batch-size", type=int, default=1, metavar="IMAGES", help="for the memory (default: 1)")
    command.add_argument("--dtype", default="float32", help="for the memory, such as bfloat16 (default: float32)")
    command.add_argument("--csv", metavar="FILE", help="write the table to a CSV file as well")
    command.set_defaults(run=actions.cost)
    command = commands.add_parser(
        "compare",
        help="accuracy against cost, drawn",
        description="Draw published accuracy against multiply-adds, circles by parameters.",
    )
    command.add_argument("patterns", nargs="+", metavar="PATTERN", help="keys, or patterns such as 'resnet*d'")
    command.add_argument(
        "--weights", default="imagenet", metavar="TAG", help="a tag, or a pattern of tags (default: the recommended)"
    )
    command.add_argument("--latency", action="store_true", help="export each network, and time it on this machine")
    command.add_argument("--out", default="compare.html", metavar="FILE", help="(default: compare.html, compare.png)")
    command.add_argument("--csv", metavar="FILE", help="write the numbers to a CSV file as well")
    command.set_defaults(run=actions.compare)
    _train_arguments(commands)
    _search_arguments(commands)
    command = commands.add_parser("evaluate", help="measure accuracy", description="Measure top-1, top-5 and loss.")
    command.add_argument(
        "model", nargs="+", help="a run, .keras, .tflite, .onnx or SavedModel; several are an ensemble"
    )
    command.add_argument("--data", required=True, metavar="SOURCE", help="a folder, tfds:NAME, or digits")
    command.add_argument("--crops", default="center", help="center (default), ten or full")
    command.add_argument("--scales", type=int, nargs="+", default=(), metavar="PIXELS", help="for --crops full")
    command.add_argument("--split", default="validation", help="(default: validation)")
    command.add_argument("--batch-size", type=int, default=32, metavar="IMAGES")
    command.add_argument("--image-size", type=int, metavar="PIXELS", help="for a network of open size")
    _preprocessing_arguments(command)
    command.add_argument("--split-seed", type=int, help="of what is held out (default: the run's own, else 0)")
    command.add_argument("--on-error", default="raise", help="for a broken image: raise (default) or skip")
    command.add_argument("--csv", metavar="FILE", help="write each image's classes and probabilities there")
    command.set_defaults(run=actions.evaluate)
    command = commands.add_parser("predict", help="classify images", description="Classify images.")
    command.add_argument("model", help="a run, .keras, .tflite, .onnx or SavedModel")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files, and folders of files")
    command.add_argument("--top", type=int, default=5, metavar="K", help="classes to show (default: 5)")
    command.add_argument("--csv", metavar="FILE", help="write each image's class and probability there instead")
    command.add_argument("--on-error", default="raise", help="for a broken image: raise (default) or skip")
    _preprocessing_arguments(command)
    command.set_defaults(run=actions.predict)
    _export_arguments(commands)
    command = commands.add_parser(
        "check-data",
        help="find what is wrong with images",
        description="Decode every image of a folder, and count them.",
    )
    command.add_argument("folder", metavar="DIR", help="one subfolder a class, or train/ and validation/ of such")
    command.add_argument(
        "--pixel-limit", type=int, default=100_000_000, metavar="PIXELS", help="(default: 100 million)"
    )
    command.set_defaults(run=actions.check_data)
    _data_arguments(commands)
    command = commands.add_parser("demo", help="a page to try a .tflite", description="A page that runs a .tflite.")
    command.add_argument("file", help="the .tflite")
    command.add_argument("--labels", metavar="FILE", help="one class a line (default: those inside the .tflite)")
    command.add_argument("--port", type=int, default=8000, help="of 127.0.0.1; 0: any that is free (default: 8000)")
    command.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    _preprocessing_arguments(command)
    command.add_argument("--open", action="store_true", dest="open_browser", help="open the page in the browser")
    command.set_defaults(run=actions.demo)
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # the name of a file need not be text
        stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings and errors, but no news
    quiet = terminal.without_start_up_lines() if arguments is None else contextlib.nullcontext()
    try:
        with quiet, terminal.plain_warnings():
            return options.run(options)
    except (ValueError, ImportError, OSError) as error:
        print(f"kresnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        number = getattr(error, "signal", signal.SIGINT)
        print(f"kresnet: {error}" if str(error) else "kresnet: interrupted", file=sys.stderr)
        return 128 + number


def _data_arguments(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("data", help="pack images for slow disks", description="Folders of images.")
    command = command.add_subparsers(required=True, metavar="WHAT").add_parser(
        "pack",
        help="a folder into TFRecords",
        description="Pack a folder of images into TFRecords, of which a network is trained as of the folder.",
    )
    command.add_argument("folder", metavar="DIR", help="one subfolder a class, or train/ and validation/ of such")
    command.add_argument("--out", metavar="DIR", help="(default: the folder's name and -packed)")
    command.set_defaults(run=actions.pack_data)


def _preprocessing_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--crop-fraction",
        type=float,
        metavar="SHARE",
        help="side of the central crop, of the image's shorter side (default: what the network wants, else 0.875)",
    )
    command.add_argument(
        "--interpolation",
        metavar="NAME",
        help="of Pillow, for whole images: bilinear or bicubic (default: what the network wants, else as in training)",
    )


def _train_arguments(commands: argparse._SubParsersAction) -> None:
    # What is not given is left to `train`, or to the run that goes on.
    command = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network by a paper's recipe.",
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument("model", nargs="?", metavar="KEY", help="one of `kresnet list`, or a search's `best`")
    command.add_argument("--data", metavar="SOURCE", help="a folder, tfds:NAME, or digits")
    command.add_argument("--recipe", help="such as bag-of-tricks (default: quick)")
    command.add_argument("--out", required=True, metavar="DIR", help="the run's folder")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out, by its own options")
    command.add_argument("--overwrite", action="store_true", help="remove the run in --out first")
    command.add_argument("--checkpoint-every", metavar="TIME", help="epoch (default), '500 steps' or '10 minutes'")
    for name, kind in (("epochs", float), ("batch-size", int), ("learning-rate", float), ("image-size", int)):
        command.add_argument(f"--{name}", type=kind, help="instead of the recipe's")
    command.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=VALUE", help="any other fields, such as mixup=0.2"
    )
    command.add_argument(
        "--model", nargs="+", default=[], dest="fields", metavar="FIELD=VALUE", help="fields of the network's spec"
    )
    command.add_argument("--weights", metavar="NAME", help="to start from: imagenet, a tag, hf://..., or a file")
    command.add_argument("--freeze", metavar="PART", help="the last part that stays: stem, ..., head")
    command.add_argument("--freeze-epochs", type=int, metavar="N", help="for how long (default: all epochs)")
    command.add_argument("--layer-decay", type=float, metavar="FACTOR", help="of rates, block by block (default: 1)")
    command.add_argument("--class-weight", metavar="KIND", help="balanced: each class counts alike")
    command.add_argument("--patience", type=int, metavar="N", help="end after N epochs without a better accuracy")
    command.add_argument("--precision", help="float32, mixed_bfloat16 or mixed_float16")
    command.add_argument("--seed", type=int, help="of weights, order and augmentation (default: 0)")
    command.add_argument("--split-seed", type=int, help="of what is held out (default: 0)")
    command.add_argument("--deterministic", action="store_true", help="the same seed gives the same weights")
    command.add_argument("--on-error", help="for a broken image: raise (default) or skip")
    command.add_argument(
        "--devices", type=actions.read_value, metavar="N", help="of this machine; auto: all (default: 1)"
    )
    command.add_argument("--remat", action="store_true", help="less memory for more time: blocks are computed twice")
    command.add_argument("--sync-batch-norm", action="store_true", help="statistics of all devices' images")
    command.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of the first of several processes, under JAX; auto: as SLURM or Open MPI have it",
    )
    command.add_argument("--processes", type=int, metavar="N", help="how many there are")
    command.add_argument("--process-id", type=int, metavar="I", help="the number of this one, from 0")
    command.set_defaults(run=actions.train)


def _search_arguments(commands: argparse._SubParsersAction) -> None:
    # What is not given is left to `search.run`.
    command = commands.add_parser(
        "search",
        help="search for a network",
        description="Search for the network with the most accuracy within a phone's budget.",
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument("--space", required=True, help="mobile or residual")
    command.add_argument("--network", metavar="KEY", help="whose stages are changed (default: the space's)")
    command.add_argument(
        "--model", nargs="+", default=[], dest="fields", metavar="FIELD=VALUE", help="fields that all networks have"
    )
    command.add_argument("--data", required=True, metavar="SOURCE", help="a folder, tfds:NAME, or digits")
    command.add_argument("--out", required=True, metavar="DIR", help="the search's folder")
    command.add_argument("--hours", type=float, help="how long to search")
    command.add_argument("--trials", type=int, metavar="N", help="how many networks to try, of all processes together")
    command.add_argument("--strategy", help="evolution (default), controller, random, tpe or nsga2")
    command.add_argument("--latency-ms", type=float, help="most milliseconds for an image, as a .tflite on one thread")
    for name, what in (("macs", "multiply-adds"), ("parameters", "parameters"), ("peak-bytes", "bytes of activations")):
        command.add_argument(f"--{name}", type=float, metavar="N", help=f"most {what}")
    command.add_argument(
        "--soft", action="store_true", default=False, help="these are targets of the reward, which may be exceeded"
    )
    command.add_argument("--quantize", help="of the file that is timed: int8 (default: float32)")
    command.add_argument(
        "--latency", metavar="HOW", help="table (default): by layers; file: of each network as a whole"
    )
    command.add_argument("--recipe", help="such as bag-of-tricks (default: quick)")
    for name, kind in (("epochs", int), ("batch-size", int), ("learning-rate", float), ("image-size", int)):
        command.add_argument(f"--{name}", type=kind, help="of a network's training")
    command.add_argument(
        "--reduction", type=int, metavar="N", help="one in N networks trains on, rung by rung (default: 3)"
    )
    command.add_argument("--no-inherit", dest="inherit", action="store_false", help="weights begin at random")
    command.add_argument("--no-flip", dest="flip", action="store_false", help="images are not mirrored")
    command.add_argument("--seed", type=int, help="of what is drawn (default: 0)")
    command.add_argument("--split-seed", type=int, help="of what is held out (default: 0)")
    command.add_argument("--storage", metavar="URL", help="of a database that several machines share (default: a file)")
    command.add_argument("--resume", action="store_true", help="go on with the search in --out, or take part in it")
    command.add_argument("--overwrite", action="store_true", help="remove the search in --out first")
    command.set_defaults(run=actions.search)


def _export_arguments(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "export", help="write a model for phones or servers", description="Write a .tflite, a SavedModel or .onnx."
    )
    command.add_argument("model", help="a run or a .keras")
    command.add_argument("--out", required=True, metavar="FILE", help="x.tflite, x.onnx, or a folder for a SavedModel")
    command.add_argument("--quantize", help="for a .tflite: float16, dynamic or int8 (default: float32)")
    command.add_argument(
        "--io", help="dtype of the input: uint8 (default for networks that take pixels), float32, int8"
    )
    command.add_argument(
        "--batch-size", type=int, default=argparse.SUPPRESS, metavar="IMAGES", help="(default: 1 in a .tflite)"
    )
    command.add_argument(
        "--data", metavar="SOURCE", help="images that int8 is calibrated with, and that the file is checked on"
    )
    command.add_argument("--labels", metavar="FILE", help="the classes' names, one a line (default: the run's own)")
    command.add_argument("--tolerance", type=float, help="largest difference of logits, in their deviations")
    command.add_argument("--agreement", type=float, default=0.95, metavar="SHARE", help="of int8 (default: 0.95)")
    command.add_argument(
        "--quantize-aware", action="store_true", help="first train on with int8's rounding, on --data, for --epochs"
    )
    command.add_argument("--epochs", type=float, help="for --quantize-aware (default: 2)")
    command.set_defaults(run=actions.export)
