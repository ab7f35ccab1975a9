"""The whole history on one desk: the milestones from LeNet-5 to ParNet, cut to small grey images and trained alike.

Each is its paper's network with fewer channels and blocks, for 32x32 pixels, and without the steps in its stem that
large images need; GoogLeNet, which has no small form, sees the images at 64x64. All train by one short recipe on the
same images: Fashion-MNIST where it is installed (`apt install dataset-fashion-mnist`), else scikit-learn's digits. The
picture has accuracy against multiply-adds, and circles by parameters. Takes at most 25 minutes on 2
cores.

    python examples/history.py [--images 5000] [--epochs 4] [--out saved_models/history]
"""

import argparse
import gzip
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import kresnet
from kresnet.evaluation.intervals import wilson

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
GREY = {"mean": (0.286,), "std": (0.353,)}  # of Fashion-MNIST

# Rows of (channels, kernel, stride, padding, groups, what follows), and of (t, c, n, s, kernel, squeeze).
TOWERS = (
    (48, 5, 1, None, 1, ("norm", "max3")),
    (96, 5, 1, None, 2, ("norm", "max3")),
    (128, 3),
    (128, 3, 1, None, 2),
    (96, 3, 1, None, 2, ("max3",)),
)
INSIDE = (
    *((64, 5), (48, 1), (32, 1, 1, None, 1, ("max3", "dropout"))),
    *((64, 5), (64, 1), (64, 1, 1, None, 1, ("average3", "dropout"))),
    *((64, 3), (64, 1)),
)
MOBILE = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 2))
EFFICIENT = ((1, 16, 1, 1, 3, 0.25), (6, 24, 2, 1, 3, 0.25), (6, 40, 2, 2, 5, 0.25), (6, 80, 1, 2, 3, 0.25))

MILESTONES = (
    (1998, "LeNet-5", "lenet5", {}),
    (2012, "AlexNet", "alexnet2012", {"rows": TOWERS, "dense_widths": (256, 256), "head_size": 4}),
    (2013, "NiN", "nin_cifar", {"rows": INSIDE}),
    (2014, "VGG", "vgg11", {"depths": (1, 1, 2), "widths": (32, 64, 128), "dense_widths": (256, 256)}),
    (2014, "GoogLeNet", "googlenet", {"width_multiplier": 0.25}),
    (2015, "plain-20", "plainnet20", {}),
    (2015, "ResNet-20", "resnet20", {}),
    (2016, "ResNet-20 v2", "resnet20", {"preactivation": True}),
    (2016, "wide ResNet", "wrn_16_8", {"widths": (32, 64, 128), "depths": (1, 1, 1)}),
    (2016, "DenseNet", "densenetbc100_12", {"depths": (6, 6, 6)}),
    (2017, "ResNeXt", "resnext29_8x64d", {"depths": (1, 1, 1), "widths": (16, 32, 64), "groups": 8, "group_width": 4}),
    (2017, "SE-ResNet-20", "resnet20", {"se_reduction": 4}),
    (2018, "MobileNetV2", "mobilenetv2_100", {"table": MOBILE, "stem_width": 16, "head_width": 256}),
    (2019, "EfficientNet", "efficientnet_b0", {"table": EFFICIENT, "stem_width": 16, "head_width": 256}),
    (2021, "RepVGG", "repvgg_a0", {"depths": (1, 2, 4, 1), "widths": (32, 64, 128, 256)}),
    (2021, "ParNet", "parnet_s", {"depths": (1, 2, 2), "widths": (32, 64, 128), "head_width": 256}),
)


def images(count):
    """Returns training and test images, (n, 32, 32, 1) uint8, with their labels."""
    if not FASHION.exists():
        parts = (kresnet.data.load("digits", split, 32, 128, shuffle=False) for split in ("train", "validation"))
        return [
            tuple(np.concatenate(arrays) for arrays in zip(*part.as_numpy_iterator(), strict=True)) for part in parts
        ]
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    train_x, train_y, test_x, test_y = (read(FASHION / f"{name}-ubyte.gz") for name in names)
    padded = [np.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None] for x in (train_x[:count], test_x[:5000])]
    return (padded[0], train_y[:count]), (padded[1], test_y[:5000])


def read(path):
    """Reads an IDX file: big-endian sizes, and bytes."""
    data = gzip.decompress(path.read_bytes())
    sizes = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, "uint8", offset=4 + 4 * len(sizes)).reshape(sizes)


def build(key, fields):
    image = keras.Input((32, 32, 1), name="image")
    x = keras.layers.Resizing(64, 64)(image) if key == "googlenet" else image
    return kresnet.create_model(key, input_tensor=x, classes=10, **GREY, **fields)


def draw(rows, path):
    figure, axis = plt.subplots(figsize=(11, 7), layout="constrained")
    years = [year for year, *_ in rows]
    circles = axis.scatter(
        [macs / 1e6 for *_, macs, _, _ in rows],
        [100 * accuracy for *_, accuracy in rows],
        [max(30, params / 600) for *_, params, _ in rows],
        years,
        cmap="viridis",
        alpha=0.7,
    )
    # Neighbours in accuracy have their names on different sides.
    for i, (year, name, macs, _, accuracy) in enumerate(sorted(rows, key=lambda row: row[-1])):
        place = {"xytext": (9, 3), "ha": "left"} if i % 2 else {"xytext": (-9, -8), "ha": "right"}
        point = (macs / 1e6, 100 * accuracy)
        axis.annotate(f"{name}, {year}", point, textcoords="offset points", fontsize=8, **place)
    axis.margins(0.15, 0.08)
    axis.set(xscale="log", xlabel="multiply-adds an image, millions", ylabel="test accuracy (%)")
    axis.set_title("Circles by parameters")
    figure.colorbar(circles, label="year")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000, help="to train with")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("saved_models/history"))
    options = parser.parse_args()
    train, test = images(options.images)
    data = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train[0]), seed=0).batch(64, drop_remainder=True)
    shown = tf.data.Dataset.from_tensor_slices(test).batch(250)
    # Networks without batch norm want smaller steps than those with it: these are for both.
    recipe = kresnet.recipes.QUICK.replace(epochs=options.epochs, batch_size=64, learning_rate=0.03, clip_norm=1.0)
    rows = []
    for year, name, key, fields in MILESTONES:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model, folder = build(key, fields), options.out / name
        kresnet.train(model, data, recipe, out=folder, overwrite=True, verbose=False, with_report=False)
        found = kresnet.evaluate(folder / "last.keras", shown, verbose=False)
        costs = kresnet.cost(model)
        rows.append((year, name, costs.macs, costs.params, found.accuracy()))
        low, high = wilson(found.correct(1), found.examples)
        print(
            f"{year} {name:14} {costs.macs / 1e6:7.1f} M MACs {costs.params / 1e6:6.2f} M parameters"
            f" {found.accuracy():7.1%} ({low:.1%} to {high:.1%})",
            flush=True,
        )
    draw(rows, options.out / "history.png")
    print(f"{options.out}/history.png shows them all.")


if __name__ == "__main__":
    main()
