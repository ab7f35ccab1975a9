"""Builds the wheel and the source archive, installs each in a new environment, and tries it there (`make package`).

Takes some minutes and 5 GB: TensorFlow is installed twice.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).parent.parent
LIMIT = 2_000_000  # bytes of the wheel

# What must be in a wheel besides the code.
DATA = (
    *("kresnet/models/networks.csv", "kresnet/weights/imagenet.csv", "kresnet/weights/pretrained.csv"),
    *("kresnet/evaluation/pages/report.html", "kresnet/inference/pages/demo.html", "kresnet/search/pages/compare.html"),
    *("kresnet/py.typed", "kresnet/__init__.pyi"),
)

# Run where the clone cannot be imported by chance.
SMOKE = """
import pathlib, numpy as np, tensorflow as tf, kresnet
assert "site-packages" in kresnet.__file__, kresnet.__file__
assert len(kresnet.list_models()) > 100 and kresnet.list_weights("resnet50")
model = kresnet.ResNet20(classes=3)
images = np.zeros((6, 32, 32, 3), "uint8")
data = tf.data.Dataset.from_tensor_slices((images, np.arange(6) % 3)).batch(3)
kresnet.train(model, data, "quick", out="run", epochs=1, validation_data=data)
assert "<html" in pathlib.Path("run/report.html").read_text()
kresnet.export(model, "x.tflite", labels=["a", "b", "c"], latency=False)
assert kresnet.decode_predictions(np.eye(1, 1000), top=1)[0][0][1] == "tench"
assert kresnet.compare("vgg1?", "compare.html")
print("all of it works")
"""


def build(out: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Builds into a folder and returns the wheel and the source archive."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, ROOT], check=True, stdout=subprocess.DEVNULL)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def check_wheel(wheel: pathlib.Path) -> None:
    """Raises an error if a wheel is too large, or lacks data."""
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = [name for name in DATA if name not in names]
    if missing or wheel.stat().st_size >= LIMIT:
        raise ValueError(f"The wheel is wrong. Received: {wheel.stat().st_size} bytes, without {missing}")


def try_in_new_environment(archive: pathlib.Path) -> None:
    """Installs an archive, and nothing else, where nothing is installed, and runs `SMOKE`."""
    with tempfile.TemporaryDirectory() as folder:
        python = pathlib.Path(folder) / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", archive], check=True)
        subprocess.run([python, "-c", SMOKE], check=True, cwd=folder)
        subprocess.run([python.parent / "kresnet", "list", "resnet1*"], check=True, cwd=folder)


if __name__ == "__main__":
    found = build(ROOT / "dist")
    check_wheel(found[0])
    for archive in found:
        try_in_new_environment(archive)
        print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.1f} MB")
