"""Weights back out, with the names and forms of PyTorch's checkpoints."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import keras
import numpy as np

from kresnet import checks, files
from kresnet.graph.network import description
from kresnet.models import registry
from kresnet.weights import entries
from kresnet.weights.loading import torch_slots


def save_weights(model: keras.Model, path: str | os.PathLike, layout: str = "timm") -> None:
    """Writes a network's weights to a file that PyTorch's model of the same network loads.

    The file's header tells what the network is, so that `weights=path` builds it as it was here. It is written whole or
    not at all.

    Args:
        model: a network of ours, with or without its classifier.
        path: of the `.safetensors` to write.
        layout: whose names and forms: "timm" or "torchvision", or another of the family's layouts.

    Raises:
        ValueError: if the model is not one of our networks, or there is no network of its kind in that layout.
    """
    checks.require(Path(path).suffix == ".safetensors", "`path` must end in .safetensors", path=str(path))
    about = description(model)
    checks.require("spec" in about, "`model` must be one of kresnet's networks", model=getattr(model, "name", model))
    family = registry.family(about["family"])
    layers = [layer for layer in model.layers if layer.weights]
    spec = family.spec(**about["spec"])
    fitting = [one for one in family.layouts if not one.keras and one.fits(spec)]
    found = {one.title: matched[0] for one in fitting if (matched := torch_slots(layers, one))}
    # A title begins or goes on with whose it is: "ResNet, torchvision's and timm's".
    slots = next((found[title] for title in found if re.search(rf"(?<!\w){re.escape(str(layout))}'s\b", title)), None)
    checks.require(
        slots is not None,
        f"This network is in these layouts: {'; '.join(found) or 'none'}",
        layout=layout,
        model=model.name,
    )
    arrays = {slot.name: slot.form.write(keras.ops.convert_to_numpy(slot.variable)) for slot in slots}
    for slot in slots:
        if slot.variable.name == "moving_mean":  # PyTorch's norms count their steps
            arrays[slot.name.replace("running_mean", "num_batches_tracked")] = np.zeros((), "int64")
    from safetensors.numpy import save_file

    with files.replacing(path) as temporary:
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            temporary,
            metadata={"format": "pt", entries.METADATA: json.dumps(about)},
        )
