"""PCEN and its recurrence, against published numbers and float64 loops."""

import functools

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer
from scipy.signal import lfilter

from leaf_audio import postprocessing
from leaf_audio.compression import exponential_moving_average
from leaf_audio.normalization import InstanceNormalization

SETTINGS = {
    "leaf_default": {
        "alpha": 0.96,
        "smooth_coef": 0.04,
        "delta": 2.0,
        "root": 2.0,
        "floor": 1e-12,
        "trainable": True,
        "learn_smooth_coef": True,
        "per_channel_smooth_coef": True,
    },
    "fixed": {
        "alpha": 0.98,
        "smooth_coef": 0.025,
        "delta": 2.0,
        "root": 2.0,
        "floor": 1e-6,
    },
    "shared_smooth": {
        "alpha": 0.8,
        "smooth_coef": 0.1,
        "delta": 1.0,
        "root": 4.0,
        "floor": 1e-6,
        "trainable": True,
        "learn_smooth_coef": True,
    },
    "alpha_above_one": {
        "alpha": 1.5,
        "smooth_coef": 1.7,
        "delta": 2.0,
        "root": 0.5,
        "floor": 1e-6,
        "trainable": True,
        "learn_smooth_coef": True,
        "per_channel_smooth_coef": True,
    },
}


def energies(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.exponential(size=shape).astype("float32")


@pytest.mark.parametrize("name", SETTINGS)
def test_pcen_is_the_published_one(name, golden):
    arrays = golden("components")
    layer = postprocessing.PCENLayer(**SETTINGS[name])
    outputs = ops.convert_to_numpy(layer(arrays["pcen/input"]))
    expected = arrays[f"pcen/{name}/output"]
    np.testing.assert_allclose(
        outputs, expected, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_pcen_gradients_are_the_published_ones(name, golden):
    arrays = golden("components")
    layer = postprocessing.PCENLayer(**SETTINGS[name])
    by_input, gradients = grad_mean_square(layer, arrays["pcen/input"])
    found = {"input": by_input}
    for weight, gradient in zip(
        layer.trainable_variables, gradients, strict=True
    ):
        found[weight.name] = gradient
    prefix = f"pcen/{name}/grad_mean_square/"
    published = {
        key[len(prefix) :]: value
        for key, value in arrays.items()
        if key.startswith(prefix)
    }
    assert found.keys() == published.keys()
    for key, expected in published.items():
        np.testing.assert_allclose(
            found[key],
            expected,
            atol=1e-3 * np.abs(expected).max() + 1e-7,
            err_msg=key,
        )


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 100, 1000, 6000])
@pytest.mark.parametrize("smooth", [0.0, 1e-6, 0.04, 0.5, 1 - 1e-6, 1.0])
@pytest.mark.many_shapes
def test_recurrence_is_a_first_order_filter(frames, smooth):
    x, state = energies(2, frames, 3), energies(2, 3, seed=1)
    outputs = exponential_moving_average(
        ops.convert_to_tensor(x),
        ops.convert_to_tensor(np.full(3, smooth, "float32")),
        ops.convert_to_tensor(state),
    )
    s = np.float32(smooth)
    # Near 1 the decay has few digits in float32, whoever computes it.
    decay = float(1 - s)
    expected, _ = lfilter(
        [float(s)],
        [1, -decay],
        x.astype("float64"),
        axis=1,
        zi=decay * state[:, None].astype("float64"),
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), expected, rtol=2e-5, atol=1e-6
    )


def test_the_last_frame_is_a_state_to_go_on_from():
    layer = postprocessing.ExponentialMovingAverage(0.1, per_channel=True)
    x = energies(2, 300, 3)
    whole = ops.convert_to_numpy(layer(x))
    first = layer(x[:, :170])
    rest = layer(x[:, 170:], initial_state=first[:, -1])
    np.testing.assert_allclose(
        ops.convert_to_numpy(rest), whole[:, 170:], rtol=1e-5
    )


