"""Runs what may hang, crash or take all memory in a process of its own, and tells how that went."""

import multiprocessing
import os
import resource
import tempfile
import time
import traceback
from typing import Any, NamedTuple

# Children of a process that has imported these begin at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tensorflow", "keras", "kresnet.models", "kresnet.data", "kresnet.deploy.export", "kresnet.evaluation.report"]
)
ROOM = 4 << 30  # bytes of addresses that a child may take, so that a bomb ends the child and not the machine


class Outcome(NamedTuple):
    """How a call went.

    Attributes:
        value: what it returned.
        error: the type and the text of what it raised; None for nothing.
        seconds: it took.
        growth: the most memory that it took, in bytes.
        ended: why the process ended before the call did; None if it did not.
        printed: on the standard error.
    """

    value: Any = None
    error: tuple[str, str] | None = None
    seconds: float = 0.0
    growth: int = 0
    ended: str | None = None
    printed: str = ""


def attempt(function, *arguments, seconds=10.0):
    """Calls a function of a module in a child, which is killed if it takes longer."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile("r", errors="replace") as printed:
        child = PROCESSES.Process(target=_run, args=(theirs, printed.name, function, arguments))
        child.start()
        theirs.close()
        child.join(0)
        try:
            outcome = ours.recv() if ours.poll(seconds + 20) else None  # the process takes time to begin, too
        except EOFError:
            outcome = None
        if outcome is None:
            hangs = child.is_alive() and not ours.poll(0)
            if hangs:
                child.kill()
            child.join()
            outcome = Outcome(ended="it hangs" if hangs else f"the process ended with {child.exitcode}")
        else:
            child.join(5)
            if child.is_alive():
                child.kill()
        return outcome._replace(printed=printed.read())


def _run(answers, printed, function, arguments):
    os.dup2(os.open(printed, os.O_WRONLY | os.O_APPEND), 2)
    _warm()
    with open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    before, start, value, error = peak(), time.perf_counter(), None, None
    try:
        value = function(*arguments)
    except BaseException as caught:
        error = (type(caught).__name__, str(caught))
        if os.environ.get("SURVIVAL_TRACEBACKS"):
            traceback.print_exc()
    answers.send(Outcome(value, error, time.perf_counter() - start, peak() - before))
    answers.close()
    os._exit(0)


def _warm():
    """What TensorFlow takes when it is first used is not the call's."""
    import tensorflow as tf

    tf.constant(0.0)


def peak():
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
