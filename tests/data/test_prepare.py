"""The command that only prepares data."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from audio_files import put, sine
from tones import ROOT, run_command

pytestmark = pytest.mark.any_backend


def prepare(tmp_path, *more):
    return run_command(
        *("prepare", "--gin_config=mel.gin", "--gin_config=audio_folder.gin"),
        f"--gin_bindings=audio_folder.path = '{tmp_path / 'clips'}'",
        f"--data_dir={tmp_path / 'prepared'}",
        *more,
    )


def test_data_is_prepared_and_described(tmp_path):
    for label in ("low", "high"):
        for i in range(10):
            hz = (200 if label == "low" else 2000) + 10 * i
            put(tmp_path / f"clips/{label}/{i}.wav", sine(hz, seconds=0.9))
    (tmp_path / "clips/low/bad.wav").write_bytes(b"no audio")

    refused = prepare(tmp_path)
    assert refused.returncode == 1
    assert "file='low/bad.wav'" in refused.stderr
    assert "Traceback" not in refused.stderr

    skip = "--gin_bindings=audio_folder.on_error = 'skip'"
    found = prepare(tmp_path, skip)
    assert found.returncode == 0, found.stderr
    # What the first call has stored is used.
    assert "Preparing" in refused.stderr
    assert "Preparing" not in found.stderr
    assert "audio: 0.01 hours at 16000 Hz" in found.stdout
    assert "low/bad.wav" in found.stdout
    (line,) = [x for x in found.stdout.splitlines() if "prepared:" in x]
    folder = pathlib.Path(line.split(": ")[1])
    info = json.loads((folder / "info.json").read_text())
    assert info["label_names"] == ["high", "low"]
    assert np.isclose(info["sample_rate"], 16000)


def test_a_mistake_is_told_in_a_line(tmp_path):
    refused = prepare(tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: `audio_folder.path` must be")


@pytest.mark.slow
def test_two_processes_may_prepare_a_set_of_tfds(tmp_path):
    command = [
        *(sys.executable, "-m", "example.prepare"),
        *("--gin_config=quickstart.gin", f"--data_dir={tmp_path}"),
    ]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "clips: train 2100" in out