@pytest.mark.parametrize("smooth", [0.0, 0.04, 1.0])
@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((1, 200, 2), "float32"),
        np.full((1, 200, 2), 1e-38, "float32"),
        np.full((1, 200, 2), 1e30, "float32"),
        np.repeat([0.0, 1e3, 0.0, 1e-10], 100)[None, :, None].astype("f"),
        -np.ones((1, 50, 2), "float32"),
        energies(1, 6000, 2) * 1e-5,
    ],
    ids=["zeros", "tiny", "huge", "onsets", "negative", "a minute"],
)
@pytest.mark.many_shapes
def test_pcen_is_finite_and_so_are_its_gradients(inputs, smooth):
    layer = postprocessing.PCENLayer(
        smooth_coef=smooth,
        floor=1e-12,
        trainable=True,
        learn_smooth_coef=True,
    )
    layer.build(inputs.shape)
    for delta in (2.0, 0.0, -1.0):
        layer.delta.assign(np.full(inputs.shape[-1], delta, "float32"))
        outputs = ops.convert_to_numpy(layer(inputs))
        assert np.isfinite(outputs).all()
        if inputs.max() > 1e20:
            continue  # The loss's own square overflows.
        by_input, gradients = grad_mean_square(layer, inputs)
        for gradient in (by_input, *gradients):
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "settings, learned",
    [
        ({}, set()),
        ({"trainable": True}, {"alpha", "delta", "root"}),
        ({"learn_smooth_coef": True}, {"smooth"}),
        (
            {"trainable": True, "learn_smooth_coef": True},
            {"alpha", "delta", "root", "smooth"},
        ),
    ],
)
def test_only_what_was_asked_for_is_learned(settings, learned):
    layer = postprocessing.PCENLayer(**settings)
    layer.build((None, None, 4))
    assert {w.name for w in layer.trainable_weights} == learned
    assert layer.count_params() == 13


def test_a_frozen_layer_comes_back_frozen():
    layer = postprocessing.PCENLayer(**SETTINGS["leaf_default"])
    layer.trainable = False
    copy = postprocessing.PCENLayer.from_config(layer.get_config())
    copy.build((None, None, 4))
    assert not copy.trainable_weights


@pytest.mark.parametrize("per_channel, size", [(True, 4), (False, 1)])
def test_smoothing_is_one_or_one_per_channel(per_channel, size):
    layer = postprocessing.PCENLayer(per_channel_smooth_coef=per_channel)
    layer.build((None, None, 4))
    assert tuple(layer.ema.smooth.shape) == (size,)


def test_unknown_lengths_are_smoothed_across_blocks():
    x = keras.Input((None, 3))
    layer = postprocessing.ExponentialMovingAverage(0.01)
    model = keras.Model(x, layer(x))
    inputs = energies(2, 700, 3)
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0),
        ops.convert_to_numpy(layer(inputs)),
        rtol=1e-5,
    )


def test_log_compression_is_a_logarithm_with_offset():
    x = energies(2, 3, 4)
    outputs = postprocessing.log_compression(
        ops.convert_to_tensor(x), log_offset=0.5
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), np.log(x + 0.5), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(postprocessing.PCENLayer, **SETTINGS["leaf_default"]),
        functools.partial(
            postprocessing.ExponentialMovingAverage, 0.1, trainable=True
        ),
        InstanceNormalization,
    ],
    ids=["PCENLayer", "ExponentialMovingAverage", "InstanceNormalization"],
)
def test_is_a_keras_citizen(make, tmp_path):
    inputs = energies(2, 150, 3) + np.array([0, 1, 2], "float32")
    check_layer(make, inputs, tmp_path, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: postprocessing.PCENLayer(alpha=-1), "alpha=-1"),
        (lambda: postprocessing.PCENLayer(delta=float("nan")), "delta=nan"),
        (lambda: postprocessing.PCENLayer(root=float("inf")), "root=inf"),
        (lambda: postprocessing.PCENLayer(floor=0), "floor=0"),
        (
            lambda: postprocessing.PCENLayer(smooth_coef=-0.1),
            "smooth_coef=-0.1",
        ),
        (
            lambda: postprocessing.PCENLayer()(np.zeros((2, 50), "f")),
            "expected ndim=3",
        ),
        (lambda: InstanceNormalization(epsilon=0), "epsilon=0"),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
