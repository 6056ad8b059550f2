"""Shared fixtures: golden arrays, real recordings, deterministic numerics."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gin
import keras
import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"
REAL_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


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


@pytest.fixture(scope="session")
def speech_commands() -> pathlib.Path:
    """Real recordings, `<split>/<label>/*.flac`; absent on users' machines."""
    path = REAL_DATA / "speech_commands"
    if not path.is_dir():
        if os.environ.get("LEAF_AUDIO_REQUIRE_DATA"):
            pytest.fail(f"real recordings are not at {path}")
        pytest.skip(
            "optional: needs a pack of Speech Commands clips that is no part "
            "of the repository"
        )
    return path
