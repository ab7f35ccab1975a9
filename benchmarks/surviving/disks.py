"""Full disks while saving. Survived: the error says so, nothing is left over, and the old one is at the path as before.

Where this is root the disk is a tmpfs that has so many bytes left; elsewhere files have a largest size, and TensorFlow
and libraries in C fail at it as they do on a full disk.
"""

import contextlib
import os
import resource
import shutil
import subprocess

from surviving import saves
from surviving.child import attempt

COUNT, QUICK = 20, 2
DISK = 32 << 20  # bytes


def tries(folder, rng, quick):
    names = saves.forms(quick)
    count = QUICK if quick else COUNT
    pairs = {name: saves.Pair(folder / "made" / name, name) for name in names}
    with _disk(folder / "disk") as fill:
        for i in range(count):
            name = names[i % len(names)]
            pair = pairs[name]
            pair.path = folder / "disk" / "there" / name
            pair.restore()
            free = int(rng.uniform(0, 0.9) * _size(pair.made[1]))
            before = sorted(os.listdir(pair.path.parent))
            limit = fill(free)
            outcome = attempt(_write, pair.path, limit, seconds=60)
            fill(None)
            yield _wrong(pair, outcome, before)
            for one in pair.path.parent.iterdir():
                shutil.rmtree(one) if one.is_dir() else one.unlink()


def _wrong(pair, outcome, before):
    what = saves.FORMS[pair.path.name]
    if outcome.ended or outcome.error is None:
        return f"{what}: {outcome.ended or 'it was written, though there was no room'}"
    said = outcome.error[1]
    if not any(words in said.lower() for words in ("no space", "too large", "errno = 28", "errno 28", "errno = 27")):
        return f"{what}: the error does not say why: {outcome.error}"
    left = sorted(os.listdir(pair.path.parent))
    if left != before:
        return f"{what}: left over: {left}"
    return pair.wrong()


def _write(path, limit):
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    saves.write(path, True)


def _size(path):
    return sum(one.stat().st_size for one in path.rglob("*")) if path.is_dir() else path.stat().st_size


@contextlib.contextmanager
def _disk(folder):
    """Yields a function that leaves so many bytes on the disk at the folder, or all for None; it returns a limit on the
    size of files where that takes the disk's place."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    ballast = folder / "ballast"

    def fill(free):
        ballast.unlink(missing_ok=True)
        if free is None or not mounted:
            return free
        there = os.statvfs(folder)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, there.f_bavail * there.f_frsize - free))
        return None

    try:
        yield fill
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)
