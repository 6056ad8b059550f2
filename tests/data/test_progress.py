"""The progress bar."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_backend

PRINTS_ITEMS = """
from leaf_audio.data.progress import progress

with progress(["one", "two"], 2, "Reading", transient=True) as items:
    for item in items:
        print(item)
"""


def test_what_is_printed_meanwhile_reaches_a_file_behind_stdout(tmp_path):
    path = tmp_path / "stdout.txt"
    with open(path, "w") as file:
        # As if stderr were a terminal, as in `leaf-audio predict x.wav > file`.
        done = subprocess.run(
            [sys.executable, "-c", PRINTS_ITEMS],
            env=os.environ | {"FORCE_COLOR": "1"},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
    assert done.returncode == 0, done.stderr
    assert "Reading" in done.stderr
    assert path.read_text().split() == ["one", "two"]
