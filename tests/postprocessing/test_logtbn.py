"""LogTBN against EfficientLEAF's release."""

import functools

import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer
from random_energies import energies

from leaf_audio import postprocessing

LOG_TBN = {
    "median_append": {},
    "median_inplace": {"a": 0.0, "learn_a": False, "median": "subtract"},
}


@pytest.mark.parametrize("name", LOG_TBN)
def test_logtbn_is_the_published_one(name, golden):
    arrays = golden("efficientleaf")
    x = arrays["pcen_log/input"].transpose(0, 2, 1)
    for training, mode in ((False, "inference_fresh"), (True, "training")):
        layer = postprocessing.LogTBN(**LOG_TBN[name])
        # Channels, bands and time are the other way round there.
        outputs = ops.convert_to_numpy(layer(x, training=training))
        reverse = range(outputs.ndim - 1, 0, -1)
        outputs = outputs.transpose((0, *reverse))
        expected = arrays[f"logtbn/{name}/output_{mode}"]
        np.testing.assert_allclose(
            outputs, expected, atol=1e-5 * np.abs(expected).max()
        )


@pytest.mark.parametrize("name", LOG_TBN)
def test_logtbn_gradients_are_the_published_ones(name, golden):
    """Those that are more than rounding: see test_efficient_leaf."""
    arrays = golden("efficientleaf")
    x = arrays["pcen_log/input"].transpose(0, 2, 1)
    layer = postprocessing.LogTBN(**LOG_TBN[name])
    _, gradients = grad_mean_square(layer, x, training=True)
    found = {
        w.name: gradient
        for w, gradient in zip(
            layer.trainable_variables, gradients, strict=True
        )
    }
    prefix = f"logtbn/{name}/grad_mean_square"
    scale = arrays[f"{prefix}/TBN.bn.weight"].max()
    published = {"gamma": "TBN.bn.weight", "beta": "TBN.bn.bias"}
    if layer.learn_a:
        published["a"] = "log1p.a"
    assert found.keys() == published.keys()
    for name, gradient in found.items():
        if name != "a" and layer.median == "append":
            gradient = gradient.reshape(8, 2).T.ravel()
        expected = arrays[f"{prefix}/{published[name]}"]
        np.testing.assert_allclose(gradient, expected, atol=1e-3 * scale)


def test_a_frozen_logtbn_keeps_its_statistics_and_stays_frozen():
    x = energies(2, 20, 3)
    layer = postprocessing.LogTBN()
    layer(x)
    layer.trainable = False
    copy = postprocessing.LogTBN.from_config(layer.get_config())
    copy(x)
    for frozen in (layer, copy):
        before = [ops.convert_to_numpy(w).copy() for w in frozen.weights]
        frozen(x, training=True)
        for old, weight in zip(before, frozen.weights, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)
        assert not frozen.trainable_weights


def test_energies_beyond_half_floats_are_compressed_in_mixed_precision():
    inputs = 1e6 * energies(2, 10, 3)
    layer = postprocessing.LogTBN(median="subtract", dtype="mixed_float16")
    outputs = ops.convert_to_numpy(layer(inputs, training=True))
    assert outputs.dtype == "float16"
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize(
    "make",
    [
        postprocessing.LogTBN,
        functools.partial(
            postprocessing.LogTBN, a=1.0, median="subtract", affine=False
        ),
    ],
    ids=["LogTBN", "LogTBN in place"],
)
@pytest.mark.slow_on_jax
def test_is_a_keras_citizen(make, tmp_path):
    inputs = energies(2, 150, 3) + np.array([0, 1, 2], "float32")
    check_layer(make, inputs, tmp_path, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: postprocessing.LogTBN(a="5"), "a='5'"),
        (lambda: postprocessing.LogTBN(median=True), "median=True"),
        (lambda: postprocessing.LogTBN(per_band=1), "per_band=1"),
        (lambda: postprocessing.LogTBN(learn_a=None), "learn_a=None"),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
