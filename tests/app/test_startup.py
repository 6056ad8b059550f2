"""What commands do before they import TensorFlow."""

import os
import platform

import pytest
from tones import python, run_command

from leaf_audio.app import (
    main,
    plot,
    report_page,
    startup,
    study,
    trained_flags,
)

pytestmark = pytest.mark.any_backend

# Prints how many pages the system had to provide for arrays that are freed.
COUNT_FAULTS = """
import resource, sys, threading
import numpy as np
from leaf_audio.app import startup

if sys.argv[1] == "keep":
    startup.keep_freed_memory()

def use_and_free():
    for _ in range(60):
        # More than what glibc learns to keep by itself.
        np.ones(10 * 2**20, "float32")

use_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use_and_free()
thread = threading.Thread(target=use_and_free)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc"
)
@pytest.mark.slow
def test_memory_that_is_freed_is_used_again():
    kept, returned = (
        int(python("-c", COUNT_FAULTS, mode).stdout)
        for mode in ("keep", "default")
    )
    assert kept < returned / 2


@pytest.mark.parametrize("chosen, used", [(None, "1"), ("0", "0")])
def test_onednn_is_used_unless_the_user_decides(monkeypatch, chosen, used):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", chosen)
    startup.prefer_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == used


# Runs `leaf-audio` with the given arguments, then prints whether TensorFlow
# computes with oneDNN.
COMMAND = """
import sys
# By this name, the package does not import TensorFlow at once.
sys.argv[0] = "leaf-audio"
from leaf_audio.app import cli

try:
    cli.run()
except SystemExit as end:
    print(end)
from tensorflow.python.util import _pywrap_util_port

print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is for x86"
)
def test_other_commands_than_training_use_onednn_too(monkeypatch, tmp_path):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    # The file is no model, so the command ends after its imports.
    model = tmp_path / "some.keras"
    model.write_text("no model")
    process = python("-c", COMMAND, "predict", f"--model={model}", __file__)
    end, is_used = process.stdout.splitlines()
    assert "must be a .keras file" in end
    assert is_used == "True"


def test_every_command_prepares_for_tensorflow(monkeypatch):
    # So that the variable is as before after the test.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    calls = []
    monkeypatch.setattr(startup, "keep_freed_memory", lambda: calls.append(1))
    with startup.importing_libraries():
        assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
        assert calls == [1]
    for command in (main, study):
        assert command.importing_libraries is startup.importing_libraries
    startup.import_backend()
    assert calls == [1, 1]
    for command in (plot, report_page, trained_flags):
        assert command.import_backend is startup.import_backend


@pytest.mark.parametrize("name", ["export", "plot", "report", "study", "train"])
def test_a_command_without_operands_takes_none(name):
    done = run_command(name, "extra")
    assert done.returncode == 1
    assert "Unexpected arguments: ['extra']." in done.stdout + done.stderr


def assert_interrupted(code):
    done = python("-c", code, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in done.stderr


def command(*lines):
    """Returns the code of a command that does what some lines say."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"""
import gc, signal, sys, time
from leaf_audio.app import startup

def press(*_):
    gc.callbacks.clear()
    signal.raise_signal(signal.SIGINT)

def main(argv):
{body}
    print("went on")

sys.argv = ["leaf-audio"]
startup.run_main(main)
"""


@pytest.mark.parametrize("outcome", ["pass", "raise ImportError from None"])
def test_ctrl_c_ends_imports_whatever_a_library_does(outcome):
    assert_interrupted(
        command(
            "with startup.importing_libraries():",
            "    try:",
            "        press()",
            "    except BaseException:",
            f"        {outcome}",
        )
    )


def test_ctrl_c_during_a_garbage_collection_is_obeyed():
    """Python raises no error there."""
    assert_interrupted(
        command("gc.callbacks.append(press)", "gc.collect()", "time.sleep(60)")
    )


def test_paths_in_flags_may_begin_with_the_home_folder():
    code = """
import sys
from absl import flags
from leaf_audio.app import startup
for name in ("output", "workdir"):
    flags.DEFINE_string(name, None, "x")
flags.DEFINE_multi_string("gin_config", [], "x")
def main(argv):
    given = flags.FLAGS
    print(given.output, given.workdir, given.gin_config)
sys.argv = ["leaf-audio", "--output=~/x", "--gin_config=~/a.gin"]
startup.run_main(main)
"""
    told = python("-c", code, HOME="/home/me").stdout
    assert told == "/home/me/x None ['/home/me/a.gin']\n"


def test_ctrl_c_ends_a_command_with_a_line():
    """Also while it imports its libraries."""
    code = """
import os, signal, sys
sys.argv = ["leaf-audio", "--gin_config=quickstart.gin"]
from leaf_audio.app import main
# Where the command begins to hold back messages of the imports.
os.dup = lambda descriptor: signal.raise_signal(signal.SIGINT)
main.run()
"""
    assert_interrupted(code)


def test_a_command_runs_with_stderr_closed(tmp_path):
    """No file gets what is written there, nor does stdout."""
    code = """
import os, sys
os.close(2)
sys.stderr = None
from leaf_audio.app import startup

def main(argv):
    with startup.without_startup_messages():
        with open(sys.argv[1], "w"):
            os.write(2, b"message of a library")
    print("message of a command", file=sys.stderr)
    print("went on")

sys.argv[0] = "leaf-audio"
startup.run_main(main, "FILE")
"""
    file = tmp_path / "file"
    assert python("-c", code, str(file)).stdout == "went on\n"
    assert file.read_bytes() == b""


def test_messages_of_imports_need_no_stderr(tmp_path):
    code = """
import os, sys
from leaf_audio.app import startup
os.close(2)
with startup.without_startup_messages(), open(sys.argv[1], "w"):
    os.write(2, b"message of a library")
print("went on")
"""
    file = tmp_path / "file"
    assert python("-c", code, str(file)).stdout == "went on\n"
    assert file.read_bytes() == b""
