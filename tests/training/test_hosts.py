"""Two processes on 127.0.0.1 train one network under JAX; one is killed, and the run goes on."""

import csv
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from processes import QUICKEST, python

from kresnet import actions, cli
from kresnet.training import hosts

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "many_hosts"
# A shorter patience, so that the test need not wait a minute where only silence tells.
COMMAND = """
import sys
from kresnet.training import hosts
hosts.PATIENCE = 10
from kresnet import cli
sys.exit(cli.main())
"""
OPTIONS = "--data digits --image-size 8 --batch-size 256 --epochs 2 --checkpoint-every 2steps".split()
FIELDS = "--model depths=[1,1] widths=[8,8] expansion=1 stem=conv3".split()


def _start(count, out, *options):
    """Starts the processes of a job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    found = []
    for number in range(count):
        job = ["--coordinator", coordinator, "--processes", str(count), "--process-id", str(number)]
        command = [sys.executable, "-c", COMMAND, "train", *options, "--out", str(out), *(job if count > 1 else [])]
        with open(f"{out}-{number}.log", "w") as log:
            environment = os.environ | {"KERAS_BACKEND": "jax"}
            found.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True))
    return found


def _end(processes, out):
    """Waits for processes; returns their exit statuses, and what the first said."""
    statuses = [process.wait(timeout=120) for process in processes]
    with open(f"{out}-0.log") as log:
        return statuses, log.read()


def _history(out):
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if name != "images_per_second"} for row in rows]


@pytest.mark.slow
@pytest.mark.skipif(QUICKEST != "jax", reason="jax is not installed")
def test_a_job_that_loses_a_process_ends(tmp_path):
    """And says how to go on."""
    _lose_one(tmp_path / "killed")


@pytest.mark.thorough
@pytest.mark.skipif(QUICKEST != "jax", reason="jax is not installed")
def test_a_job_that_has_lost_a_process_goes_on(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    statuses, said = _end(_start(2, whole, "resnet20", *OPTIONS, *FIELDS), whole)
    assert statuses == [0, 0], said
    assert (whole / "report.html").exists()
    _lose_one(killed)
    statuses, said = _end(_start(2, killed, "--resume"), killed)
    assert statuses == [0, 0], said
    assert "Going on in epoch" in said
    assert _history(killed) == _history(whole)


def _lose_one(killed):
    """Trains as two processes into a folder, and kills one after the first epoch."""
    job = _start(2, killed, "resnet20", *OPTIONS, *FIELDS)
    end = time.monotonic() + 120
    while not (killed / "best.keras").exists():  # the first epoch is done
        assert time.monotonic() < end
        time.sleep(0.05)
    job[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    statuses, said = _end(job, killed)
    assert statuses == [2, -signal.SIGKILL], said
    assert "kresnet: Another of the 2 processes is lost" in said
    assert "--resume" in said.splitlines()[-1], said
    assert time.monotonic() - began < 60


@pytest.mark.thorough
@pytest.mark.skipif(QUICKEST != "jax", reason="jax is not installed")
def test_one_process_goes_on_with_the_run_of_two(tmp_path):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    statuses, said = _end(_start(1, whole, "resnet20", *OPTIONS, *FIELDS), whole)
    assert statuses == [0], said
    job = _start(2, ended, "resnet20", *OPTIONS, *FIELDS)
    end = time.monotonic() + 120
    while not (ended / "best.keras").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    job[1].terminate()  # both end after the same batch
    statuses, said = _end(job, ended)
    assert statuses == [128 + signal.SIGTERM] * 2, said
    statuses, said = _end(_start(1, ended, "--resume"), ended)
    assert statuses == [0], said
    for ours, theirs in zip(_history(ended), _history(whole), strict=True):
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-2)


ODD = """
from kresnet.training import hosts
for job in (("auto",), ("nohost",), ("127.0.0.1:1", 2), ("127.0.0.1:1", 2, 3), ("127.0.0.1:1", 0, 0)):
    try:
        hosts.join(*job)
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(QUICKEST != "jax", reason="jax is not installed")
def test_odd_jobs():
    """In a process in which nothing was computed yet."""
    cluster, address, number, high, none = python(ODD, KERAS_BACKEND="jax").splitlines()
    assert cluster.startswith("No cluster's variables tell what JAX needs")
    assert cluster.endswith("Received: coordinator='auto'")
    assert address == "`coordinator` is written HOST:PORT. Received: coordinator='nohost'"
    assert number.startswith("Give `process_id`, or set JAX_PROCESS_ID or JOB_COMPLETION_INDEX")
    assert high == "`process_id` is 0 to 1. Received: process_id=3"
    assert none.endswith("Received: processes=0")


def test_one_process_is_alone():
    assert (hosts.count(), hosts.index()) == (1, 0)
    hosts.wait("nothing")
    np.testing.assert_array_equal(hosts.summed(np.arange(3)), np.arange(3))
    assert hosts.largest(3) == 3
    with hosts.alone(), hosts.naming_a_lost_one():
        pass


@pytest.mark.parametrize("name", ["train.slurm", "job.yaml", "compose.yaml", "README.md"])
def test_the_examples_commands_are_understood(name, monkeypatch):
    text = (EXAMPLES / name).read_text()
    if name.endswith(".yaml"):
        yaml = pytest.importorskip("yaml")
        found = [document for document in yaml.safe_load_all(text) if document.get("kind") != "Service"]
        commands = [
            *[service["command"] for service in found[0].get("services", {}).values()],
            *[one["command"] for d in found if "spec" in d for one in d["spec"]["template"]["spec"]["containers"]],
        ]
    else:
        commands = [shlex.split(line) for line in re.findall(r"kresnet train .*", text.replace("\\\n", " "))]
        commands = [command for command in commands if len(command) > 3]
    parsed = []
    monkeypatch.setattr(actions, "train", lambda options: parsed.append(options) or 0)
    for command in commands:
        assert command[0] == "kresnet"
        assert cli.main(command[1:]) == 0
    assert parsed
    assert all(options.coordinator for options in parsed)
