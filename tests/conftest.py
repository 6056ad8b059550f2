"""Shared fixtures: golden arrays, real recordings, deterministic numerics."""

import os
import pathlib
import signal
import threading
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Two processes run tests. Further threads of each would wait for a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import gin
import keras
import numpy as np
import pytest

# `pytest -m fast` leaves out tests that save files or read recordings, and
# tests with one of these words in their names. Most of them take seconds each.
_SLOW_FIXTURES = {
    *("tmp_path", "tmp_path_factory", "speech_commands", "esc10"),
}
_SLOW_WORDS = (
    # They train, compile or trace a model.
    *("compil", "fit", "learn", "train", "unknown", "xla"),
    # They search for plans of the fast path.
    *("have_room", "plan"),
    # They build large networks, synthesize speech or import librosa.
    *("librosa", "network", "sample_rate", "speakers"),
    # They run other programs, or everything that README shows.
    *("blocks_run", "errors_of_use", "on_a_cpu", "readme", "tpu"),
)

# Tests in these folders train classifiers for a few steps.
_EAGER_ROOMS = {"app", "serving", "training"}

GOLDEN = pathlib.Path(__file__).parent / "golden"
REAL_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Has tests, and the programs that they start, end by Ctrl-C.

    A shell that starts the tests in the background has them ignore it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the first case of each quick test as `fast`."""
    seen = set()
    for item in items:
        test = (item.path, item.function.__name__)
        is_slow = item.get_closest_marker("slow") or _takes_long(item)
        if test not in seen and not is_slow:
            item.add_marker(pytest.mark.fast)
        seen.add(test)


def _takes_long(item: pytest.Item) -> bool:
    name = item.function.__name__
    return not _SLOW_FIXTURES.isdisjoint(item.fixturenames) or any(
        word in name for word in _SLOW_WORDS
    )


@pytest.fixture
def called_by_this_test() -> Callable[[], bool]:
    """A function that tells whether a thread of this test calls it.

    Threads that make batches for an earlier test may go on for a moment.
    """
    earlier = set(threading.enumerate()) - {threading.current_thread()}
    return lambda: threading.current_thread() not in earlier


@pytest.fixture(scope="session", autouse=True)
def full_precision_matmuls():
    """TF32 would cost three digits on a GPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    else:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def quick_runs(request, monkeypatch):
    """Has runs of a few steps train eagerly, and save no figures.

    To trace a step takes TensorFlow longer than these steps do, and a figure
    takes a quarter of the rest. A test that is about compiled steps, or
    compares with another process, has the mark `compiled`.
    """
    if (
        keras.backend.backend() == "tensorflow"
        and request.path.parent.name in _EAGER_ROOMS
        and request.path.name != "test_tables.py"
        and "compiled" not in request.keywords
    ):
        from leaf_audio import models
        from leaf_audio.training import tables

        eager = property(lambda self: True, lambda self, value: None)
        monkeypatch.setattr(models.AudioClassifier, "run_eagerly", eager)
        monkeypatch.setattr(tables, "_save", lambda *unused: None)


@pytest.fixture
def fresh_gin():
    """Leaves gin as it was found: without a config."""
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(scope="session")
def golden():
    """Loads `tests/golden/<name>.npz` as a dictionary."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


def _real_data(name: str, what: str) -> pathlib.Path:
    path = REAL_DATA / name
    if not path.is_dir():
        if os.environ.get("LEAF_AUDIO_REQUIRE_DATA"):
            pytest.fail(f"real recordings are not at {path}")
        pytest.skip(
            f"optional: needs a pack of {what} clips that is no part of the "
            "repository"
        )
    return path


@pytest.fixture(scope="session")
def speech_commands() -> pathlib.Path:
    """Real recordings, `<split>/<label>/*.flac`; absent on users' machines."""
    return _real_data("speech_commands", "Speech Commands")


@pytest.fixture(scope="session")
def esc10() -> pathlib.Path:
    """Real recordings with an index.csv; absent on users' machines."""
    return _real_data("esc10", "ESC-10")
