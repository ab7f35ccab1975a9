"""Keeps what TensorFlow and LiteRT say while they start off the user's terminal; their warnings and errors reach it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from os import _exit  # documented, its underscore notwithstanding
from typing import Any

# C++ code writes them to file descriptor 2, and some before any setting of its log level counts.
START_UP = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} \d\d:\d\d:\d+\."  # abseil's INFO, such as on oneDNN and on CUDA that is not there
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: I "  # TensorFlow's own
    rb"|INFO: "  # LiteRT's, on its XNNPACK delegate
    rb"|To enable the following instructions:"  # the second line of cpu_feature_guard's
    rb"|[WE]\d{4} .*("
    rb"Unable to register cu\w+ (factory|plugin)|computation_placer already registered|Could not find TensorRT"
    rb"|failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE)"  # neither driver nor GPU
    # TensorFlow makes its parallel input deterministic, and forgets an attribute of the operation that it replaces.
    rb"|NodeDef mentions attribute use_unbounded_threadpool which is not in the op definition"
    # What the converter tells its programmers.
    rb"|Ignored output_format\.|Ignored drop_control_dependency\.|Skipping runtime version metadata in the model\."
    rb")"
    rb"|\d{4}-\d\d-\d\d .*(Unable to register cu\w+ |TF-TRT Warning: Could not find TensorRT)"
    rb"|fully_quantize: \d+, inference_type: "
)
# JAX ends a process whose job has lost another one in C++, with a page on its stack.
LOST = re.compile(rb"F\d{4} .*Terminating process because the JAX distributed service detected fatal errors")
OF_LOST = (
    b"kresnet: another process of this job is lost, and with it the job: start it again with --resume, on as many "
    b"processes as a batch divides among\n"
)
# TensorFlow's log of an error of ours within a dataset, such as a broken image: the command says it in a line of its
# own. What follows until the next line of a log: the functions of Python's that it passed through.
TOLD = re.compile(
    rb"[WE]\d{4} .*(op_kernel|local_rendezvous)\.cc:.*INVALID_ARGUMENT: .*(ValueError: |assertion failed: \[Labels )"
)
FOLLOWS = re.compile(rb"$|\s|Traceback \(most recent call last\):|ValueError: ")
LEAVING = 1.0  # seconds for the last lines, at the end


@contextlib.contextmanager
def without_start_up_lines() -> Iterator[None]:
    """While it is open, lines of `START_UP` and `TOLD` written to file descriptor 2 do not reach the standard error.

    A child process passes all others on, also those that come before a crash of this process; Python's own standard
    error goes there directly. It must be opened before there are threads. Where processes cannot fork, as on Windows,
    nothing is kept off.
    """
    try:
        error = os.dup(2)
    except OSError:  # it is closed
        error = None
    if error is None or sys.stderr is None or not hasattr(os, "fork"):
        yield
        return
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it ends when nobody can write to it any more
            for descriptor in (0, 1, 2, writer):
                os.close(descriptor)
            _pass_on(reader, error)
        finally:
            _exit(0)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    before = sys.stderr
    sys.stderr = os.fdopen(os.dup(error), "w", buffering=1, encoding=before.encoding, errors=before.errors)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.dup2(error, 2)
        os.close(error)
        end = time.monotonic() + LEAVING  # a browser that was opened may hold the pipe for longer
        while os.waitpid(child, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.005)


def leave(status: int) -> None:
    """Ends the process at once, without what was to be done at its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    _exit(status)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """While it is open, our own warnings are one line each, without the line of code that they come from."""
    package, formatted = os.path.dirname(__file__), warnings.formatwarning

    def ours(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **options: Any) -> str:
        if filename.startswith(package):
            return f"kresnet: {message}\n"
        return formatted(message, category, filename, *rest, **options)

    warnings.formatwarning = ours
    try:
        yield
    finally:
        warnings.formatwarning = formatted


def _pass_on(source: int, target: int) -> None:
    """Copies lines from one file descriptor to another, but those of `START_UP` and `TOLD`, until the end or `LOST`."""
    rest, told = b"", False
    while chunk := os.read(source, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if LOST.match(line):
                _write(target, OF_LOST)
                return
            told = bool(TOLD.match(line)) or (told and bool(FOLLOWS.match(line)))
            if not told and not START_UP.match(line):
                _write(target, line + b"\n")
    if rest and not START_UP.match(rest) and not TOLD.match(rest):
        _write(target, rest)


def _write(target: int, content: bytes) -> None:
    while content:
        content = content[os.write(target, content) :]
