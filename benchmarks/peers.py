"""kresnet beside what else one would take: training, inference, start and memory, in one table a network.

    python benchmarks/peers.py [NETWORK ...] [--size 224] [--threads 1] [--rounds 7] [--peers ...]

Each competitor (`peers_loop.py`) lives in a process of its own; they take turns, step by step, so that what disturbs
the machine disturbs all. They are kresnet on TensorFlow and on JAX, keras.applications on TensorFlow where it has the
network, timm in channels last, eager and compiled, and for inference kresnet's network after `fold_batch_norm`, and the
files that it exports, run by LiteRT and by ONNX Runtime. What is not installed is left out, and said so:
`pip install ".[peers]"` has all.

Numbers are medians, with the lowest and highest behind; on a CPU in the processor's seconds. The ratio is a
competitor's median to that of kresnet on TensorFlow: below 1, the competitor is faster or smaller.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from rich.progress import Progress

NETWORKS = ("resnet50", "resnext50_32x4d", "seresnet50", "mobilenetv2_100", "efficientnet_b0")
# Name in the table, competitor, Keras's backend.
PEERS = {
    "kresnet": ("kresnet", "tensorflow"),
    "kresnet, folded": ("kresnet, folded", "tensorflow"),
    "kresnet on JAX": ("kresnet", "jax"),
    "keras.applications": ("keras.applications", "tensorflow"),
    "timm": ("timm", "tensorflow"),
    "timm, compiled": ("timm, compiled", "tensorflow"),
    "LiteRT": ("LiteRT", "tensorflow"),
    "ONNX Runtime": ("ONNX Runtime", "tensorflow"),
}
ROWS = {
    "train": ("training step, 32 images", 1e3, "ms"),
    "infer32": ("inference, 32 images", 1e3, "ms"),
    "infer1": ("inference, 1 image", 1e3, "ms"),
    "start": ("start to first answer", 1, "s"),
    "memory": ("peak memory", 2**-20, "MiB"),
}


class Competitor:
    """A process that waits for commands."""

    def __init__(self, name, network, options):
        kind, backend = PEERS[name]
        command = [sys.executable, str(pathlib.Path(__file__).with_name("peers_loop.py")), kind, network]
        command += [f"--size={options.size}", f"--threads={options.threads}"]
        threads = {key: str(options.threads) for key in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **threads}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)

    def answer(self):
        """Returns the next answer, or None, having kept the reason, if the process has ended."""
        line = self.process.stdout.readline()
        if not line:
            self.reason = (self.process.stderr.read().strip() or "without a word").splitlines()[-1]
            return None
        return json.loads(line)

    def ask(self, command):
        print(command, file=self.process.stdin, flush=True)
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def measure(network, options):
    """Returns {row: {peer: [values]}} of one network."""
    found = {row: {} for row in ROWS}
    living, steps = {}, {}
    with Progress(transient=True) as progress:
        task = progress.add_task(network, total=len(options.peers) + options.rounds)
        for name in options.peers:
            competitor = Competitor(name, network, options)
            started = competitor.answer()
            progress.advance(task)
            if started is None:
                print(f"  {name} left out: {competitor.reason}", flush=True)
                continue
            living[name], steps[name] = competitor, started["steps"]
            found["start"][name] = [started["start"]]
        for turn in range(options.rounds + 2):  # two to warm up: compiled steps compile in the first
            for row in ("train", "infer32", "infer1"):
                for name, competitor in list(living.items()):
                    if row not in steps[name]:
                        continue
                    seconds = competitor.ask(row)
                    if seconds is None:
                        print(f"  {name} left out: {competitor.reason}", flush=True)
                        del living[name]
                    elif turn >= 2:
                        found[row].setdefault(name, []).append(seconds)
            progress.advance(task)
        for name, competitor in living.items():
            found["memory"][name] = [competitor.ask("memory")]
            competitor.end()
    return found


def table(found):
    """Yields the lines of a network's table."""
    for row, (label, factor, unit) in ROWS.items():
        values = found[row]
        ours = statistics.median(values["kresnet"]) if values.get("kresnet") else None
        for name, numbers in values.items():
            median = statistics.median(numbers)
            spread = f"({min(numbers) * factor:.4g} to {max(numbers) * factor:.4g})" if len(numbers) > 1 else ""
            ratio = f"{median / ours:.2f}" if ours else ""
            yield f"  {label:26} {name:20} {median * factor:9.4g} {unit:4} {spread:20} {ratio:>6}".rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="keys that kresnet and timm share")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--threads", type=int, default=1, help="processors that each competitor may use")
    parser.add_argument("--rounds", type=int, default=7, help="of each step")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    for network in options.networks:
        print(f"{network}, {options.size} pixels, {options.threads} threads", flush=True)
        for line in table(measure(network, options)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
