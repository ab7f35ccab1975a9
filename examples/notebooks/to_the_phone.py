# %% [markdown]
# # To the phone
#
# A trained network becomes a `.tflite`, in float32 and in int8; each file is checked before it gets its name; then it
# is run as an app runs it, without Keras. A minute on two cores.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kresnet") is None:  # as in Colab
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "kresnet[examples]"], check=True)

# %%
EPOCHS = 8

# %%
import json
import pathlib

import keras
import numpy as np

import kresnet

kresnet.train("resnet20", "digits", "quick", out="runs/phone", overwrite=True, epochs=EPOCHS, batch_size=64, flip=False)
network = keras.saving.load_model("runs/phone/best.keras")

# %% [markdown]
# Norms are folded into the convolutions before them, the file is written, run beside the network on the given images,
# and compared. int8 needs images like those of training, to learn the range of each layer.

# %%
digits = kresnet.data.load("digits", "train", 32, shuffle=False)
full = kresnet.export(network, "phone/digits.tflite", verify=digits, labels=digits.class_names)
small = kresnet.export(
    network, "phone/digits_int8.tflite", quantize="int8", calibration=digits, labels=digits.class_names
)
print(f"{full.stat().st_size / 1e6:.2f} MB and {small.stat().st_size / 1e6:.2f} MB")

# %% [markdown]
# What was measured lies beside the file.

# %%
about = json.loads(pathlib.Path("phone/digits_int8.json").read_text())
print(json.dumps(about, indent=1)[:1500])

# %% [markdown]
# As an app does it: bytes of a picture in, probabilities out.

# %%
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(str(small))
interpreter.allocate_tensors()
image, label = next(iter(kresnet.data.load("digits", "validation", 32, batch_size=1)))
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.numpy())
interpreter.invoke()
(probabilities,) = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
print(f"a {int(label[0])} is taken for a {int(probabilities.argmax())} ({probabilities.max():.0%})")

# %% [markdown]
# Networks, files and exports are measured alike.

# %%
for form in ("runs/phone", full, small):
    print(form, kresnet.evaluate(form, "digits", verbose=False).summary())
print(np.round(probabilities, 2))

# %% [markdown]
# `kresnet demo phone/digits_int8.tflite` shows a page that runs the file; `examples/android` and `examples/ios` have
# the code for camera frames.
