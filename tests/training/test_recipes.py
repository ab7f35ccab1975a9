"""Recipes against the numbers in their papers, and optimizers and losses against NumPy."""

import keras
import numpy as np
import pytest

import kresnet
from kresnet import optimizers, recipes
from kresnet.training.losses import Crossentropy, top1, top5
from kresnet.training.recipe import Recipe

IMAGENET_EPOCH = 5004  # updates of 256 images


@pytest.mark.parametrize(
    ("recipe", "steps_per_epoch", "rates"),
    [
        ("he2015-cifar", 352, {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}),
        ("he2015-cifar-110", 352, {0: 0.01, 399: 0.01, 400: 0.1, 32_000: 0.01}),
        ("preact2016", 352, {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 48_000: 0.001}),
        ("wrn2016", 390, {0: 0.1, 60 * 390 - 1: 0.1, 60 * 390: 0.02, 120 * 390: 0.004, 160 * 390: 0.0008}),
        ("densenet2016", 5004, {0: 0.1, 30 * 5004 - 1: 0.1, 30 * 5004: 0.01, 60 * 5004: 1e-3, 90 * 5004: 1e-3}),
        ("densenet2016-cifar", 782, {0: 0.1, 150 * 782 - 1: 0.1, 150 * 782: 0.01, 225 * 782: 1e-3}),
        ("resnext2017", 5004, {0: 0.1, 30 * 5004 - 1: 0.1, 30 * 5004: 0.01, 60 * 5004: 1e-3, 90 * 5004: 1e-4}),
        ("senet2018", 1251, {0: 0.6, 30 * 1251: 0.06, 60 * 1251: 0.006, 90 * 1251: 0.0006}),
        # Half a cosine after five epochs of warm-up.
        ("bag-of-tricks", 1251, {0: 0.0, 5 * 1251 // 2: 0.2, 5 * 1251: 0.4, 205 * 1251 // 2: 0.2, 200 * 1251: 0.0}),
        ("rsb-a1", 625, {0: 1e-6, 5 * 625: 5e-3 * (1 + np.cos(np.pi * 5 / 600)) / 2, 300 * 625: 2.5e-3}),
        ("rsb-a3", 625, {0: 1e-6, 50 * 625: 4e-3, 100 * 625: 0.0}),
        ("googlenet2014", 100, {0: 0.01, 799: 0.01, 800: 0.0096, 1600: 0.009216}),
        ("inceptionv3", 100, {0: 0.045, 199: 0.045, 200: 0.0423, 400: 0.039762}),
        ("repvgg2021", 5004, {0: 0.1, 60 * 5004: 0.05, 120 * 5004: 0.0}),
        ("parnet2021", 625, {0: 0.0, 5 * 625: 0.8, 30 * 625: 0.08, 60 * 625: 0.008, 90 * 625: 8e-4}),
        ("mobilenetv2", 1000, {0: 0.045, 999: 0.045, 1000: 0.0441, 2000: 0.043218}),
        ("efficientnet", 313, {0: 0.0, 5 * 313: 0.256 * 0.97**2, 751 * 10: 0.256 * 0.97**10}),
    ],
)
def test_learning_rates(recipe, steps_per_epoch, rates):
    schedule = recipes.get(recipe).learning_rates(steps_per_epoch)
    found = {step: float(schedule(step)) for step in rates}
    assert found == pytest.approx(rates, rel=1e-3, abs=1e-6)


def test_recipes_with_auxiliary_losses():
    """Szegedy et al. 2014, section 5; Szegedy et al. 2016, sections 7 and 8."""
    assert (recipes.GOOGLENET2014.auxiliary_weight, recipes.GOOGLENET2014.momentum) == (0.3, 0.9)
    third = recipes.INCEPTIONV3
    numbers = (third.optimizer, third.rho, third.epsilon, third.clip_norm, third.label_smoothing, third.epochs)
    assert numbers == ("rmsprop", 0.9, 1.0, 2.0, 0.1, 100)
    assert third.model_fields() == {"auxiliary": True}
    with pytest.raises(ValueError, match=r"`auxiliary_weight` must be a number of at least 0. Received: .*=-0.3"):
        third.replace(auxiliary_weight=-0.3)


def test_lengths():
    assert recipes.HE2015.total_steps(IMAGENET_EPOCH) == 600_000
    assert recipes.HE2015_CIFAR.total_steps(352) == 64_000
    assert recipes.WRN2016.total_steps(390) == 78_000
    # With other batch sizes the number of images stays, and milestones stay at their fractions.
    assert recipes.HE2015_CIFAR.total_steps(176, batch_size=256) == 32_000
    assert float(recipes.HE2015_CIFAR.learning_rates(176, batch_size=256)(15_999)) == pytest.approx(0.2)
    assert float(recipes.HE2015_CIFAR.learning_rates(176, batch_size=256)(16_000)) == pytest.approx(0.02)
    short = recipes.HE2015_CIFAR.replace(epochs=4).learning_rates(100)
    assert [float(short(step)) for step in (199, 200, 300)] == pytest.approx([0.1, 0.01, 0.001])


def test_the_first_two_divide_on_a_plateau():
    """Krizhevsky et al. 2012, section 5; Simonyan and Zisserman 2015, section 3.1."""
    for recipe, batch in ((recipes.ALEXNET2012, 128), (recipes.VGG2014, 256)):
        numbers = (recipe.learning_rate, recipe.batch_size, recipe.weight_decay, recipe.momentum, recipe.factor)
        assert numbers == (0.01, batch, 5e-4, 0.9, 0.1)
        assert (recipe.schedule, recipe.head_dropout_rate) == ("plateau", 0.5)
    assert recipes.ALEXNET2012.total_steps(10_010) == 90 * 10_010
    assert recipes.VGG2014.total_steps(IMAGENET_EPOCH) == 370_000


def test_he2015_divides_on_a_plateau():
    recipe = recipes.HE2015
    assert (recipe.learning_rate, recipe.batch_size, recipe.weight_decay, recipe.momentum) == (0.1, 256, 1e-4, 0.9)
    assert recipe.learning_rates(IMAGENET_EPOCH) == 0.1
    (plateau,) = recipe.callbacks()
    assert isinstance(plateau, keras.callbacks.ReduceLROnPlateau)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "softmax")])
    model.compile(recipe.optimizer_for(10), recipe.loss())
    plateau.set_model(model)
    plateau.on_train_begin()
    for epoch in range(7):
        plateau.on_epoch_end(epoch, {"val_accuracy": 0.5})
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_published_values():
    r = recipes
    assert (r.WRN2016.weight_decay, r.WRN2016.nesterov, r.WRN2016.dropout_rate) == (5e-4, True, 0.3)
    assert (r.SENET2018.batch_size, r.SENET2018.learning_rate) == (1024, 0.6)
    b = r.BAG_OF_TRICKS
    assert (b.label_smoothing, b.mixup, b.zero_init_residual, b.decay_norms_and_biases) == (0.1, 0.2, True, False)
    a = [r.RSB_A1, r.RSB_A2, r.RSB_A3]
    assert [one.epochs for one in a] == [600, 300, 100]
    assert [one.image_size for one in a] == [224, 224, 160]
    assert [one.learning_rate for one in a] == [5e-3, 5e-3, 8e-3]
    assert [one.weight_decay for one in a] == [0.01, 0.02, 0.02]
    assert [one.label_smoothing for one in a] == [0.1, 0.0, 0.0]
    assert [one.mixup for one in a] == [0.2, 0.1, 0.1]
    assert [one.repeats for one in a] == [3, 3, 1]
    assert [one.drop_path_rate for one in a] == [0.05, 0.05, 0.0]
    assert all((one.optimizer, one.batch_size, one.binary, one.cutmix) == ("lamb", 2048, True, 1.0) for one in a)
    m, e = r.MOBILENETV2, r.EFFICIENTNET
    assert (m.optimizer, m.rho, m.momentum, m.weight_decay, m.batch_size) == ("rmsprop", 0.9, 0.9, 4e-5, 96)
    assert (e.optimizer, e.ema, e.weight_decay, e.batch_size) == ("rmsprop", 0.9999, 1e-5, 4096)
    assert (e.learning_rate, e.drop_path_rate, e.head_dropout_rate) == (0.256, 0.2, 0.2)


