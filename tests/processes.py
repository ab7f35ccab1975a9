"""Python in other processes: fresh ones, and one on JAX that stays."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap

COMMAND = os.path.join(os.path.dirname(sys.executable), "kresnet")
# For what does not depend on the backend: JAX starts in half of TensorFlow's time.
QUICKEST = "jax" if importlib.util.find_spec("jax") else "tensorflow"

# Answers go to what was the standard output, where nothing else can be printed any more.
LOOP = """
import contextlib, io, json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    printed, error = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            exec(json.loads(line), {})
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps([printed.getvalue(), error]), file=answers, flush=True)
"""


def _environment(changes):
    return os.environ | {"CUDA_VISIBLE_DEVICES": ""} | changes


def python(code, **environment):
    """Runs Python code in a fresh process and returns what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=_environment(environment), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Python:
    """A process that stays: each call runs code in it, in a namespace of its own, and returns what the code prints."""

    def __init__(self, **environment):
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", LOOP], env=_environment(environment), **pipes)

    def __call__(self, code):
        print(json.dumps(textwrap.dedent(code)), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"the process ended with {self.process.wait()}"
        printed, error = json.loads(answer)
        assert error is None, error
        return printed

    def end(self):
        self.process.communicate()
