"""Searches the coefficients of compound scaling for a small EfficientNet, and plots accuracy against MACs.

This is step 1 of the paper (Tan and Le 2019, arXiv:1905.11946, section 3.3): phi = 1, and a grid over alpha, beta and
gamma whose networks all cost about twice the baseline. Each candidate is trained for a few epochs on scikit-learn's
handwritten digits. Takes four minutes on two cores. Scores are kept in a journal, so that Ctrl-C loses nothing.

The ranking is rough: a few epochs with one seed, and 360 held-out digits, of which 4 make 1 %.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kresnet

EPOCHS = 4

digits = load_digits()
pixels = digits.images[..., None] * 255 / 16
train_x, test_x, train_y, test_y = train_test_split(
    pixels, digits.target, test_size=0.2, stratify=digits.target, random_state=0
)

# Rows (t, c, n, s, k, se) in the order of the papers' tables, for images of 16x16 pixels.
SMALL = {
    "table": [(1, 16, 1, 1, 3, 0.25), (4, 24, 2, 1, 3, 0.25), (4, 40, 2, 2, 3, 0.25)],
    "stem_width": 16,
    "head_width": 128,
    "classes": 10,
}


def score(model: keras.Model) -> float:
    """Returns the accuracy on the held-out digits after a few epochs, at the model's input size."""
    keras.utils.set_random_seed(0)
    size = model.input_shape[1:3]
    resized = [np.repeat(keras.ops.image.resize(x, size), 3, axis=-1) for x in (train_x, test_x)]
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(resized[0], train_y, 64, EPOCHS, verbose=0)
    return model.evaluate(resized[1], test_y, verbose=0)[1]


def small(**arguments) -> keras.Model:
    """Builds a candidate from phi, alpha, beta and gamma; at phi = 0 its images have 16x16 pixels."""
    resolution = arguments["gamma"] ** arguments["phi"]
    size = round(16 * resolution / 4) * 4
    return kresnet.EfficientNet(**SMALL, **arguments, input_shape=(size, size, 3))


ranked = kresnet.scaling.grid_search(small, score, step=0.2, tolerance=0.1, journal="saved_models/scaling_search.jsonl")
print(" alpha   beta  gamma   MMACs  parameters  accuracy")
for c in ranked:
    print(f"{c.alpha:6.2f} {c.beta:6.2f} {c.gamma:6.2f} {c.macs / 1e6:7.2f} {c.params:11,} {c.score:9.2%}")

figure, axis = plt.subplots(figsize=(7, 4.5))
points = axis.scatter([c.macs / 1e6 for c in ranked], [c.score for c in ranked], c=[c.gamma for c in ranked])
for i, c in enumerate(ranked):
    text, below = f"{c.alpha:g}, {c.beta:g}, {c.gamma:g}", i % 2 == 1
    axis.annotate(text, (c.macs / 1e6, c.score), (0, -14 if below else 8), textcoords="offset points", ha="center")
axis.margins(0.15)
axis.set(xlabel="MMACs", ylabel="held-out accuracy", title="alpha, beta, gamma at phi = 1")
figure.colorbar(points, label="gamma")
figure.savefig("saved_models/scaling_search.png", dpi=150)
print("saved_models/ holds scaling_search.png and scaling_search.jsonl")