def test_replace_and_errors():
    assert recipes.HE2015.replace(epochs=90).steps is None
    assert recipes.get("wrn2016") is recipes.WRN2016
    assert recipes.name(recipes.WRN2016) == "wrn2016"
    for call, match in [
        (lambda: recipes.get("wrn2O16"), r"Did you mean 'wrn2016'.*Received: recipe='wrn2O16'"),
        (lambda: recipes.WRN2016.replace(lr=1), "Received: field of a recipe='lr'"),
        (lambda: recipes.WRN2016.replace(momentum=1.5), r"Received: momentum=1\.5"),
        (lambda: recipes.WRN2016.replace(augment="cifra"), "Received: augment='cifra'"),
        (lambda: recipes.WRN2016.replace(milestones=(0.6, 0.3)), r"Received: milestones=\(0\.6, 0\.3\)"),
        (lambda: Recipe(), "exactly one of `epochs` and `steps`"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()


def test_a_plateau_has_no_warm_up():
    with pytest.raises(ValueError, match=r'which "plateau" is not. Received: warmup_epochs=1'):
        Recipe(epochs=9, schedule="plateau", warmup_epochs=1)


# Optimizers

KERNEL = np.array([[1.0, -2.0], [0.5, 3.0]])
BIAS = np.array([1.0, -1.0])
GRADIENTS = [(np.full((2, 2), 0.1 * (i + 1)), np.array([0.3, -0.2 * i])) for i in range(4)]


def run(optimizer):
    variables = [keras.Variable(KERNEL, dtype="float32"), keras.Variable(BIAS, dtype="float32")]
    optimizer.build(variables)
    for gradients in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], variables)
    return [np.asarray(v) for v in variables]


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "lamb"])
def test_weight_decay_is_coupled(kind, everything):
    """Four steps against NumPy. Without `everything` the bias does not decay."""
    common = {"weight_decay": 0.1, "decay_norms_and_biases": everything}
    if kind == "sgd":
        optimizer = optimizers.SGD(0.5, momentum=0.9, nesterov=True, **common)
    elif kind == "rmsprop":
        optimizer = optimizers.RMSprop(0.5, rho=0.8, momentum=0.9, epsilon=1e-3, **common)
    else:
        optimizer = optimizers.Lamb(0.5, epsilon=1e-6, **common)
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    found = run(optimizer)
    for i, start in enumerate((KERNEL, BIAS)):
        decay = 0.1 if everything or i == 0 else 0.0
        w, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
        for step, gradients in enumerate(GRADIENTS, 1):
            g = gradients[i] + (0 if kind == "lamb" else decay * w)
            if kind == "sgd":
                m = 0.9 * m + g
                w = w - 0.5 * (g + 0.9 * m)
            elif kind == "rmsprop":
                v = 0.8 * v + 0.2 * g * g
                m = 0.9 * m + 0.5 * g / np.sqrt(v + 1e-3)
                w = w - m
            else:
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6) + decay * w
                trust = np.linalg.norm(w) / np.linalg.norm(update) if decay else 1.0
                w = w - 0.5 * trust * update
        np.testing.assert_allclose(found[i], w, rtol=1e-4)


