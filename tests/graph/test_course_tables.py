"""The figures of well-known lectures, counted by `kresnet.cost`, and where those err.

Johnson, EECS 498-007 / 598-005, lecture 8, "CNN Architectures"; Li, Johnson and Yeung, CS231n 2017, lecture 9; Zhang et
al., "Dive into Deep Learning", chapter 8. Their KB and MB are of 1024 and 1024^2 bytes of float32, their FLOPs
multiply-adds unless said otherwise, and their parameters leave out biases.
"""

import keras
import pytest
from keras import layers

import kresnet
from kresnet.layers import conv, max_pool
from kresnet.models.early import Conv

pytestmark = pytest.mark.usefixtures("no_weights")


def weights(row):
    """A layer's parameters without its biases."""
    return row.params - row.output_shape[-1] if row.params else 0


def printed(model, names=("conv", "pool", "dense", "predictions")):
    """Returns KB, thousands of weights and millions of multiply-adds of the layers whose names hold one of those."""
    rows = [row for row in kresnet.cost(model).rows if any(name in row.name for name in names)]
    rows = [row for row in rows if not row.name.endswith("_pad")]
    return [(row.activation_bytes / 1024, weights(row) / 1e3, row.macs / 1e6) for row in rows]


def near(table):
    """What rounds to the table's whole numbers."""
    return [pytest.approx(row, abs=0.51) for row in table]


def functional(size, channels, build):
    image = keras.Input((size, size, channels))
    return keras.Model(image, build(image))


def test_alexnet_layer_by_layer():
    """The lecture's table is of the one tower, at 227 pixels: torchvision's widths and padding give 56x56 maps then."""
    table = [
        *((784, 23, 73), (182, 0, 0), (547, 307, 224), (127, 0, 0)),
        *((254, 664, 112), (169, 885, 150), (169, 590, 100), (36, 0, 0)),
        *((16, 37_749, 38), (16, 16_777, 17), (4, 4096, 4)),
    ]
    model = kresnet.AlexNet(input_shape=(227, 227, 3))
    assert printed(model) == near(table)
    (first,) = [row for row in kresnet.cost(model).rows if row.name == "stage1_conv1"]
    assert (first.output_shape, first.params, first.activation_bytes) == ((56, 56, 64), 23_296, 784 * 1024)
    assert first.macs == 72_855_552


def test_a_batch_in_alexnet_s_first_layer():
    """96 filters are the paper's: 27 GFLOPs of 128 images, two a multiply-add, forward alone. 283.6 MB are its maps
    twice: as values and as gradients, or before and after the ReLU; the weights are not among them."""
    costs = kresnet.cost(kresnet.AlexNet2012(), batch_size=128)
    (first,) = [row for row in costs.rows if row.name == "stage1_conv1"]
    assert (first.output_shape, first.params) == ((55, 55, 96), 34_944)  # 23,296 of the one tower's 64 filters
    assert 2 * 128 * first.macs / 1e9 == pytest.approx(27.0, abs=0.05)
    assert 2 * first.activation_bytes / 1024**2 == pytest.approx(283.6, abs=0.05)  # 297.4 million bytes


def stem(image):
    """GoogLeNet's, to 28x28 pixels: arXiv:1409.4842, table 1."""
    x = conv(image, 64, 7, stride=2, bias=True, name="conv1")
    x = max_pool(x, nonnegative=True, name="pool1")
    x = conv(x, 64, 1, bias=True, name="conv2")
    x = conv(x, 192, 3, bias=True, name="conv3")
    return max_pool(x, nonnegative=True, name="pool2")


def test_googlenet_s_stem():
    rows = printed(functional(224, 3, stem))
    assert rows == near([(3136, 9, 118), (784, 0, 0), (784, 4, 13), (2352, 111, 347), (588, 0, 0)])
    kilobytes, thousands, millions = map(sum, zip(*rows, strict=True))
    assert kilobytes / 1024 == pytest.approx(7.5, abs=0.05)
    assert thousands == pytest.approx(124, abs=0.51)
    assert millions == pytest.approx(478, abs=0.51)  # the lecture prints 418, though its rows sum to this


def test_googlenet_s_stem_beside_vgg_s_first_stages():
    """42.9 MB, 1.1 M weights and 7485 MFLOPs, printed as VGG-16's, are those of six convolutions: VGG-13's."""
    assert _to_28_pixels(kresnet.VGG13()) == pytest.approx((42.9, 1.145, 7485), rel=1e-3)
    vgg16 = _to_28_pixels(kresnet.VGG16())
    assert vgg16 == pytest.approx((45.94, 1.735, 9335), rel=1e-3)
    assert vgg16[2] / 478 == pytest.approx(19.5, abs=0.05)  # times the stem's; 17.8 in the lecture


def _to_28_pixels(vgg):
    rows = printed(vgg, ("stage1_conv", "stage2_conv", "stage3_conv"))
    kilobytes, thousands, millions = map(sum, zip(*rows, strict=True))
    return kilobytes / 1024, thousands / 1e3, millions


def inception(reduced):
    """CS231n's example: 1x1 convolutions of 64 channels before the 3x3 and 5x5, and behind the pooling."""

    def build(x):
        def reduce(x, name):
            return conv(x, 64, 1, bias=True, name=f"reduce_{name}") if reduced else x

        pooled = layers.MaxPooling2D(3, 1, "same", name="pool")(x)
        branches = [
            conv(x, 128, 1, bias=True, name="conv1"),
            conv(reduce(x, "3"), 192, 3, bias=True, name="conv3"),
            conv(reduce(x, "5"), 96, 5, bias=True, name="conv5"),
            reduce(pooled, "pool"),
        ]
        return layers.Concatenate(name="module")(branches)

    return functional(28, 256, build)


