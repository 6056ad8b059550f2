"""A tiny data set and tiny models, for tests of training."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import warnings
from unittest import mock

import numpy as np
import pytest
import soundfile
from absl.testing import flagsaver

from leaf_audio import data
from leaf_audio.app import cli

SAMPLE_RATE = 4000
CLIPS = {"train": 7, "validation": 3, "test": 3}
LABELS = {"high": 1500.0, "low": 200.0, "mid": 600.0}
ROOT = pathlib.Path(__file__).parents[1]

# 21 training clips of 1/8 s, 4 steps an epoch.
SMALL = (
    "train.dataset = 'audio_folder'",
    "train.batch_size = 6",
    f"data.load.sample_rate = {SAMPLE_RATE}",
    "data.prepare.transform_fns = [@align]",
    "align.seq_len = 500",
)
CONV_NET = (
    "AudioClassifier.encoder = @ConvNet()",
    "ConvNet.filters = [4, 4]",
    "ConvNet.block = @ConvBlock",
)
MEL = (
    "AudioClassifier.frontend = @MelFilterbanks()",
    f"MelFilterbanks.sample_rate = {SAMPLE_RATE}",
    "MelFilterbanks.n_filters = 8",
)
LEAF = (
    "AudioClassifier.frontend = @Leaf()",
    f"Leaf.sample_rate = {SAMPLE_RATE}",
    "Leaf.n_filters = 4",
)


def write_tones(folder: pathlib.Path) -> pathlib.Path:
    """Writes `<split>/<label>/*.wav`: noisy tones, three classes."""
    rng = np.random.default_rng(0)
    time = np.arange(600) / SAMPLE_RATE
    for split, count in CLIPS.items():
        for label, frequency in LABELS.items():
            place = folder / split / label
            place.mkdir(parents=True)
            for i in range(count):
                phase = rng.uniform(0, 2 * np.pi)
                tone = np.sin(2 * np.pi * frequency * time + phase)
                samples = 0.3 * tone + 0.3 * rng.standard_normal(len(time))
                soundfile.write(
                    place / f"{i}.wav", samples.clip(-1, 1), SAMPLE_RATE
                )
    return folder


def bindings(
    folder: pathlib.Path,
    *more: str,
    frontend: tuple[str, ...] = MEL,
    encoder: tuple[str, ...] = CONV_NET,
) -> list[str]:
    """Returns bindings that train on the tones; later ones override."""
    return [
        f"audio_folder.path = '{folder / 'tones'}'",
        f"train.data_dir = '{folder / 'prepared'}'",
        *SMALL,
        *frontend,
        *encoder,
        *more,
    ]


def one_step(
    folder: pathlib.Path, workdir: pathlib.Path, seq_len: int
) -> list[str]:
    """Returns bindings for a step of a shipped recipe on the tones."""
    return [
        "train.dataset = 'audio_folder'",
        f"audio_folder.path = '{folder / 'tones'}'",
        f"train.data_dir = '{folder / 'prepared'}'",
        f"train.workdir = '{workdir}'",
        "train.num_epochs = 1",
        "train.steps_per_epoch = 1",
        "train.warmup_epochs = 0",
        "train.batch_size = 8",
        f"align.seq_len = {seq_len}",
    ]


def python(
    *arguments: str, check: bool = True, **environment: str
) -> subprocess.CompletedProcess:
    """Runs Python in a process of its own, with the package in its path."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.run(
        [sys.executable, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if check and process.returncode:
        raise AssertionError(process.stdout + process.stderr)
    return process


def run_command(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `leaf-audio NAME ARGUMENT...` in this process.

    A process of its own would first import Keras and TensorFlow, which takes
    seconds. Use `python` where that, or what libraries print, matters.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        flagsaver.flagsaver(),
        mock.patch.object(sys, "argv", sys.argv),
        mock.patch.dict(os.environ),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        # Others are errors.
        warnings.simplefilter("always", data.DataWarning)
        cli.run([name, *arguments])
    code = end.value.code or 0
    if isinstance(code, str):
        print(code, file=err)
        code = 1
    return subprocess.CompletedProcess(
        [name, *arguments], code, out.getvalue(), err.getvalue()
    )


def main_flags(some_bindings: list[str]) -> list[str]:
    """Returns the flags of example.main that set bindings."""
    return [f"--gin_bindings={binding}" for binding in some_bindings]


def flag_values(flags: list[str], name: str) -> list[str]:
    """Returns what `--name=` is given among the flags of a command."""
    start = f"--{name}="
    return [f.removeprefix(start) for f in flags if f.startswith(start)]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the content of each file below a folder, by its name."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