def test_decayed_variables_by_name():
    model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), se_reduction=4, input_shape=(32, 32, 3), classes=3)
    optimizer = recipes.BAG_OF_TRICKS.optimizer_for(10)
    decayed = {v.path.split("/")[-1] for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    left = {v.path.split("/")[-1] for v in model.trainable_variables if not optimizer._use_weight_decay(v)}
    assert (decayed, left) == ({"kernel"}, {"bias", "gamma", "beta"})
    everything = recipes.HE2015.optimizer_for(10)
    assert all(everything._use_weight_decay(v) for v in model.trainable_variables)
    assert not any(recipes.FINE_TUNE.optimizer_for(10)._use_weight_decay(v) for v in model.trainable_variables)


# Losses

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], "float32")


def test_crossentropy():
    labels = np.array([0, 1])
    expected = -(np.log(0.7) + np.log(0.3)) / 2
    for y in (labels, labels[:, None], np.eye(3)[labels]):
        assert float(Crossentropy()(y, PROBABILITIES)) == pytest.approx(expected, rel=1e-5)
    smooth = np.eye(3)[labels] * 0.9 + 0.1 / 3
    expected = -(smooth * np.log(PROBABILITIES)).sum(1).mean()
    assert float(Crossentropy(0.1)(labels, PROBABILITIES)) == pytest.approx(expected, rel=1e-5)
    mixed = np.array([[0.6, 0.4, 0.0], [0.0, 0.1, 0.9]])
    expected = -(mixed * np.log(PROBABILITIES)).sum(1).mean()
    assert float(Crossentropy()(mixed, PROBABILITIES)) == pytest.approx(expected, rel=1e-5)


def test_binary_crossentropy_takes_mixed_classes_as_whole():
    mixed = np.array([[0.6, 0.4, 0.0], [0.0, 0.1, 0.9]])
    whole = np.array([[1, 1, 0], [0, 0, 1]])  # 0.1 is below the threshold
    p = PROBABILITIES.astype(float)
    for smoothing in (0.0, 0.1):
        target = whole * (1 - smoothing) + smoothing / 3
        expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
        assert float(Crossentropy(smoothing, binary=True)(mixed, PROBABILITIES)) == pytest.approx(expected, rel=1e-4)


def test_accuracies():
    p = np.eye(8)[[0, 1, 2]] + np.linspace(0, 0.5, 8)
    assert np.asarray(top1([0, 1, 3], p)).tolist() == [1, 1, 0]
    assert np.asarray(top1(np.eye(8)[[0, 1, 3]], p)).tolist() == [1, 1, 0]
    assert np.asarray(top5([0, 3, 1], p)).tolist() == [1, 0, 0]
    assert np.asarray(top5([0, 4, 5], p)).tolist() == [1, 1, 1]
