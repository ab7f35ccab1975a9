"""Searching: do strategies beat random search, and what are halving and inherited weights worth?

    python benchmarks/search.py strategies [--trials 30] [--seeds 5]
    python benchmarks/search.py shortcuts [--trials 16] [--seeds 3]

Strategies: each searches, with five seeds and the same number of trials, a space of 256 small networks for 16x16 scans
of digits, rewarded for accuracy after four epochs and for multiply-adds. A network is trained once, whoever asks for
it, and kept in a table (as in NAS-Bench-101, arXiv:1902.09635); random search of the same seed is the pair of each
difference. Shortcuts: random search by `kresnet.train`, the same networks with and without halving and inheritance.
Intervals are Student's, of 95 %. Both take minutes to an hour; killed, the first goes on.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from kresnet import search
from kresnet.files import replacing
from kresnet.search.strategies import STRATEGIES

EPOCHS, TARGET = 4, 200_000  # of the table; multiply-adds
STUDENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # by the number of seeds
ROWS = [(4, 16, 1, 1), (4, 16, 1, 2)]
COLUMNS = {"k": (3, 5), "t": (2, 4), "se": (0.0, 0.25), "c": (8, 16)}
CHOICES = {f"table[{i}].{column}": options for i in (0, 1) for column, options in COLUMNS.items()}
SPACE = search.Space("mobilenetv2_100", CHOICES, {"table": ROWS, "stem_width": 8, "head_width": 64})


class Table:
    """Accuracies of networks on the digits that were held out, each trained once."""

    def __init__(self, path):
        self.path, self.known = path, json.loads(path.read_text()) if path.exists() else {}
        digits = load_digits()
        pixels = np.repeat(np.kron(digits.images, np.ones((2, 2)))[..., None] * 255 / 16, 3, -1).astype("float32")
        split = {"test_size": 0.4, "stratify": digits.target, "random_state": 0}
        self.train_x, self.test_x, self.train_y, self.test_y = train_test_split(pixels, digits.target, **split)

    def __call__(self, attempt):
        key = json.dumps(attempt.point, sort_keys=True)
        if key not in self.known:
            self.known[key] = self.trained(attempt)
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self.known))
        attempt.go_on(1, self.known[key])

    def trained(self, attempt):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = attempt.build()
        model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(self.train_x, self.train_y, 128, EPOCHS, verbose=0)
        # Called as it is, and not compiled once more, which would take longer than to train.
        probabilities = keras.ops.convert_to_numpy(model(self.test_x, training=False))
        return float(np.mean(probabilities.argmax(-1) == self.test_y))


def interval(values):
    """Returns the mean of a few numbers, and half of the width of its interval."""
    return np.mean(values), STUDENT[len(values)] * np.std(values, ddof=1) / len(values) ** 0.5


def strategies(options):
    table, best = Table(options.out / "table.json"), {}
    options.out.mkdir(parents=True, exist_ok=True)
    for name in STRATEGIES:
        for seed in range(options.seeds):
            found = search.run(
                SPACE, table, options.trials, out=options.out / f"{name}-{seed}", strategy=name, seed=seed,
                targets={"macs": TARGET}, epochs=1, image_size=16, classes=10, resume=True, verbose=False,
            )  # fmt: skip
            best.setdefault(name, []).append(np.maximum.accumulate([trial.reward for trial in found.trials]))
            print(f"{name}, seed {seed}: {best[name][-1][-1]:.4f} ({len(table.known)} networks trained)", flush=True)
    places = sorted({options.trials // 3, options.trials * 2 // 3, options.trials})
    print(f"\nBest reward, and the difference from random search, after {places} of {options.trials} trials:")
    for name, rows in best.items():
        cells, last = [], None
        for place in places:
            mean, _ = interval([row[place - 1] for row in rows])
            pairs = zip(rows, best["random"], strict=True)
            last = interval([row[place - 1] - random[place - 1] for row, random in pairs])
            cells.append(f"{mean:.4f} ({last[0]:+.4f} ± {last[1]:.4f})")
        verdict = "beats random search" if last[0] > last[1] else "does not beat random search here"
        print(f"  {name:10} {'  '.join(cells)}  {verdict if name != 'random' else ''}")
    print(f"Of the {len(table.known)} networks that were trained, accuracies are {spread(table.known.values())}.")


def spread(values):
    low, middle, high = np.percentile([*values], [5, 50, 95])
    return f"{low:.1%} (5 % are below), {middle:.1%}, {high:.1%} (5 % above)"


def shortcuts(options):
    """Trains the same networks with and without halving, with and without inherited weights."""
    kinds = {
        "neither": {"reduction": None, "inherit": False},
        "inheritance": {"reduction": None, "inherit": True},
        "halving": {"reduction": 3, "inherit": False},
        "both": {"reduction": 3, "inherit": True},
    }
    rows = {kind: [] for kind in kinds}
    for seed in range(options.seeds):
        for kind, settings in kinds.items():
            start = time.process_time()
            found = search.run(
                SPACE, "digits", options.trials, out=options.out / f"{kind}-{seed}", strategy="random", seed=seed,
                epochs=9, image_size=16, flip=False, overwrite=True, verbose=False, **settings,
            )  # fmt: skip
            first = np.mean([trial.accuracies[1] for trial in found.trials[1:]])
            epochs = sum(max(trial.accuracies) for trial in found.trials)
            rows[kind].append((first, found.best.accuracy, epochs, time.process_time() - start))
            print(f"{kind}, seed {seed}: {rows[kind][-1]}", flush=True)
    print(
        f"\n{options.trials} networks, {options.seeds} seeds: mean accuracy after one epoch, the best one's, and time"
    )
    for kind, found in rows.items():
        numbers = np.array(found)
        shown = [f"{mean:.1%} ± {half:.1%}" for mean, half in map(interval, numbers.T[:2])]
        gain = interval(numbers[:, 1] - np.array(rows["neither"])[:, 1])
        share = numbers.sum(0) / np.sum(rows["neither"], 0)
        print(
            f"  {kind:12} {shown[0]:16} {shown[1]:16} ({gain[0]:+.1%} ± {gain[1]:.1%}), "
            f"{share[2]:.2f} of the epochs, {share[3]:.2f} of the processor's time"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["strategies", "shortcuts"])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seeds", type=int, choices=STUDENT)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("searches/benchmark"))
    options = parser.parse_args()
    trials, seeds = {"strategies": (30, 5), "shortcuts": (16, 3)}[options.what]
    options.trials, options.seeds = options.trials or trials, options.seeds or seeds
    {"strategies": strategies, "shortcuts": shortcuts}[options.what](options)


if __name__ == "__main__":
    main()
