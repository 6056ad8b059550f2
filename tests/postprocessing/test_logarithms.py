"""Logarithmic compression against NumPy."""

import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer
from random_energies import energies

from leaf_audio import postprocessing


def test_log_compression_is_a_logarithm_with_offset():
    x = energies(2, 3, 4)
    outputs = postprocessing.log_compression(
        ops.convert_to_tensor(x), log_offset=0.5
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), np.log(x + 0.5), rtol=1e-5, atol=1e-6
    )


def test_log1p_takes_a_power_of_ten_for_its_gain():
    x = energies(2, 5, 3)
    layer = postprocessing.Log1p(2.0, per_band=True, trainable=True)
    layer.build(x.shape)
    a = np.array([-1.0, 0.0, 5.0], "float32")
    layer.a.assign(a)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)),
        np.log1p(10.0 ** a.astype("float64") * x),
        rtol=1e-5,
    )
    shared = postprocessing.Log1p(2.0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(shared(x)), np.log1p(100 * x), rtol=1e-5
    )
    assert tuple(shared.a.shape) == (1,)
    assert not shared.trainable_weights


def test_log1p_of_energies_beyond_half_floats_is_finite():
    inputs = 1e6 * energies(2, 10, 3)
    layer = postprocessing.Log1p(dtype="mixed_float16")
    outputs = ops.convert_to_numpy(layer(inputs))
    assert outputs.dtype == "float16"
    assert np.isfinite(outputs).all()


@pytest.mark.slow_on_jax
def test_is_a_keras_citizen(tmp_path):
    def make(**kwargs):
        return postprocessing.Log1p(2.0, True, trainable=True, **kwargs)

    inputs = energies(2, 150, 3) + np.array([0, 1, 2], "float32")
    check_layer(make, inputs, tmp_path, atol=1e-5)


def test_an_infinite_exponent_is_rejected():
    with pytest.raises(ValueError, match="a=inf"):
        postprocessing.Log1p(float("inf"))
