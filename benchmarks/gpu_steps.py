"""One training loop of `gpu.py`, alone in its process: prints how long windows of steps took, as a line of JSON.

    KERAS_BACKEND=jax python benchmarks/gpu_steps.py LOOP [NETWORK] [--batch 256] [--size 224]
        [--steps 20] [--windows 5]

Every loop is given the same uint8 batches in the host's memory, computes in bfloat16 with float32 weights, and takes
SGD steps with momentum 0.9. The first window, which compiles, is not counted.
"""

import argparse
import functools
import json
import math
import time

import numpy as np

TIMM = {"ResNet50": "resnet50", "ResNeXt50_32x4d": "resnext50_32x4d", "EfficientNetB0": "efficientnet_b0"}
CLASSES = 1000


def host_batches(batch, size):
    """Returns two batches, so that none is on the device already when its turn comes."""
    random = np.random.default_rng(0)
    shape = (batch, size, size, 3)
    return [(random.integers(0, 256, shape, "uint8"), random.integers(0, CLASSES, batch, "int32")) for _ in range(2)]


def fit(build, batch, size, steps, windows):
    """Trains by `model.fit`."""
    import keras

    class Windows(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # after the loss was read, so every step is done
            self.seconds.append(time.perf_counter() - self.start)

    keras.config.set_dtype_policy("mixed_bfloat16")
    batches = host_batches(batch, size)

    def forever():
        while True:
            yield from batches

    model = build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    clock = Windows()
    model.fit(forever(), epochs=windows + 1, steps_per_epoch=steps, callbacks=[clock], verbose=0)
    return clock.seconds[1:], jax_peak(), model


def kresnet_loop(network, batch, size, *window, **fields):
    import kresnet

    shape = (size, size, 3)
    build = functools.partial(getattr(kresnet, network), input_shape=shape, weights=None, classes=CLASSES, **fields)
    seconds, peak, model = fit(build, batch, size, *window)
    return seconds, peak, floor(model)


def same_loop(network, *arguments):
    """Trains the network that keras.applications has by this name, built by kresnet."""
    from train_step import NETWORKS

    return kresnet_loop(network, *arguments, **NETWORKS[network])


def keras_loop(network, batch, size, *window):
    import keras

    def build():
        inputs = keras.Input((size, size, 3))
        pixels = inputs if network.startswith("Efficient") else keras.layers.Rescaling(1 / 127.5, -1)(inputs)
        body = getattr(keras.applications, network)(input_shape=(size, size, 3), weights=None, classes=CLASSES)
        return keras.Model(inputs, body(pixels))

    return *fit(build, batch, size, *window)[:2], {}


def floor(model):
    """Returns the bytes that a training step must move for an image, at the least, and its floating-point operations.

    In bfloat16, and as if every elementwise operation were fused into what comes before it. A convolution reads its
    input and writes its output, reads both gradients' operands and writes the input's gradient. A batch norm reads its
    input for the statistics and to normalize, and writes; backwards it reads input and gradient twice and writes once.
    An addition reads its second operand, and its gradient is read once more.
    """
    import keras

    import kresnet

    elements = 0
    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        before, after = math.prod(inputs[0].shape[1:]), math.prod(layer.output.shape[1:])
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            elements += 3 * (before + after)
        elif isinstance(layer, keras.layers.BatchNormalization):
            elements += 8 * after
        elif isinstance(layer, keras.layers.Add | keras.layers.Multiply):
            elements += 2 * after
        elif isinstance(layer, keras.layers.MaxPooling2D):
            elements += 3 * before + 2 * after
    return {"bytes": 2 * elements, "flops": 6 * kresnet.cost(model).macs}


def ceilings(*_):
    """Measures what the device can do: a copy's bytes a second, read and written, and a matrix product's FLOP/s."""
    import jax
    import jax.numpy as jnp

    small = jax.default_backend() == "cpu"
    row, side = jnp.ones(2**20 if small else 2**30, "bfloat16"), 512 if small else 8192
    matrix = jax.random.normal(jax.random.key(0), (side, side), "bfloat16")
    rates = {}
    for name, step, x, amount in (
        ("bytes_per_second", jax.jit(lambda x: x + 1), row, 2 * row.nbytes),
        ("flops_per_second", jax.jit(lambda x: x @ matrix), matrix, 2 * side**3),
    ):
        jax.block_until_ready(step(x))
        times = []
        for _ in range(10):
            start = time.perf_counter()
            jax.block_until_ready([step(x) for _ in range(10)])
            times.append((time.perf_counter() - start) / 10)
        rates[name] = amount / sorted(times)[5]
    return [], None, rates


def jax_loop(network, batch, size, steps, windows):
    """Trains ResNet-50 (v1.5) by a step written for JAX alone: what `fit` is measured against."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    if network != "ResNet50":
        raise SystemExit(f"Only ResNet50 is written by hand. Received: {network}")
    random = np.random.default_rng(0)

    def kernel(side, inputs, outputs):
        draw = random.standard_normal((side, side, inputs, outputs), "float32")
        return draw * np.float32(math.sqrt(2 / (side * side * outputs)))

    def unit(side, inputs, outputs):  # a convolution and its norm
        return {
            "kernel": kernel(side, inputs, outputs),
            "gamma": np.ones(outputs, "float32"),
            "beta": np.zeros(outputs, "float32"),
        }

    weights, strides, channels = {"stem": unit(7, 3, 64), "blocks": []}, [], 64
    for width, depth, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(depth):
            block = [unit(1, channels, width), unit(3, width, width), unit(1, width, 4 * width)]
            if index == 0:
                block.append(unit(1, channels, 4 * width))
            weights["blocks"].append(block)
            strides.append(first if index == 0 else 1)
            channels = 4 * width
    weights["dense"] = kernel(1, channels, CLASSES)[0, 0] * np.float32(0.1), np.zeros(CLASSES, "float32")

    def apply(x, p, stride, moments):
        pad = p["kernel"].shape[0] // 2
        y = lax.conv_general_dilated(
            x,
            p["kernel"].astype("bfloat16"),
            (stride, stride),
            [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        wide = y.astype("float32")
        mean = wide.mean((0, 1, 2))
        variance = jnp.square(wide).mean((0, 1, 2)) - jnp.square(mean)
        moments.append((mean, variance))
        scale = p["gamma"] * lax.rsqrt(variance + 1e-5)
        return (wide * scale + (p["beta"] - mean * scale)).astype("bfloat16")

    def loss(weights, images, labels):
        moments = []
        x = ((images.astype("float32") - 127.5) / 60).astype("bfloat16")
        x = jax.nn.relu(apply(x, weights["stem"], 2, moments))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
        for block, stride in zip(weights["blocks"], strides, strict=True):
            y = jax.nn.relu(apply(x, block[0], 1, moments))
            y = jax.nn.relu(apply(y, block[1], stride, moments))
            y = apply(y, block[2], 1, moments)
            x = jax.nn.relu(y + (apply(x, block[3], stride, moments) if len(block) == 4 else x))
        kernel, bias = weights["dense"]
        logits = x.mean((1, 2), "float32") @ kernel + bias
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        return -picked.mean(), moments

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, images, labels):
        weights, velocity, averages = state
        (value, moments), gradient = jax.value_and_grad(loss, has_aux=True)(weights, images, labels)
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.01 * g, velocity, gradient)
        weights = jax.tree.map(jnp.add, weights, velocity)
        averages = jax.tree.map(lambda a, m: 0.9 * a + 0.1 * m, averages, moments)
        return (weights, velocity, averages), value

    widths = [p["gamma"] for p in [weights["stem"], *(p for block in weights["blocks"] for p in block)]]
    state = jax.device_put((weights, jax.tree.map(np.zeros_like, weights), [(0 * w, 1 * w) for w in widths]))
    batches, seconds = host_batches(batch, size), []
    for _ in range(windows + 1):
        start = time.perf_counter()
        ahead = jax.device_put(batches[0])
        for index in range(steps):
            now, ahead = ahead, jax.device_put(batches[(index + 1) % 2])
            state, value = step(state, *now)
        assert np.isfinite(value)
        seconds.append(time.perf_counter() - start)
    return seconds[1:], jax_peak(), {}


def timm_loop(network, batch, size, steps, windows):
    """Trains timm's network, compiled, channels last."""
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    model = timm.create_model(TIMM[network], num_classes=CLASSES).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    @torch.compile
    def loss(images, labels):
        pixels = ((images.float() - 127.5) / 60).permute(0, 3, 1, 2)
        with torch.autocast(device, torch.bfloat16):
            logits = model(pixels)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    batches = [
        (torch.from_numpy(images), torch.from_numpy(labels).long()) for images, labels in host_batches(batch, size)
    ]
    if device == "cuda":
        batches = [tuple(part.pin_memory() for part in pair) for pair in batches]
    seconds = []
    for _ in range(windows + 1):
        start = time.perf_counter()
        for index in range(steps):
            images, labels = (part.to(device, non_blocking=True) for part in batches[index % 2])
            optimizer.zero_grad(set_to_none=True)
            value = loss(images, labels)
            value.backward()
            optimizer.step()
        assert np.isfinite(value.item())
        seconds.append(time.perf_counter() - start)
    return seconds[1:], torch.cuda.max_memory_allocated() if device == "cuda" else None, {}


def jax_peak():
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


LOOPS = {
    "kresnet": kresnet_loop,
    "kresnet, as keras": same_loop,
    "keras.applications": keras_loop,
    "jax": jax_loop,
    "timm": timm_loop,
    "ceilings": ceilings,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("network", nargs="?", default="ResNet50")
    parser.add_argument("--batch", type=int, default=256, help="images per step")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--steps", type=int, default=20, help="per window")
    parser.add_argument("--windows", type=int, default=5, help="that are counted")
    options = parser.parse_args()
    arguments = options.network, options.batch, options.size, options.steps, options.windows
    seconds, peak, more = LOOPS[options.loop](*arguments)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, **more}))


if __name__ == "__main__":
    main()
