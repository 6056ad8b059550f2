"""Several processes train one model on TensorFlow as one process does."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import pytest
from test_processes import (
    ASKED,
    STEPS,
    assert_same_run,
    assert_two_go_on_within_an_epoch,
    finish,
    free_address,
    losses,
)
from test_processes import RUN as RECIPE
from tones import ROOT, bindings, main_flags, write_tones

from leaf_audio.training import strategies

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="tf.distribute is TensorFlow's",
    ),
]


def start(tmp_path, name, count, *more):
    """Starts the processes of a run, which find each other by TF_CONFIG."""
    strategy = "multi_worker_mirrored" if count > 1 else "default"
    settings = bindings(
        tmp_path,
        *RECIPE,
        f"train.strategy = '{strategy}'",
        f"train.workdir = '{tmp_path / name}'",
        *more,
    )
    cluster = {"worker": [free_address() for _ in range(count)]}
    started = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        one = subprocess.Popen(
            [sys.executable, "-m", "example.main", *main_flags(settings)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                **({"TF_CONFIG": config} if count > 1 else {}),
            },
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(one)
    return started


def test_a_process_that_has_joined_obeys_sigterm_and_traces_once():
    code = """
import os, signal, time
import numpy as np
from leaf_audio.training import workers
workers.join()
for i in range(5):
    own = np.array([i, workers.joined().position()[0]], np.float32)
    found = workers.joined().gathered(own)
    assert found.tolist() == [[i, 0], [i, 1]], found
assert workers.joined()._gather.experimental_get_tracing_count() == 1
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
"""
    cluster = {"worker": [free_address() for _ in range(2)]}
    started = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        environment = {"PYTHONPATH": str(ROOT), "TF_CONFIG": config}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **environment},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [one.communicate(timeout=300)[1] for one in started]
    ended = [one.returncode for one in started]
    # One of them may end first, and the other by an error that tells of it.
    assert -signal.SIGTERM in ended, told


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_have_the_losses_of_one(tmp_path, count):
    """A run of several is stopped after 7 steps, and goes on."""
    write_tones(tmp_path / "tones")
    finish(start(tmp_path, "one", 1))
    finish(start(tmp_path, "several", count, "train.num_epochs = 7"))
    first, *others = finish(start(tmp_path, "several", count))
    assert_same_run(tmp_path / "one", tmp_path / "several")
    assert len(losses(tmp_path / "one")) == STEPS
    # The first process tells and writes, the others do neither.
    assert "going on after epoch 7" in first
    assert "epoch 20/20" in first
    assert not any(others)
    assert sorted(os.listdir(tmp_path / "one")) == sorted(
        os.listdir(tmp_path / "several")
    )


@pytest.mark.slow
def test_pretraining_compares_the_clips_of_all_processes(tmp_path):
    write_tones(tmp_path / "tones")
    more = (
        *("train.num_epochs = 4", "train.learning_rate = 1e-3"),
        *("train.pretraining = @COLA", "COLA.units = 8"),
    )
    finish(start(tmp_path, "one", 1, *more))
    finish(start(tmp_path, "two", 2, *more))
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert len(losses(tmp_path / "one")) == 4


@pytest.mark.slow
@ASKED
def test_all_processes_save_within_an_epoch_when_asked_to_end(tmp_path, asked):
    # Each process draws the dropout of its own part of a batch.
    assert_two_go_on_within_an_epoch(start, tmp_path, asked=asked)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_stop_when_one_is_killed(tmp_path, killed):
    write_tones(tmp_path / "tones")
    started = start(tmp_path, "run", 2, "train.num_epochs = 100000")
    metrics = tmp_path / "run" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    started[killed].send_signal(signal.SIGKILL)
    other = started[1 - killed]
    _, err = other.communicate(timeout=60)
    started[killed].communicate()
    assert other.returncode
    assert "another process has failed" in err or "oordination" in err, err
    assert len(losses(tmp_path / "run")) >= 1


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "two",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", '
        '"index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", '
        '"index": 0}}',
        '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", '
        '"index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", '
        '"index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, '
        '"task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", '
        '"index": 0}}',
        '{"cluster": {"worker": {"a:1": 0, "b:1": 1}}, "task": {"type": '
        '"worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", '
        '"index": Infinity}}',
    ],
)
def test_a_configuration_that_is_not_valid_is_told(monkeypatch, config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="`TF_CONFIG`, .* must list two or"):
        strategies.create("multi_worker_mirrored")
