# %% [markdown]
# # A first network
#
# Build ResNet-20, see what it costs, train it on handwritten digits with Keras's `fit`, and look at what it gets wrong.
# The digits are the 1797 scans of 8x8 pixels that come with scikit-learn. A minute on two cores.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kresnet") is None:  # as in Colab
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "kresnet[examples]"], check=True)

# %%
EPOCHS = 8

# %% [markdown]
# A network is one call. It takes pixels, 0 to 255, as they are: the first layer brings them to the mean and deviation
# that the paper's networks were trained with.

# %%
import matplotlib.pyplot as plt

import kresnet

model = kresnet.ResNet20(classes=10)
print(kresnet.cost(model).summary())
print(model.kresnet_config["paper"])

# %% [markdown]
# Its layers have names that say where they stand: stage, block, and what they do there.

# %%
print([layer.name for layer in model.layers if layer.name.startswith("stage2_block1_")])

# %% [markdown]
# The data: a `tf.data.Dataset` of pixels and labels. Digits are shifted a little, and not mirrored.

# %%
train = kresnet.data.load("digits", "train", 32, batch_size=64, augment="cifar", flip=False)
held_out = kresnet.data.load("digits", "validation", 32, batch_size=64)
print(train.examples, held_out.examples)

# %% [markdown]
# A recipe gives the optimizer with its schedule, and the loss. `shuffle=False`: the dataset shuffles by itself.

# %%
recipe = kresnet.recipes.QUICK.replace(epochs=EPOCHS)
model.compile(recipe.optimizer_for(len(train), batch_size=64), recipe.loss(), metrics=["accuracy"])
history = model.fit(train, epochs=EPOCHS, validation_data=held_out, shuffle=False, verbose=2)

# %%
plt.plot(history.history["accuracy"], label="training")
plt.plot(history.history["val_accuracy"], label="held out")
plt.xlabel("epoch")
plt.ylabel("accuracy")
plt.legend()
plt.show()

# %% [markdown]
# How sure can one be? The interval says what 360 images tell.

# %%
result = kresnet.evaluate(model, held_out, verbose=False)
print(result.summary())

# %%
wrong = (result.probabilities.argmax(1) != held_out.labels).nonzero()[0]
print(f"{len(wrong)} digits are taken for others: {[int(held_out.labels[i]) for i in wrong]}")
