"""Normalization of features against NumPy."""

import functools

import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer
from random_energies import energies

from leaf_audio.postprocessing import (
    InstanceNormalization,
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)


@pytest.mark.parametrize("frames", [1, 2, 9, 10])
@pytest.mark.slow_on_jax
def test_the_median_over_time_is_the_lower_one(frames):
    x = energies(3, frames, 4)
    middle = np.sort(x, axis=1)[:, [(frames - 1) // 2]]
    inputs = ops.convert_to_tensor(x)
    in_place = TemporalMedianSubtraction()(inputs)
    np.testing.assert_allclose(ops.convert_to_numpy(in_place), x - middle)
    appended = TemporalMedianSubtraction(append=True)(inputs)
    np.testing.assert_allclose(
        ops.convert_to_numpy(appended), np.stack([x, x - middle], axis=-1)
    )


def test_masked_frames_have_no_part_in_the_median():
    x = energies(2, 9, 3)
    lengths = (4, 7)
    mask = np.arange(9)[None] < np.array(lengths)[:, None]
    outputs = TemporalMedianSubtraction()(
        ops.convert_to_tensor(x), mask=ops.convert_to_tensor(mask)
    )
    for output, example, length in zip(
        ops.convert_to_numpy(outputs), x, lengths, strict=True
    ):
        middle = np.sort(example[:length], axis=0)[(length - 1) // 2]
        np.testing.assert_allclose(output, example - middle)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_statistics_are_over_batch_and_time(per_channel, masked):
    """Of each band, with all its channels or of each channel."""
    scale = np.array([[1.0, 5.0], [2.0, 3.0], [0.5, 4.0]], "float32")
    x = energies(4, 20, 3, 2) * scale + scale**2
    length = 12 if masked else 20
    mask = np.broadcast_to(np.arange(20) < length, (4, 20))
    layer = TemporalBatchNormalization(per_channel=per_channel, epsilon=1e-6)
    kwargs = {"mask": ops.convert_to_tensor(mask)} if masked else {}
    outputs = ops.convert_to_numpy(layer(x, training=True, **kwargs))
    axes = (0, 1) if per_channel else (0, 1, 3)
    valid = x[:, :length].astype("float64")
    mean = valid.mean(axes, keepdims=True)
    variance = valid.var(axes, keepdims=True)
    np.testing.assert_allclose(
        outputs[:, :length],
        (valid - mean) / np.sqrt(variance + 1e-6),
        rtol=1e-4,
        atol=1e-4,
    )
    moved = {w.name: ops.convert_to_numpy(w) for w in layer.weights}
    np.testing.assert_allclose(
        moved["moving_mean"], 0.1 * mean.ravel(), rtol=1e-4
    )
    np.testing.assert_allclose(
        moved["moving_variance"], 0.9 + 0.1 * variance.ravel(), rtol=1e-4
    )


def test_features_beyond_half_floats_are_normalized_in_mixed_precision():
    inputs = 1e6 * energies(2, 10, 3)
    layer = TemporalBatchNormalization(dtype="mixed_float16")
    outputs = ops.convert_to_numpy(layer(inputs, training=True))
    assert outputs.dtype == "float16"
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize(
    "make",
    [
        InstanceNormalization,
        TemporalBatchNormalization,
        functools.partial(TemporalMedianSubtraction, append=True),
    ],
    ids=[
        "InstanceNormalization",
        "TemporalBatchNormalization",
        "TemporalMedianSubtraction",
    ],
)
@pytest.mark.slow_on_jax
def test_is_a_keras_citizen(make, tmp_path):
    inputs = energies(2, 150, 3) + np.array([0, 1, 2], "float32")
    check_layer(make, inputs, tmp_path, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: InstanceNormalization(epsilon=0), "epsilon=0"),
        (lambda: TemporalBatchNormalization(momentum=1), "momentum=1"),
        (lambda: TemporalBatchNormalization(epsilon=0), "epsilon=0"),
        (lambda: TemporalBatchNormalization()(np.zeros((2, 5))), "bands"),
        (lambda: TemporalMedianSubtraction(append=1), "append=1"),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
