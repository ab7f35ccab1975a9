"""Times functions for the benchmarks: alternating in one process, with medians."""

import statistics
import time
from collections.abc import Callable

import keras
from rich.progress import track


def alternate(
    candidates: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Runs each candidate once to warm up, then all of them in turn; prints and returns their median seconds.

    `clock=time.process_time` counts what all threads of this process compute, whatever else the machine does.
    """
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in track(range(rounds), "Measuring", transient=True):
        for name, run in candidates.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        spread = f"{min(values) * 1e3:.0f} to {max(values) * 1e3:.0f}"
        print(f"  {name:42} {medians[name] * 1e3:8.0f} ms  ({spread}, {rounds} rounds)")
    return medians


def describe() -> str:
    """Returns a text with the backend, the device and Keras's version."""
    device = keras.distribution.list_devices()[0] if keras.backend.backend() != "torch" else "cpu"
    return f"{keras.backend.backend()} backend on {device}, Keras {keras.__version__}"
