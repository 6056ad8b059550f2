"""The command that tells labels while audio comes in."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
from tones import ROOT, run_command

pytestmark = pytest.mark.any_backend

YES = pathlib.Path(__file__).parents[1] / "recordings" / "yes.flac"
MODEL = "--model=speech_commands"


@pytest.fixture
def two_words():
    samples, rate = soundfile.read(YES, dtype="float32")
    return np.concatenate([samples, samples]), rate


def from_stdin(data, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "example.stream", MODEL, *arguments, "-"],
        input=data,
        cwd=ROOT,
        capture_output=True,
        timeout=300,
    )


def starts_and_labels(printed):
    lines = [line.split() for line in printed.splitlines()]
    return [(line[0], line[2]) for line in lines]


def test_a_file_is_told_window_by_window(tmp_path, two_words):
    samples, rate = two_words
    path = tmp_path / "two.wav"
    soundfile.write(path, soxr.resample(samples, rate, 22050), 22050)
    printed = run_command("stream", MODEL, "--hop=1", str(path)).stdout
    assert starts_and_labels(printed) == [
        ("0.00-1.00", "yes"),
        ("1.00-2.00", "yes"),
    ]
    unread = run_command("stream", MODEL, str(tmp_path / "none.wav"))
    assert unread.returncode == 1
    assert unread.stderr.count("\n") == 1
    assert "none.wav', which is no file" in unread.stderr


def test_a_silent_file_is_told_as_by_predict(tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(40000), 16000)
    told = run_command("stream", MODEL, str(path)).stderr
    assert told == run_command("predict", MODEL, "--hop=1", str(path)).stderr
    assert "silent.wav' is silent: the samples do not change" in told
    assert "silent" not in run_command("stream", MODEL, str(YES)).stderr


def test_the_end_of_a_short_file_is_told(tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(32)), 16000)
    for command in (("stream",), ("predict", "--hop=1")):
        told = run_command(*command, MODEL, str(path)).stdout
        assert "0.000000-0.002000 s: " in told


@pytest.mark.slow
def test_raw_samples_come_from_standard_input(two_words):
    samples, rate = two_words
    raw = (32767 * soxr.resample(samples, rate, 44100)).astype("int16")
    done = from_stdin(raw.tobytes(), "--rate=44100", "--threshold=0.9")
    assert done.returncode == 0
    printed = starts_and_labels(done.stdout.decode())
    assert ("0.00-1.00", "yes") in printed and ("1.00-2.00", "yes") in printed


@pytest.mark.slow
def test_the_last_window_is_told_also_if_half_a_sample_is_left(two_words):
    samples, rate = two_words
    raw = (32767 * samples).astype("int16").tobytes()
    done = from_stdin(raw[: 2 * 20000] + b"a")
    assert done.returncode == 0 and b"half a sample" in done.stderr
    assert done.stdout.splitlines()[-1].startswith(b"0.25-1.25 s: ")


@pytest.mark.slow
def test_a_closed_standard_input_is_told():
    command = f"{sys.executable} -m example.stream {MODEL} - <&-"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, timeout=300
    )
    assert done.returncode == 1
    assert (
        done.stderr == b"Error: standard input must be open. Received: none.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", b"Received: nothing"),
        (YES.read_bytes(), b"an audio file; give its name"),
    ],
)
def test_other_input_ends_with_one_line(data, reason):
    done = from_stdin(data)
    assert done.returncode == 1
    assert reason in done.stderr and done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "one recording must be given.*Received: none"),
        (["one.wav", "two.wav"], "Received: one.wav two.wav"),
        (["--rate=8000", "one.wav"], "rate=8000 with one.wav"),
    ],
)
def test_wrong_use_is_told_at_once(arguments, reason):
    done = run_command("stream", MODEL, *arguments)
    assert done.returncode == 1
    assert re.fullmatch(f"Error: .*{reason}.*\n", done.stderr)
