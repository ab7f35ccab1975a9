"""The command's standard error: without what TensorFlow says while it starts, with everything else."""

import os
import subprocess
import sys
import textwrap
import warnings

import pytest

from kresnet import terminal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")

# As TensorFlow 2.21 and LiteRT 2.3 write them.
START_UP = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795683886.235740     370 cudart_stub.cc:31] Could not find cuda drivers on your machine
2026-11-26 09:05:11.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is optimized
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.
E0000 00:00:1795690878.170176   14524 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to \
cuInit: UNKNOWN ERROR (303)
E0000 00:00:1795690878.170176   14524 cuda_fft.cc:485] Unable to register cuFFT factory: one has been registered
2026-11-26 09:05:11.123456: W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find \
TensorRT
W0000 00:00:1795691040.912243   15404 tf_tfl_flatbuffer_helpers.cc:364] Ignored output_format.
fully_quantize: 0, inference_type: 6, input_inference_type: UINT8, output_inference_type: FLOAT32
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
"""
REAL = """\
W0000 00:00:1795691040.912243   15404 cpu_allocator_impl.cc:83] Allocation of 1 exceeds 10% of free system memory.
E0000 00:00:1795690878.170176   14524 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_OUT_OF_MEMORY
ERROR: Didn't find op for builtin opcode 'CONV_2D' version '9'.
F0000 00:00:1795690878.170176   14524 tensor.cc:1] Check failed: dtype() == expected
"""
# Of a broken image within a dataset, which the command names itself.
TOLD = """\
W0000 00:00:1795722253.200117   18708 op_kernel.cc:1845] INVALID_ARGUMENT: ValueError: a.jpg: not a complete image
Traceback (most recent call last):

  File "tensorflow/python/ops/script_ops.py", line 269, in __call__
    ret = func(*args)
          ^^^^^^^^^^^

ValueError: a.jpg: not a complete image


\t [[{{node PyFuncStateless}}]]
W0000 00:00:1795722253.246293   18720 local_rendezvous.cc:412] Local rendezvous is aborting with status: \
INVALID_ARGUMENT: assertion failed: [Labels in `data` must be whole numbers]
\t [[{{node Assert}}]]
"""


def run(code, afterwards=""):
    """Runs code with `without_start_up_lines` open; `native` writes to descriptor 2 as C++ does."""
    program = "import os, sys, time\nfrom kresnet.terminal import without_start_up_lines\n"
    program += f"START_UP, REAL, TOLD = {START_UP!r}, {REAL!r}, {TOLD!r}\n"
    program += "def native(text): os.write(2, text.encode())\n"
    program += "with without_start_up_lines():\n" + textwrap.indent(textwrap.dedent(code), "    ") + "\n" + afterwards
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_only_start_up_lines_are_kept_off():
    done = run("native(START_UP + REAL + START_UP)\nprint('out')\nnative('no newline')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", f"{REAL}no newline")


def test_what_the_command_says_itself_is_not_said_before_in_other_words():
    done = run("native(TOLD + REAL + TOLD)")
    assert done.stderr == REAL
    done = run("native(REAL + '  indented, but of nothing told\\n' + TOLD + 'Fatal Python error: Aborted\\n')")
    assert done.stderr == REAL + "  indented, but of nothing told\nFatal Python error: Aborted\n"


def test_what_python_says_goes_through_as_it_is():
    done = run(
        "print('INFO: of Python', file=sys.stderr)\nnative('INFO: of C++\\n')\nimport warnings; warnings.warn('w')"
    )
    assert done.stderr.startswith("INFO: of Python\n")
    assert "UserWarning: w" in done.stderr
    assert "of C++" not in done.stderr


def test_a_crash_and_a_failing_import_say_all_that_they_have_to_say():
    done = run("native(START_UP + REAL)\nos.abort()")
    assert (done.returncode, done.stderr) == (-6, REAL)
    done = run("native(START_UP + 'ld: no symbol\\n')\nimport nothing_of_this_name")
    assert done.returncode == 1
    assert done.stderr.startswith("ld: no symbol\nTraceback")
    assert done.stderr.endswith("No module named 'nothing_of_this_name'\n")


def test_a_program_that_goes_on_does_not_hold_the_command_up():
    """Such as a browser, which has the same standard error."""
    code = """
        import subprocess, kresnet.terminal
        kresnet.terminal.LEAVING = 0.05
        subprocess.Popen(["sleep", "1"], stdout=subprocess.DEVNULL)
        start = time.monotonic()
        """
    done = run(code, "print(time.monotonic() - start < 0.9)\nnative('after')")
    assert (done.stdout, done.stderr) == ("True\n", "after")


def test_a_warning_of_ours_is_one_line():
    with terminal.plain_warnings():
        assert warnings.formatwarning("too few", UserWarning, terminal.__file__, 7) == "kresnet: too few\n"
        elsewhere = warnings.formatwarning("theirs", UserWarning, "/elsewhere/x.py", 7)
        assert elsewhere.startswith("/elsewhere/x.py:7: UserWarning: theirs")
    assert warnings.formatwarning("w", UserWarning, terminal.__file__, 7).startswith(terminal.__file__)
