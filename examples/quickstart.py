"""Trains ResNet-20 on handwritten digits, exports it for phones, and checks that the exported files agree with it.

The digits are the 1797 scans of 8x8 pixels that come with scikit-learn. Takes two minutes. On the command line:

    kresnet train resnet20 --data digits --out runs/digits --epochs 15 --batch-size 64 --set flip=false
    kresnet export runs/digits --out saved_models/digits.tflite
    kresnet demo saved_models/digits.tflite
"""

import pathlib
import shutil
import sys

import keras

import kresnet

RUN, OUT = pathlib.Path("runs/digits"), pathlib.Path("saved_models")
shutil.rmtree(RUN, ignore_errors=True)  # of an earlier run

# 1. Train: SGD with warm-up and a cosine schedule; digits are shifted a little, but not mirrored. A fifth of them is
#    held out. The folder then holds the checkpoints, the history, and report.html with curves and mistakes.
kresnet.train("resnet20", "digits", "quick", out=RUN, epochs=15, batch_size=64, flip=False, seed=1)

# 2. Export for servers and for phones: float32, and int8, a quarter of the size. Each file is run, and compared with
#    the network on the given images (or on synthetic ones), before it gets its name.
network = keras.saving.load_model(RUN / "best.keras")
digits = kresnet.data.load("digits", "train", 32, shuffle=False)
names = digits.class_names
files = [
    RUN,
    kresnet.export(network, OUT / "digits"),
    kresnet.export(network, OUT / "digits.tflite", verify=digits, labels=names),
    kresnet.export(network, OUT / "digits_int8.tflite", quantize="int8", calibration=digits, labels=names),
]

# 3. Evaluate all of them on the held-out digits.
results = [kresnet.evaluate(file, "digits", verbose=False) for file in files]
print()
for file, result in zip(files, results, strict=True):
    print(f"{file!s:32} {result.summary()}")
difference = abs(results[2].probabilities - results[0].probabilities).max()
print(f"largest difference of a probability between Keras and {files[2]}: {difference:.1e}")
print(f"{RUN}/report.html shows the rest.")
good = min(result.accuracy() for result in results) >= 0.97 and difference <= 1e-4
sys.exit(0 if good else "The exported files are not good enough.")
