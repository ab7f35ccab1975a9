"""One competitor of `peers.py`, alone in its process: answers commands, a line each, with the seconds they took.

    KERAS_BACKEND=tensorflow python benchmarks/peers_loop.py COMPETITOR NETWORK [--size 224] [--threads 1]

The commands are `train`, `infer1`, `infer32` and `memory`. The first line, unasked, is the start: the seconds from the
process's own beginning to the first prediction, with imports and the building of the network. On a CPU they are the
processor's seconds, which what else runs does not change; on a GPU those of a clock.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

CLASSES = 1000


def keras_steps(build, batches):
    import keras

    model = build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    return {"train": lambda: model.train_on_batch(*batches[32]), **inference_steps(model, batches)}


def inference_steps(model, batches):
    return {f"infer{n}": functools.partial(model.predict_on_batch, x) for n, (x, _) in batches.items()}


def kresnet_network(network, size):
    import kresnet

    return kresnet.create_model(network, input_shape=(size, size, 3), weights=None, classes=CLASSES)


def kresnet_steps(network, batches, size):
    return keras_steps(lambda: kresnet_network(network, size), batches)


def folded_steps(network, batches, size):
    from kresnet.deploy import fold_batch_norm

    return inference_steps(fold_batch_norm(kresnet_network(network, size)), batches)


def applications_steps(network, batches, size):
    import keras

    names = {"resnet50": "ResNet50", "mobilenetv2_100": "MobileNetV2", "efficientnet_b0": "EfficientNetB0"}
    build = getattr(keras.applications, names[network])
    return keras_steps(lambda: build(input_shape=(size, size, 3), weights=None, classes=CLASSES), batches)


def timm_steps(network, batches, size, compiled=False):
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = timm.create_model(network, num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    run = torch.compile(model) if compiled else model
    # An array of channels last, seen with its axes in PyTorch's order, is a tensor in channels last.
    given = {n: (torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y).long()) for n, (x, y) in batches.items()}

    def train():
        model.train()
        images, labels = (tensor.to(device) for tensor in given[32])
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    def infer(n):
        model.eval()
        with torch.inference_mode():
            return torch.softmax(run(given[n][0].to(device)), -1).cpu().numpy()

    return {"train": train, **{f"infer{n}": functools.partial(infer, n) for n in batches}}


def exported(network, size, name, folder):
    """Exports a network in a process of its own, so that only the runtime is seen here."""
    code = "import sys, kresnet; m = kresnet.create_model(sys.argv[1], input_shape=(int(sys.argv[2]),) * 2 + (3,));"
    code += "kresnet.export(m, sys.argv[3], latency=False)"
    command = [sys.executable, "-c", code, network, str(size), f"{folder}/{name}"]
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return command[-1]


def litert_steps(network, batches, size):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(exported(network, size, "network.tflite", folder)).read_bytes()
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file, num_threads=len(os.sched_getaffinity(0)))
    run = interpreter.get_signature_runner()
    (name,) = run.get_input_details()

    def infer(n):
        for image in batches[n][0].astype("uint8"):  # the file takes them one by one
            run(**{name: image[None]})

    return {f"infer{n}": functools.partial(infer, n) for n in batches}


def onnx_steps(network, batches, size):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        file = exported(network, size, "network.onnx", folder)
        session = onnxruntime.InferenceSession(file, settings, providers=onnxruntime.get_available_providers())
    (name,) = (entry.name for entry in session.get_inputs())
    return {
        f"infer{n}": functools.partial(session.run, None, {name: x.astype("uint8")}) for n, (x, _) in batches.items()
    }


COMPETITORS = {
    "kresnet": kresnet_steps,
    "kresnet, folded": folded_steps,
    "keras.applications": applications_steps,
    "timm": timm_steps,
    "timm, compiled": functools.partial(timm_steps, compiled=True),
    "LiteRT": litert_steps,
    "ONNX Runtime": onnx_steps,
}


def clock():
    """Returns the clock that counts what the competitor does: the processor's on a CPU."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    if "keras" in sys.modules:
        import keras

        on_gpu = any("gpu" in name.lower() or "cuda" in name.lower() for name in keras.distribution.list_devices())
    return time.perf_counter if on_gpu else time.process_time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("competitor", choices=COMPETITORS)
    parser.add_argument("network")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    random = np.random.default_rng(0)
    batches = {
        n: (random.uniform(0, 255, (n, options.size, options.size, 3)).astype("float32"), np.arange(n, dtype="int32"))
        for n in (1, 32)
    }
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else can be printed among the answers

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    steps = COMPETITORS[options.competitor](options.network, batches, options.size)
    steps["infer1"]()
    answer({"start": time.process_time(), "steps": sorted(steps)})
    for line in sys.stdin:
        command = line.strip()
        if command == "memory":
            answer(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            continue
        now = clock()
        before = now()
        steps[command]()
        answer(now() - before)


if __name__ == "__main__":
    main()
