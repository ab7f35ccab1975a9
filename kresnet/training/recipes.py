"""Training recipes: one per paper, as plain values, each a change from the defaults or from another recipe.

kresnet.train("resnet50", "photos", kresnet.recipes.BAG_OF_TRICKS, out="runs/a")
kresnet.recipes.BAG_OF_TRICKS.replace(epochs=90)
model.compile(recipe.optimizer_for(steps_per_epoch=100), recipe.loss(), jit_compile="auto")
"""

from __future__ import annotations

from kresnet import checks
from kresnet.training.recipe import Recipe

# Besides crops and mirror images, the first two shift colours along their principal components, which is not done here.
ALEXNET2012 = Recipe(
    paper="Krizhevsky et al. 2012, sections 4 and 5",
    epochs=90,
    batch_size=128,
    weight_decay=5e-4,
    learning_rate=0.01,
    schedule="plateau",
    augment="flip-crop",
    head_dropout_rate=0.5,
)
VGG2014 = ALEXNET2012.replace(paper="1409.1556, section 3.1", steps=370_000, batch_size=256)
# The paper gives neither batches nor length, rate or decay: those are of Caffe's replication, bvlc_googlenet; the
# average's decay is InceptionV3's.
GOOGLENET2014 = Recipe(
    paper="1409.4842, sections 5 and 6",
    epochs=60,
    batch_size=32,
    weight_decay=2e-4,
    ema=0.9999,
    learning_rate=0.01,
    schedule="exponential",
    factor=0.96,
    decay_epochs=8,
    augment="inception",
    auxiliary_weight=0.3,
)
HE2015 = Recipe(
    paper="1512.03385, section 3.4", steps=600_000, schedule="plateau", augment="flip-crop", crop_fraction=224 / 256
)
HE2015_CIFAR = Recipe(
    paper="1512.03385, section 4.2",
    steps=64_000,
    batch_size=128,
    schedule="steps",
    milestones=(0.5, 0.75),
    augment="cifar",
)
# ResNet-110 starts at 0.01 until the training error is below 80 %: about 400 steps.
HE2015_CIFAR_110 = HE2015_CIFAR.replace(warmup_steps=400, warmup_learning_rate=0.01, warmup_linear=False)
PREACT2016 = HE2015_CIFAR_110.replace(paper="1603.05027, appendix")
WRN2016 = Recipe(
    paper="1605.07146, section 3",
    epochs=200,
    batch_size=128,
    nesterov=True,
    weight_decay=5e-4,
    schedule="steps",
    milestones=(0.3, 0.6, 0.8),
    factor=0.2,
    augment="cifar",
    dropout_rate=0.3,
)
# Batches are each replica's, which updated the weights by itself. Momentum, decay, the average and the auxiliary weight
# are the authors' code's: tensorflow/models, research/slim.
INCEPTIONV3 = Recipe(
    paper="1512.00567, sections 7 and 8",
    epochs=100,
    batch_size=32,
    optimizer="rmsprop",
    epsilon=1.0,
    weight_decay=4e-5,
    clip_norm=2.0,
    ema=0.9999,
    learning_rate=0.045,
    schedule="exponential",
    factor=0.94,
    decay_epochs=2,
    label_smoothing=0.1,
    augment="inception",
    auxiliary_weight=0.4,
)
DENSENET2016_CIFAR = Recipe(
    paper="1608.06993, section 4.2",
    epochs=300,
    batch_size=64,
    nesterov=True,
    schedule="steps",
    milestones=(0.5, 0.75),
    augment="cifar",
)
DENSENET2016 = DENSENET2016_CIFAR.replace(epochs=90, batch_size=256, milestones=(1 / 3, 2 / 3), augment="inception")
# Nesterov, the length and the milestones are from the authors' code: facebookresearch/ResNeXt, opts.lua, train.lua.
RESNEXT2017 = Recipe(
    paper="1611.05431, section 5",
    epochs=100,
    nesterov=True,
    schedule="steps",
    milestones=(0.3, 0.6, 0.9),
    augment="inception",
)
SENET2018 = RESNEXT2017.replace(paper="1709.01507, section 6.1", batch_size=1024, learning_rate=0.6, nesterov=False)
BAG_OF_TRICKS = Recipe(
    paper="1812.01187, sections 2.1, 3.1 and 5",
    epochs=200,
    batch_size=1024,
    learning_rate=0.4,
    nesterov=True,
    decay_norms_and_biases=False,
    warmup_epochs=5,
    warmup_shifts=True,
    label_smoothing=0.1,
    augment="inception",
    mixup=0.2,
    zero_init_residual=True,
)
RSB_A1 = Recipe(
    paper="2110.00476, table 2",
    epochs=600,
    batch_size=2048,
    optimizer="lamb",
    epsilon=1e-6,
    clip_norm=1.0,
    learning_rate=5e-3,
    weight_decay=0.01,
    decay_norms_and_biases=False,
    warmup_epochs=5,
    warmup_learning_rate=1e-6,
    label_smoothing=0.1,
    binary=True,
    augment="randaugment-m7-mstd0.5-p0.5",
    mixup=0.2,
    cutmix=1.0,
    repeats=3,
    drop_path_rate=0.05,
    image_size=224,
    crop_fraction=0.95,
)
RSB_A2 = RSB_A1.replace(epochs=300, weight_decay=0.02, label_smoothing=0.0, mixup=0.1)
RSB_A3 = RSB_A2.replace(
    epochs=100,
    learning_rate=8e-3,
    augment="randaugment-m6-mstd0.5-p0.5",
    repeats=1,
    drop_path_rate=0.0,
    image_size=160,
)
# The paper gives no length. At a factor of 0.98 per epoch, 300 epochs bring the learning rate to 0.2 % of its start.
MOBILENETV2 = Recipe(
    paper="1801.04381, section 6.1",
    epochs=300,
    batch_size=96,
    optimizer="rmsprop",
    epsilon=1.0,
    weight_decay=4e-5,
    learning_rate=0.045,
    schedule="exponential",
    factor=0.98,
    augment="inception",
)
# The paper uses AutoAugment, which is not implemented here. Its authors later replaced it by RandAugment
# (arXiv:1909.13719).
EFFICIENTNET = Recipe(
    paper="1905.11946, section 5.2",
    epochs=350,
    batch_size=4096,
    optimizer="rmsprop",
    epsilon=1e-3,
    weight_decay=1e-5,
    decay_norms_and_biases=False,
    ema=0.9999,
    learning_rate=0.256,
    schedule="exponential",
    factor=0.97,
    decay_epochs=2.4,
    warmup_epochs=5,
    label_smoothing=0.1,
    augment="randaugment",
    head_dropout_rate=0.2,
    drop_path_rate=0.2,
)
REPVGG2021 = Recipe(paper="2101.03697, section 4.1", epochs=120, decay_norms_and_biases=False, augment="inception")
# The average and the augmentation are the authors' code's (imankgoyal/NonDeepNetworks). The paper's warm-up takes "a
# few" epochs, and its weight decay is not given.
PARNET2021 = Recipe(
    paper="2110.07641, section 4",
    epochs=120,
    batch_size=2048,
    ema=0.9999,
    learning_rate=0.8,
    schedule="steps",
    milestones=(0.25, 0.5, 0.75),
    warmup_epochs=5,
    label_smoothing=0.1,
    augment="randaugment-m9-mstd0.5",
)
FINE_TUNE = Recipe(
    paper="1805.08974, appendix A.5", epochs=20, nesterov=True, learning_rate=0.01, weight_decay=0.0, augment="auto"
)
QUICK = Recipe(
    epochs=15, batch_size=128, nesterov=True, weight_decay=5e-4, warmup_epochs=1, label_smoothing=0.0, augment="auto"
)

NAMES = {name.lower().replace("_", "-"): value for name, value in list(globals().items()) if isinstance(value, Recipe)}


def get(recipe: str | Recipe) -> Recipe:
    """Returns the recipe of a name, such as "bag-of-tricks"; a `Recipe` is returned as it is.

    Raises:
        ValueError: if there is no recipe of that name; it names the closest ones.
    """
    if isinstance(recipe, Recipe):
        return recipe
    checks.choice("recipe", recipe, NAMES)
    return NAMES[recipe]


def name(recipe: Recipe) -> str | None:
    """Returns the name of a published recipe, and None for others."""
    return next((name for name, known in NAMES.items() if known == recipe), None)
