"""Several processes train one model as one process does."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from tones import ROOT, bindings, main_flags, python, write_tones

from leaf_audio.training import Workdir, processes, strategies

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.compiled
needs_jax = pytest.mark.skipif(
    BACKEND != "jax", reason="several processes train on JAX"
)

# An epoch is one step, so that metrics.csv has the loss of each step. The batch
# has statistics, which must be those of the whole batch.
STEPS = 20
RUN = (
    "train.batch_size = 12",
    "train.steps_per_epoch = 1",
    f"train.num_epochs = {STEPS}",
    "train.learning_rate = 0.01",
)


def free_address():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def start(tmp_path, name, count, *more, only=None, address=None):
    """Starts the processes of a run, or one of them, to meet at an address."""
    address = address or free_address()
    settings = bindings(
        tmp_path,
        *RUN,
        "train.strategy = 'data_parallel'",
        f"train.workdir = '{tmp_path / name}'",
        *more,
    )
    return [
        subprocess.Popen(
            [sys.executable, "-m", "example.main", *main_flags(settings)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LEAF_AUDIO_ADDRESS": address,
                "LEAF_AUDIO_NUM_PROCESSES": str(count),
                "LEAF_AUDIO_PROCESS": str(i),
            },
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in (range(count) if only is None else [only])
    ]


def ask_to_end_within_an_epoch(started, workdir, asked):
    """Sends a signal to some of the processes, once a step is saved.

    Args:
        started: The processes.
        workdir: The folder of the run.
        asked: The signal for each process that is sent one.
    """
    state = workdir / "state_within.npz"
    deadline = time.monotonic() + 200
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for i, number in asked.items():
        started[i].send_signal(number)
    outputs = [process.communicate(timeout=100) for process in started]
    for i, (out, err) in enumerate(outputs):
        # Ctrl-C ends as it does without several processes.
        code = 1 if asked.get(i) == signal.SIGINT else 143
        assert started[i].returncode == code, out + err
        assert "Traceback" not in err
    assert "the same command goes on" in outputs[0][0]
    assert state.exists()


def start_endless_run(tmp_path):
    """Starts two processes, and waits for the end of their first epoch."""
    started = start(tmp_path, "run", 2, "train.num_epochs = 100000")
    metrics = tmp_path / "run" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return started


def finish(started):
    outputs = [process.communicate(timeout=300) for process in started]
    for process, (out, err) in zip(started, outputs, strict=True):
        assert process.returncode == 0, out + err
    return [out for out, _ in outputs]


def losses(workdir):
    rows = (workdir / "metrics.csv").read_text().splitlines()[1:]
    return [float(row.split(",")[1]) for row in rows]


def assert_same_run(one, other):
    np.testing.assert_allclose(losses(one), losses(other), rtol=1e-5)
    metrics = [
        json.loads((path / "results.json").read_text())["metrics"]
        for path in (one, other)
    ]
    for split, values in metrics[0].items():
        assert values["accuracy"] == metrics[1][split]["accuracy"]
        np.testing.assert_allclose(
            values["loss"], metrics[1][split]["loss"], rtol=1e-5
        )


@needs_jax
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_have_the_losses_of_one(tmp_path, count):
    write_tones(tmp_path / "tones")
    finish(start(tmp_path, "one", 1))
    first, *others = finish(start(tmp_path, "several", count))
    assert_same_run(tmp_path / "one", tmp_path / "several")
    assert len(losses(tmp_path / "one")) == STEPS
    # The first process tells and writes, the others do neither.
    assert "epoch 20/20" in first
    lines = [line for text in others for line in text.splitlines()]
    # A library of JAX tells that they have met.
    assert all(line.startswith("[Gloo]") for line in lines)
    assert sorted(os.listdir(tmp_path / "one")) == sorted(
        os.listdir(tmp_path / "several")
    )


@needs_jax
@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    write_tones(tmp_path / "tones")
    finish(start(tmp_path, "whole", 1))
    finish(start(tmp_path, "parts", 2, "train.num_epochs = 7"))
    (told,) = finish(start(tmp_path, "parts", 1, "train.num_epochs = 12"))
    assert "going on after epoch 7" in told
    finish(start(tmp_path, "parts", 2))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


# For runs that are stopped within an epoch.
LONG_EPOCHS = (
    "train.num_epochs = 2",
    "train.steps_per_epoch = 30",
    "AudioClassifier.dropout = 0.2",
)


# To one process, such as by a scheduler; to the first one, by its user; and to
# both, in one terminal.
ASKED = pytest.mark.parametrize(
    "asked",
    [
        {1: signal.SIGTERM},
        {0: signal.SIGINT},
        {0: signal.SIGINT, 1: signal.SIGINT},
    ],
    ids=["SIGTERM to the second", "Ctrl-C to the first", "Ctrl-C to both"],
)


def assert_two_go_on_within_an_epoch(start, tmp_path, asked):
    """Ends two processes within an epoch, and lets them go on.

    Args:
        start: The function that starts the processes of a run.
        tmp_path: The folder of the runs.
        asked: As `ask_to_end_within_an_epoch`.
    """
    write_tones(tmp_path / "tones")
    finish(start(tmp_path, "whole", 2, *LONG_EPOCHS))
    often = "train.checkpoint_minutes = 1e-9"
    started = start(tmp_path, "parts", 2, *LONG_EPOCHS, often)
    ask_to_end_within_an_epoch(started, tmp_path / "parts", asked)
    told, _ = finish(start(tmp_path, "parts", 2, *LONG_EPOCHS))
    assert "going on in epoch 1 of" in told
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@needs_jax
@pytest.mark.slow
@ASKED
def test_all_processes_save_within_an_epoch_when_asked_to_end(tmp_path, asked):
    assert_two_go_on_within_an_epoch(start, tmp_path, asked=asked)


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_stop_when_one_is_killed(tmp_path, killed):
    write_tones(tmp_path / "tones")
    started = start_endless_run(tmp_path)
    started[killed].send_signal(signal.SIGKILL)
    other = started[1 - killed]
    _, err = other.communicate(timeout=60)
    assert other.returncode
    assert "another process" in err or "distributed service" in err, err
    started[killed].communicate()
    # What was saved can be gone on with.
    done = len(losses(tmp_path / "run"))
    more = f"train.num_epochs = {done + 3}"
    told, _ = finish(start(tmp_path, "run", 2, more))
    assert "going on after epoch" in told


@needs_jax
@pytest.mark.slow
def test_the_others_stop_when_one_fails(tmp_path):
    """One has other settings, which all of them tell."""
    write_tones(tmp_path / "tones")
    address = free_address()
    started = [
        start(
            tmp_path,
            "run",
            2,
            f"train.learning_rate = {rate}",
            only=i,
            address=address,
        )[0]
        for i, rate in enumerate((0.01, 0.1))
    ]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "There must be the same settings in all processes" in err
        assert "Received: train.learning_rate=0." in err
        assert "Traceback" not in err


@needs_jax
@pytest.mark.slow
def test_a_workdir_in_use_ends_all_processes(tmp_path):
    write_tones(tmp_path / "tones")
    with Workdir(tmp_path / "run").locked():
        started = start(tmp_path, "run", 2)
        errors = [one.communicate(timeout=120)[1] for one in started]
    assert all(one.returncode for one in started)
    assert "must not be in use" in errors[0]
    # If the first process ends, JAX ends the others.
    assert (
        "another process has failed" in errors[1]
        or "distributed service" in errors[1]
    )


@needs_jax
@pytest.mark.slow
def test_sigterm_ends_all_processes(tmp_path):
    write_tones(tmp_path / "tones")
    started = start_endless_run(tmp_path)
    for process in started:
        process.terminate()
    for process in started:
        process.communicate(timeout=60)
        # A process that is asked before or after its steps ends at once.
        assert process.returncode in (143, -signal.SIGTERM)


@needs_jax
def test_a_batch_must_divide_among_the_processes(tmp_path):
    write_tones(tmp_path / "tones")
    started = start(tmp_path, "run", 2, "train.batch_size = 3")
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "`batch_size` must be a multiple" in err


WRONG = [
    ({"address": "here"}, "'host:port' of the first process"),
    ({"num_processes": 2}, "'host:port' of the first process"),
    (
        {"address": "here:99999", "num_processes": 2, "process": 0},
        "'host:port'",
    ),
    ({"address": "here:1", "num_processes": 2}, "process=None"),
    (
        {"address": "here:1", "num_processes": 2, "process": 2},
        "`data_parallel.process` must be from 0 to 1",
    ),
    ({"address": "auto", "process": 1}, "with the address 'auto'"),
    ({"address": "auto"}, "where the processes meet"),
]


@needs_jax
def test_what_is_missing_to_meet_is_told():
    program = (
        "from leaf_audio.training import strategies\n"
        f"for settings in {[settings for settings, _ in WRONG]}:\n"
        "    try:\n"
        "        strategies.data_parallel(**settings)\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    told = python("-c", program, KERAS_BACKEND="jax").stdout.splitlines()
    for line, (_, message) in zip(told, WRONG, strict=True):
        assert message in line


def test_a_process_by_itself_is_the_main_one():
    assert processes.position() == (0, 1)
    assert processes.is_main()
    assert strategies.create("default").is_main
    processes.wait_for_all()
    processes.check_equal("nothing", "x")


def test_settings_that_differ_between_processes_are_named(monkeypatch):
    gathered = []
    monkeypatch.setattr(processes, "position", lambda: (0, 2))

    def gather(own):
        gathered.append(own)
        return np.stack([own, gathered[0]])

    monkeypatch.setattr(processes, "_gathered", gather)
    first = {"a.b": "1", "c.d": "'x'"}
    processes.check_equal_settings(first)
    with pytest.raises(ValueError, match=r"Received: a\.b=2 in process 0"):
        processes.check_equal_settings({**first, "a.b": "2"})
    with pytest.raises(ValueError, match="Received: fewer settings"):
        processes.check_equal_settings({"a.b": "1"})


@pytest.mark.parametrize(
    "told, expected",
    [
        ("UNAVAILABLE: connection reset\nmore", "another process has failed"),
        ("", "another process has failed"),
        ("RESOURCE_EXHAUSTED: Out of memory", "^RESOURCE_EXHAUSTED: Out of"),
    ],
)
def test_an_own_error_is_not_told_as_that_of_another(
    monkeypatch, told, expected
):
    monkeypatch.setattr(processes, "position", lambda: (0, 2))
    monkeypatch.setattr(processes, "_errors_of_others", lambda: (OSError,))
    monkeypatch.setattr(processes, "_has_failed", threading.Event())
    with pytest.raises(OSError, match=expected):
        with processes.failing_together():
            raise OSError(told)


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("LEAF_AUDIO_PROCESS", "first")
    with pytest.raises(ValueError, match="`LEAF_AUDIO_PROCESS` must be an int"):
        processes.join(None, None, None)
