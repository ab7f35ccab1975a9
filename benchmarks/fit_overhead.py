"""The time that `fit` and the input pipeline add to the training step: ResNet-20 at 32x32 pixels, batches of 128.

    python benchmarks/fit_overhead.py [--rounds 7] [--steps 10]

Times the same number of steps in three ways, alternating in one process: the compiled step alone, on one batch in
memory; `fit` on batches in memory; and `fit` on `kresnet.data.load` with the policy "cifar".
"""

import argparse

import keras
import numpy as np
from timing import alternate, describe

import kresnet
from kresnet import callbacks, data, recipes

BATCH = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps per round")
    options = parser.parse_args()
    print(describe())
    model = kresnet.ResNet20(input_shape=(32, 32, 1))
    recipe = recipes.HE2015_CIFAR
    model.compile(recipe.optimizer_for(options.steps), recipe.loss(), metrics=["accuracy"])
    loaded = data.load("digits", "train", 32, BATCH, augment="cifar")
    x, y = (np.asarray(part) for part in next(iter(loaded)))
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)  # compiles the step
    import tensorflow as tf

    ready = data.without_tuning(tf.data.Dataset.from_tensors((x, y)).cache().repeat(options.steps))
    pipeline = loaded.repeat().take(options.steps)
    step, iterator = model.train_function, iter(ready.repeat())

    def bare():
        for _ in range(options.steps):
            logs = step(iterator)
        keras.ops.convert_to_numpy(logs["loss"])

    meter = [callbacks.Meter(BATCH)]
    seconds = alternate(
        {
            "the step alone": bare,
            "fit, batches in memory": lambda: model.fit(ready, verbose=0, callbacks=meter, shuffle=False),
            "fit, kresnet.data": lambda: model.fit(pipeline, verbose=0, callbacks=meter, shuffle=False),
        },
        options.rounds,
    )
    for name, time in seconds.items():
        overhead = time / seconds["the step alone"] - 1
        print(f"{name:22} {options.steps * BATCH / time:7.1f} images/s   {overhead:+.1%} of the step's time")


if __name__ == "__main__":
    main()
