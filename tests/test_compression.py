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
from leaf_audio.normalization import (
    InstanceNormalization,
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)

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


@pytest.mark.parametrize("frames", [1, 2, 9, 10])
@pytest.mark.many_shapes
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


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(postprocessing.PCENLayer, **SETTINGS["leaf_default"]),
        functools.partial(
            postprocessing.ExponentialMovingAverage, 0.1, trainable=True
        ),
        InstanceNormalization,
        functools.partial(postprocessing.Log1p, 2.0, True, trainable=True),
        postprocessing.LogTBN,
        functools.partial(
            postprocessing.LogTBN, a=1.0, median="subtract", affine=False
        ),
        TemporalBatchNormalization,
        functools.partial(TemporalMedianSubtraction, append=True),
    ],
    ids=[
        "PCENLayer",
        "ExponentialMovingAverage",
        "InstanceNormalization",
        "Log1p",
        "LogTBN",
        "LogTBN in place",
        "TemporalBatchNormalization",
        "TemporalMedianSubtraction",
    ],
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
        (lambda: postprocessing.Log1p(float("inf")), "a=inf"),
        (lambda: postprocessing.LogTBN(a="5"), "a='5'"),
        (lambda: postprocessing.LogTBN(median=True), "median=True"),
        (lambda: postprocessing.LogTBN(per_band=1), "per_band=1"),
        (lambda: postprocessing.LogTBN(learn_a=None), "learn_a=None"),
        (lambda: TemporalBatchNormalization(momentum=1), "momentum=1"),
        (lambda: TemporalBatchNormalization(epsilon=0), "epsilon=0"),
        (lambda: TemporalBatchNormalization()(np.zeros((2, 5))), "bands"),
        (lambda: TemporalMedianSubtraction(append=1), "append=1"),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
