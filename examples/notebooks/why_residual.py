# %% [markdown]
# # Why residual?
#
# He et al. 2015 ([arXiv:1512.03385](https://arxiv.org/abs/1512.03385), figure 6): a plain network gets worse with
# depth, on the training images too, so it is not overfitting. With shortcuts it does not. Here the same is tried on
# handwritten digits, with a shortened recipe. Ten minutes on two cores; `EPOCHS = 8` shows the beginning.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kresnet") is None:  # as in Colab
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "kresnet[examples]"], check=True)

# %%
EPOCHS = 30
DEPTHS = (20, 56)
SIZE = 16

# %% [markdown]
# Both kinds have the same layers and the same number of parameters: the shortcuts of CIFAR's networks have none.

# %%
import keras
import matplotlib.pyplot as plt

import kresnet

plain = kresnet.create_model("plainnet20", classes=10)
residual = kresnet.create_model("resnet20", classes=10)
print(plain.count_params() == residual.count_params())
print(kresnet.cost(plain).macs, kresnet.cost(residual).macs)

# %%
train = kresnet.data.load("digits", "train", SIZE, batch_size=32, augment="cifar", flip=False)
recipe = kresnet.recipes.HE2015_CIFAR.replace(epochs=EPOCHS)
errors = {}
for depth in DEPTHS:
    for kind in ("plainnet", "resnet"):
        keras.utils.set_random_seed(0)
        model = kresnet.create_model(f"{kind}{depth}", classes=10, input_shape=(SIZE, SIZE, 3))
        model.compile(recipe.optimizer_for(len(train), batch_size=32), recipe.loss(), metrics=["accuracy"])
        history = model.fit(train, epochs=EPOCHS, shuffle=False, verbose=0)
        errors[kind, depth] = [100 * (1 - value) for value in history.history["accuracy"]]
        print(f"{kind}{depth}: {errors[kind, depth][-1]:.1f} % training error")

# %%
for (kind, depth), values in errors.items():
    plt.plot(values, "--" if kind == "plainnet" else "-", label=f"{kind}{depth}")
plt.xlabel("epoch")
plt.ylabel("training error in %")
plt.legend()
plt.show()

# %% [markdown]
# Why: an identity is easy for a residual block, whose branch need only become zero, and hard for a plain one. The
# gradient reaches the first layers along the shortcuts. `examples/degradation.py` is the longer version.