def test_an_inception_module():
    """Without reductions 854 million; with them the lecture prints 358, though its own six terms sum to 271: it has the
    3x3 convolution's 87 twice."""
    plain, reduced = inception(False), inception(True)
    assert (plain.output_shape[-1], reduced.output_shape[-1]) == (672, 480)
    assert kresnet.cost(plain).macs / 1e6 == pytest.approx(854, abs=0.51)
    costs = kresnet.cost(reduced)
    assert costs.macs / 1e6 == pytest.approx(271, abs=0.51)
    (three,) = [row.macs for row in costs.rows if row.name == "conv3"]
    assert (costs.macs + three) / 1e6 == pytest.approx(358, abs=0.51)


def test_last_layers_of_vgg16_and_googlenet():
    head = printed(kresnet.VGG16(), ("dense", "predictions"))
    assert [row[1:] for row in head] == near([(102_760, 103), (16_777, 17), (4096, 4)])
    pooled = functional(7, 1024, lambda x: layers.Dense(1000, name="dense")(layers.GlobalAveragePooling2D()(x)))
    (last,) = printed(pooled, ("dense",))
    assert last[1:] == pytest.approx((1024, 1.024))


def test_first_dense_layers():
    """LeNet's 48 thousand, AlexNet's 26 million, VGG's 102 (102.8) million. 26 is of maps of 5x5 pixels, which the
    book's AlexNet has (padding of 1, 224 pixels); those of the paper and of torchvision have 6x6: 38 million."""
    first, second, last = Conv(96, 11, 4, 1, then=("max3",)), Conv(256, 5, then=("max3",)), Conv(256, 3, then=("max3",))
    book = (first, second, Conv(384, 3), Conv(384, 3), last)
    models = {
        "LeNet": (kresnet.LeNet5(), 400 * 120),
        "the book's AlexNet": (kresnet.AlexNet(rows=book, head_size=5), 5 * 5 * 256 * 4096),
        "AlexNet": (kresnet.AlexNet2012(), 6 * 6 * 256 * 4096),
        "VGG": (kresnet.VGG16(), 7 * 7 * 512 * 4096),
    }
    for name, (model, expected) in models.items():
        (first,) = [row for row in kresnet.cost(model).rows if row.name == "head_dense1"]
        assert weights(first) == first.macs == expected, name
        assert not any(row.kind == "AdaptiveAveragePooling2D" for row in kresnet.cost(model).rows), name
    assert [expected for _, expected in models.values()] == [48_000, 26_214_400, 37_748_736, 102_760_448]


@pytest.mark.parametrize(("builder", "factor"), [("ResNet18", 2 * 9), ("ResNet50", 4 + 9 + 4)])
def test_a_basic_block_costs_18_and_a_bottleneck_17(builder, factor):
    """In H W C^2, the bottleneck's outer maps having 4 C channels."""
    rows = kresnet.cost(getattr(kresnet, builder)()).rows
    block = [row for row in rows if row.name.startswith("stage2_block2_conv")]
    assert sum(row.macs for row in block) == factor * 56 * 56 * 64**2


@pytest.mark.parametrize("groups", [2, 4, 32])
def test_groups_divide_the_cost(groups):
    whole, grouped = (
        kresnet.cost(functional(14, 64, lambda x, g=g: conv(x, 128, 3, groups=g, name="conv"))) for g in (1, groups)
    )
    assert whole.macs == groups * grouped.macs
    assert whole.params == groups * grouped.params


def test_depthwise_separable_convolutions_are_up_to_nine_times_cheaper():
    """By 1 / (1/C + 1/9) of C channels: nearly 9, and never 10. MobileNet's own, of 512."""
    rows = {row.name: row for row in kresnet.cost(kresnet.MobileNet(alpha=1.0)).rows}
    name = next(
        name for name, row in rows.items() if row.kind == "DepthwiseConv2D" and row.output_shape == (14, 14, 512)
    )
    depthwise = rows[name]
    pointwise = list(rows.values())[list(rows).index(name) :]
    pointwise = next(row for row in pointwise if row.kind == "Conv2D")
    whole = 14 * 14 * 9 * 512 * 512
    ratio = whole / (depthwise.macs + pointwise.macs)
    assert pointwise.output_shape == (14, 14, 512)
    assert ratio == pytest.approx(1 / (1 / 512 + 1 / 9)) == pytest.approx(8.84, abs=0.005)


def test_receptive_fields_of_vgg16():
    """Two 3x3 convolutions see 5x5 pixels, three 7x7; behind a pooling each counts twice as many."""
    rows = {row.name: row.receptive_field[0] for row in kresnet.cost(kresnet.VGG16()).rows if row.receptive_field}
    assert [rows[f"stage1_conv{i}"] for i in (1, 2)] == [3, 5]
    assert [rows[f"stage{i}_conv{n}"] for i, n in zip(range(1, 6), (2, 2, 3, 3, 3), strict=True)] == [
        5,
        14,
        40,
        92,
        196,
    ]
    assert [rows[f"stage{i}_pool"] for i in range(1, 6)] == [6, 16, 44, 100, 212]
