"""Degradation: does a plain network get worse with depth, and a residual one not? (He et al. 2015, figure 6.)

Trains PlainNet20, PlainNet56, ResNet20 and ResNet56 by a shortened version of the paper's recipe for CIFAR-10, on
scikit-learn's 1797 handwritten digits at 16x16 pixels, and plots their errors as the paper does: training error dashed,
test error bold. Takes 7 minutes on 2 cores.

    python examples/degradation.py [--epochs 30] [--out saved_models/degradation]
"""

import argparse
import pathlib

import matplotlib.pyplot as plt

import kresnet

NETWORKS = ("plainnet20", "plainnet56", "resnet20", "resnet56")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("saved_models/degradation"))
    options = parser.parse_args()

    # The same for all four: SGD with weight decay 1e-4; a learning rate that is divided by 10 after a half and after
    # three quarters of the steps; padding, random crops, mirror images. The batch is a quarter of the paper's, as so
    # few images would give too few steps otherwise, and the learning rate is scaled with it.
    recipe = kresnet.recipes.HE2015_CIFAR.replace(epochs=options.epochs, image_size=16)
    histories = {}
    for name in NETWORKS:
        print(name)
        run = kresnet.train(name, "digits", recipe, out=options.out / name, batch_size=32, with_report=False)
        histories[name] = run.history

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axis, family in zip(axes, ("plain", "res"), strict=True):
        for name, colour in zip((f"{family}net20", f"{family}net56"), ("tab:olive", "tab:red"), strict=True):
            for key, style in (("accuracy", {"ls": "--", "lw": 1}), ("val_accuracy", {"lw": 2.5})):
                error = [100 * (1 - value) for value in histories[name][key]]
                label = f"{kresnet.get_builder(name).__name__}, {'training' if key == 'accuracy' else 'test'}"
                axis.plot(range(1, len(error) + 1), error, color=colour, label=label, **style)
        axis.set(xlabel="epoch", title="plain" if family == "plain" else "residual", yscale="log")
        axis.legend()
    axes[0].set(ylabel="error (%)")
    figure.savefig(options.out / "degradation.png", dpi=120)

    # The mean of the last five epochs, since single epochs vary.
    def error(name, key):
        return 100 * (1 - sum(histories[name][key][-5:]) / 5)

    print(f"\n{'error of the last 5 epochs':28} training     test")
    for name in NETWORKS:
        print(f"{name:28} {error(name, 'accuracy'):7.2f} % {error(name, 'val_accuracy'):7.2f} %")
    for family in ("plainnet", "resnet"):
        change = error(f"{family}56", "accuracy") - error(f"{family}20", "accuracy")
        verdict = "worse" if change > 0 else "no worse"
        print(f"{family}: 56 layers train {verdict} than 20, by {change:+.2f} points of training error")
    print(f"{options.out}/degradation.png shows the curves.")


if __name__ == "__main__":
    main()
