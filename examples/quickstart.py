"""Trains ResNet-20 on handwritten digits, exports it for phones, and checks that the exported file says the same.

The digits are scikit-learn's 1797 scans of 8x8 pixels, which come with it. Takes a minute and a half.
"""

import pathlib
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kresnet

EPOCHS, BATCH = 15, 64
OUT = pathlib.Path("saved_models")
OUT.mkdir(exist_ok=True)
keras.utils.set_random_seed(1)

# 1. Images: grey pixels, 0 to 255, of 32x32. A fifth is held out.
digits = load_digits()
images = np.array(keras.ops.image.resize(digits.images[..., None] * 255 / 16, (32, 32)), "float32")
train_x, test_x, train_y, test_y = train_test_split(
    images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
)

# 2. A network. It takes pixels as they are, and learns from digits that are shifted and turned a little.
network = kresnet.ResNet20(input_shape=(32, 32, 1), classes=10)
augment = keras.Sequential([keras.layers.RandomTranslation(0.1, 0.1), keras.layers.RandomRotation(0.03)])
image = keras.Input((32, 32, 1))
training = keras.Model(image, network(augment(image)))

# 3. Training: SGD with a cosine learning rate and a warm-up.
steps = EPOCHS * (len(train_x) // BATCH)
rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=0.1, warmup_steps=steps // 10)
optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
training.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
history = training.fit(train_x, train_y, BATCH, EPOCHS, validation_data=(test_x, test_y)).history

# 4. What came of it: the accuracy, the curves, and the digits that were misread.
scores = network.predict(test_x, verbose=0)
read = scores.argmax(1)
accuracy = np.mean(read == test_y)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
for name, label in (("", "training"), ("val_", "held out")):
    left.plot(history[name + "loss"], label=label)
    right.plot(1 - np.array(history[name + "accuracy"]), label=label)
left.set(title="Loss", xlabel="epoch", yscale="log")
right.set(title="Error", xlabel="epoch", yscale="log")
left.legend()
figure.savefig(OUT / "digits_curves.png")

wrong = np.flatnonzero(read != test_y)
figure, axes = plt.subplots(1, max(len(wrong), 1), figsize=(2 * max(len(wrong), 2), 2.4), squeeze=False)
for axis, i in zip(axes[0], wrong, strict=False):
    axis.imshow(test_x[i, ..., 0], cmap="gray_r")
    axis.set_title(f"{test_y[i]}, read as {read[i]}")
for axis in axes[0]:
    axis.axis("off")
figure.savefig(OUT / "digits_misread.png")

# 5. Exports: a SavedModel for servers, a .tflite for phones.
kresnet.export(network, OUT / "digits")
file = kresnet.export(network, OUT / "digits.tflite")

# 6. The proof: the file, run by the phone's interpreter on the held-out digits.
classify = Interpreter(str(file)).get_signature_runner()
lite = np.concatenate([classify(image=one[None])["probs"] for one in test_x])
lite_accuracy, difference = np.mean(lite.argmax(1) == test_y), np.abs(lite - scores).max()

print(f"held-out accuracy    Keras {accuracy:.2%} ({len(wrong)} of {len(test_y)} misread), {file} {lite_accuracy:.2%}")
print(f"largest difference   {difference:.1e} (of probabilities)")
print("saved_models/ holds  digits/ digits.tflite digits_curves.png digits_misread.png")
sys.exit(0 if min(accuracy, lite_accuracy) >= 0.98 and difference <= 1e-4 else "The exported file is not good enough.")
