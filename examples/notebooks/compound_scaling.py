# %% [markdown]
# # Compound scaling
#
# Tan and Le 2019 ([arXiv:1905.11946](https://arxiv.org/abs/1905.11946)): depth, width and resolution grow together, by
# one number, phi. Here any network does, and a budget finds its phi. A minute on two cores.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kresnet") is None:  # as in Colab
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "kresnet[examples]"], check=True)

# %%
EPOCHS = 6
PHIS = (0, 0.5, 1)

# %% [markdown]
# Multiply-adds double with each step of phi, whatever the network: alpha * beta^2 * gamma^2 is about 2.

# %%
import keras
import matplotlib.pyplot as plt

import kresnet

for phi in (0, 1, 2):
    model = kresnet.MobileNetV2_035(phi=phi)
    costs = kresnet.cost(model)
    millions = costs.macs / 1e6, costs.params / 1e6
    print(f"phi {phi}: {millions[0]:.0f} million MACs, {millions[1]:.1f} million parameters, {model.input_shape}")

# %% [markdown]
# One dimension alone, for twice the multiply-adds: deeper by 2, wider by the root of 2, or larger by the root of 2.

# %%
scalings = {
    "depth": {"alpha": 2.0, "beta": 1.0, "gamma": 1.0},
    "width": {"alpha": 1.0, "beta": 2**0.5, "gamma": 1.0},
    "resolution": {"alpha": 1.0, "beta": 1.0, "gamma": 2**0.5},
    "all": {"alpha": 1.2, "beta": 1.1, "gamma": 1.15},
}
for name, coefficients in scalings.items():
    print(f"{name}: {kresnet.cost(kresnet.ResNet20(phi=1, **coefficients)).macs / 1e6:.0f} million MACs")

# %% [markdown]
# The largest within a budget:

# %%
phi = kresnet.scaling.largest(kresnet.ResNet20, macs=60e6)
print(phi, kresnet.cost(kresnet.ResNet20(phi=phi)).macs)

# %% [markdown]
# Does it help? On small data it need not: more parameters also learn by heart.

# %%
accuracies = []
for phi in PHIS:
    keras.utils.set_random_seed(0)
    model = kresnet.ResNet20(phi=phi, classes=10)
    size = model.input_shape[1]
    train = kresnet.data.load("digits", "train", size, batch_size=64, augment="cifar", flip=False)
    held_out = kresnet.data.load("digits", "validation", size)
    recipe = kresnet.recipes.QUICK.replace(epochs=EPOCHS)
    model.compile(recipe.optimizer_for(len(train), batch_size=64), recipe.loss(), metrics=["accuracy"])
    model.fit(train, epochs=EPOCHS, shuffle=False, verbose=0)
    result = kresnet.evaluate(model, held_out, verbose=False)
    accuracies.append(result.accuracy())
    print(f"phi {phi}: {result.summary()}")

# %%
plt.plot(PHIS, accuracies, "o-")
plt.xlabel("phi")
plt.ylabel("accuracy on held-out digits")
plt.show()
