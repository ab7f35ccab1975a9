"""What `save_weights` writes loads into timm's and torchvision's own networks, which then compute the same.

Skipped where PyTorch and these packages are not installed, as on most machines: no other test needs them.
"""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import kresnet

torch = pytest.importorskip("torch")

SIZE = 96
X = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), "uint8")
# The library, its network, and ours: its name and what it is built with.
NETWORKS = [
    *(("timm", name, name, {}) for name in ("resnet18", "resnet50d", "resnext50_32x4d", "seresnet50")),
    *(("timm", name, name, {}) for name in ("legacy_seresnet18", "legacy_seresnet50", "ecaresnet50t")),
    ("timm", "legacy_senet154", "senet154", {}),
    *(("timm", name, name, {}) for name in ("resnetrs50", "resnetaa50", "resnetblur50", "wide_resnet50_2")),
    *(("timm", name, name, {}) for name in ("resnetv2_18", "resnetv2_50", "resnetv2_50t")),
    *(("timm", name, name, {}) for name in ("mobilenetv1_100", "mobilenetv2_100", "mobilenetv2_110d")),
    *(("timm", name, name, {}) for name in ("efficientnet_b0", "efficientnet_lite0", "tf_efficientnet_b0")),
    ("timm", "tf_efficientnet_b0", "efficientnet_b0", {"padding": "same", "epsilon": 1e-3}),
    *(("timm", name, name, {}) for name in ("vgg11", "vgg11_bn")),
    *(("torchvision", name, name, {}) for name in ("resnet18", "resnext50_32x4d", "wide_resnet50_2", "vgg11_bn")),
    ("torchvision", "mobilenet_v2", "mobilenetv2_100", {}),
    ("torchvision", "efficientnet_b0", "efficientnet_b0", {}),
]


@pytest.fixture(scope="module", autouse=True)
def operators():
    """A torchvision without its compiled operators, which timm imports too, wants them declared."""
    if hasattr(torch.ops.torchvision, "nms"):
        yield
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    yield library  # which is to live as long as the tests


def theirs(library, name):
    if library == "timm":
        return pytest.importorskip("timm").create_model(name)
    return pytest.importorskip("torchvision").models.get_model(name, weights=None)


def randomised(model):
    """Gives norms and biases values that a layer cannot do without; the scales are low, or numbers would explode."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name == "gamma":
            variable.assign(rng.uniform(0.3, 0.7, variable.shape))
        elif variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(0.1 * rng.standard_normal(variable.shape))


@pytest.mark.parametrize(
    ("library", "theirs_name", "name", "fields"),
    [
        pytest.param(*network, id="-".join(network[:3]), marks=[] if network[1] == "resnet18" else pytest.mark.slow)
        for network in NETWORKS
    ],
)
def test_it_loads_strictly_and_computes_the_same(library, theirs_name, name, fields, tmp_path):
    original = theirs(library, theirs_name).eval()
    keras.backend.clear_session()
    model = kresnet.create_model(name, input_shape=(SIZE, SIZE, 3), classifier_activation=None, **fields)
    randomised(model)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout=library)
    state = {key: torch.from_numpy(value) for key, value in load_file(tmp_path / "x.safetensors").items()}
    original.load_state_dict(state, strict=True)
    spec = model.kresnet_config["spec"]
    pixels = (X / 255 - np.array(spec["mean"])) / np.array(spec["std"])
    with torch.no_grad():
        expected = original(torch.from_numpy(pixels.astype("float32").transpose(0, 3, 1, 2))).numpy()
    found = keras.ops.convert_to_numpy(model(X))
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()
