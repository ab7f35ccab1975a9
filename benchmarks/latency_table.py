"""What a table of layers is worth: what it predicts of random networks beside what they take as a whole.

    python benchmarks/latency_table.py [--networks 30] [--space mobile] [--size 224] [--quantize int8]

Layers are measured when they first occur; a network is predicted before it is measured. Takes 10 minutes on 2 cores.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

from kresnet import search
from kresnet.search.layer_times import WHOLES
from kresnet.search.space import SPACES


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--quantize", help="int8 (default: float32)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    space, table = SPACES[options.space](), search.LatencyTable(quantize=options.quantize)
    generator, ratios = np.random.default_rng(options.seed), []

    def drawn():
        return space.build(space.sample(generator), input_shape=(options.size, options.size, 3))

    table.calibrate(drawn() for _ in range(WHOLES))  # not those that follow
    for i in range(options.networks):
        keras.utils.clear_session()
        model = drawn()
        predicted = table.milliseconds(model)
        measured = table.measured(model)
        ratios.append(predicted / measured)
        print(
            f"{i:3} {len(table):4} layers {predicted:8.3f} ms predicted {measured:8.3f} measured {ratios[-1]:.3f}",
            flush=True,
        )
    errors = np.abs(np.array(ratios) - 1)
    print(
        f"{options.networks} networks of {options.space}, {options.quantize or 'float32'}: "
        f"mean error {errors.mean():.1%}, largest {errors.max():.1%}, within 10 %: {(errors <= 0.1).sum()}"
    )


if __name__ == "__main__":
    main()
