"""PCEN chunk by chunk, with a state."""

import keras
import numpy as np
import pytest
from keras import ops
from random_energies import energies

from leaf_audio import postprocessing

LEAF = {
    "floor": 1e-12,
    "trainable": True,
    "learn_smooth_coef": True,
    "per_channel_smooth_coef": True,
}
LOG = {
    "alpha": 0.98,
    "smooth_coef": 0.025,
    "trainable": True,
    "learn_smooth_coef": True,
    "per_channel_smooth_coef": True,
    "parametrization": "log",
}


def state_loop(layer, x, sizes):
    """Outputs of a layer that is given an input chunk by chunk."""
    outputs, state, start = [], None, 0
    for size in sizes:
        chunk = x[:, start : start + size]
        output, state = layer(chunk, initial_state=state, return_state=True)
        outputs.append(ops.convert_to_numpy(output))
        start += size
    assert start == x.shape[1]
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize(
    "sizes",
    [
        [170, 130],
        pytest.param([1, 16, 17, 2, 264], marks=pytest.mark.slow_on_jax),
        pytest.param([0, 0, 250, 0, 50, 0], marks=pytest.mark.slow_on_jax),
    ],
)
@pytest.mark.parametrize("settings", [LEAF, LOG])
@pytest.mark.parametrize("before", [None, 1.0])
def test_chunks_in_turn_give_the_whole(sizes, settings, before):
    layer = postprocessing.PCENLayer(**settings, initial_energy=before)
    x = energies(2, 300, 3)
    whole = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(state_loop(layer, x, sizes), whole, rtol=1e-5)


def test_no_frames_give_no_outputs_and_leave_the_state():
    empty = energies(2, 10, 3)[:, :0]
    given = np.full((2, 3), 0.5, "float32")
    for settings in (LEAF, LOG, {"initial_energy": 2.0}):
        layer = postprocessing.PCENLayer(**settings)
        assert layer(empty).shape == (2, 0, 3)
        outputs, state = layer(empty, initial_state=given, return_state=True)
        assert outputs.shape == (2, 0, 3)
        np.testing.assert_array_equal(ops.convert_to_numpy(state), given)
    average = postprocessing.ExponentialMovingAverage(0.1)
    assert average(empty).shape == (2, 0, 3)


def test_a_state_keeps_its_digits_under_mixed_precision():
    layer = postprocessing.PCENLayer(dtype="mixed_float16")
    x = energies(1, 100, 3)
    whole = ops.convert_to_numpy(layer(x))
    chunks = state_loop(layer, x, [10] * 10)
    assert chunks.dtype == "float16"
    np.testing.assert_allclose(chunks, whole, rtol=1e-3)
    _, state = layer(x, return_state=True)
    assert keras.backend.standardize_dtype(state.dtype) == "float32"


def test_a_model_can_take_and_give_the_state(tmp_path):
    x, before = keras.Input((None, 3)), keras.Input((3,))
    layer = postprocessing.PCENLayer()
    outputs, after = layer(x, initial_state=before, return_state=True)
    assert outputs.shape == (None, None, 3)
    assert after.shape == (None, 3)
    keras.Model([x, before], [outputs, after]).save(tmp_path / "chunk.keras")
    model = keras.models.load_model(tmp_path / "chunk.keras")
    inputs = energies(2, 60, 3)
    state, found = inputs[:, 0], []
    for chunk in (inputs[:, :25], inputs[:, 25:]):
        output, state = model.predict([chunk, state], verbose=0)
        found.append(output)
    np.testing.assert_allclose(
        np.concatenate(found, axis=1),
        ops.convert_to_numpy(layer(inputs)),
        rtol=1e-5,
    )
