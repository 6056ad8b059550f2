"""PCEN and its recurrence, against published numbers and float64 loops."""

import functools
import itertools

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer
from scipy.signal import lfilter

from leaf_audio import initializers, postprocessing
from leaf_audio.frontend.base import call_layer
from leaf_audio.postprocessing import (
    InstanceNormalization,
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
    exponential_moving_average,
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


LOG = {
    "alpha": 0.98,
    "smooth_coef": 0.025,
    "delta": 2.0,
    "root": 2.0,
    "floor": 1e-6,
    "trainable": True,
    "learn_smooth_coef": True,
    "per_channel_smooth_coef": True,
    "parametrization": "log",
}


def energies(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.exponential(size=shape).astype("float32")


def pcen64(energy, alpha, smooth, delta, power, floor, before=None):
    """The formula, frame by frame in float64; energy is (frames, channels)."""
    energy = energy.astype("float64")
    level = energy[0] if before is None else np.full(energy.shape[1], before)
    outputs = np.empty_like(energy)
    for t, now in enumerate(energy):
        level = (1 - smooth) * level + smooth * now
        gain = np.exp(-alpha * (np.log(floor) + np.log1p(level / floor)))
        outputs[t] = np.expm1(power * np.log1p(now * gain / delta))
    return delta**power * outputs


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


def test_log_parameters_give_the_published_numbers(golden):
    arrays = golden("efficientleaf")
    layer = postprocessing.PCENLayer(**LOG)
    inputs = arrays["pcen_log/input"].transpose(0, 2, 1)
    expected = arrays["pcen_log/learn_logs/output"].transpose(0, 2, 1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(inputs)),
        expected,
        atol=1e-5 * np.abs(expected).max(),
    )
    _, gradients = grad_mean_square(layer, inputs)
    published = {
        "log_smooth": "s",
        "log_alpha": "alpha",
        "log_delta": "delta",
        "log_exponent": "r",
    }
    assert len(layer.trainable_variables) == len(published)
    for weight, gradient in zip(
        layer.trainable_variables, gradients, strict=True
    ):
        name = published.pop(weight.name)
        expected = arrays[f"pcen_log/learn_logs/grad_mean_square/{name}"]
        np.testing.assert_allclose(
            gradient,
            expected,
            atol=1e-3 * np.abs(expected).max(),
            err_msg=weight.name,
        )


@pytest.mark.parametrize("parametrization", ["linear", "log"])
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e6])
def test_small_and_large_energies_keep_their_digits(parametrization, scale):
    x = np.float32(scale) * energies(1, 300, 4)
    layer = postprocessing.PCENLayer(
        0.9, 0.05, 1.5, 3.0, 1e-9, parametrization=parametrization
    )
    expected = pcen64(x[0], 0.9, np.float32(0.05), 1.5, 1 / 3, 1e-9)
    outputs = ops.convert_to_numpy(layer(x))[0]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)


def test_parametrization_changes_what_is_learned_and_no_output():
    x = energies(2, 50, 4)
    linear = postprocessing.PCENLayer(**{**LOG, "parametrization": "linear"})
    log = postprocessing.PCENLayer(**LOG)
    np.testing.assert_allclose(
        ops.convert_to_numpy(linear(x)),
        ops.convert_to_numpy(log(x)),
        rtol=1e-5,
    )
    assert {w.name for w in log.weights} == {
        "log_alpha",
        "log_delta",
        "log_exponent",
        "log_smooth",
    }
    used = {
        name: ops.convert_to_numpy(value)
        for name, value in log.constrained_parameters().items()
    }
    expected = {"alpha": 0.98, "delta": 2, "exponent": 0.5, "smooth": 0.025}
    assert used.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(used[name], np.full(4, value), rtol=1e-6)


@pytest.mark.parametrize("parametrization", ["linear", "log"])
@pytest.mark.parametrize("clamp", [None, True, False])
def test_parameters_are_clamped_on_demand(parametrization, clamp):
    layer = postprocessing.PCENLayer(
        1.5, 1.7, 2.0, 0.5, parametrization=parametrization, clamp=clamp
    )
    x = energies(1, 50, 3)
    clamped = parametrization == "linear" if clamp is None else clamp
    alpha, power = (1.0, 1.0) if clamped else (1.5, 2.0)
    expected = pcen64(x[0], alpha, 1.0, 2.0, power, 1e-6)
    outputs = ops.convert_to_numpy(layer(x))[0]
    np.testing.assert_allclose(outputs, expected, rtol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sr": 16000, "hop_length": 160, "gain": 0.8, "bias": 10, "power": 0.25}
        | {"time_constant": 0.06},
        {"gain": 1.2, "power": 1.5, "bias": 0.5, "eps": 1e-3},
        {"b": 0.1},
    ],
    ids=["defaults", "16 kHz", "above 1", "coefficient"],
)
@pytest.mark.parametrize("parametrization", ["linear", "log"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 2.0**31])
def test_pcen_is_librosas(settings, parametrization, scale):
    librosa = pytest.importorskip("librosa")
    x = np.float32(scale) * energies(3, 400, 5)
    layer = postprocessing.PCENLayer.like_librosa(
        **settings, parametrization=parametrization
    )
    outputs = ops.convert_to_numpy(layer(x))
    for one, energy in zip(outputs, x, strict=True):
        expected = librosa.pcen(energy.T.astype("float64"), **settings)
        np.testing.assert_allclose(one.T, expected, rtol=1e-5)


def test_a_time_is_smoothed_over_as_librosa_does():
    for time_constant in (1e-4, 0.06, 0.4, 100.0):
        frames = time_constant * 22050 / 512
        expected = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
        found = postprocessing.smoothing_coefficient(time_constant, 22050, 512)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("before", [0.0, 1.0])
def test_the_energy_before_the_first_frame_can_be_given(before):
    x = energies(1, 40, 3)
    layer = postprocessing.PCENLayer(smooth_coef=0.1, initial_energy=before)
    expected = pcen64(x[0], 0.96, np.float32(0.1), 2.0, 0.5, 1e-6, before)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x))[0], expected, rtol=1e-5
    )
    given = layer(x, initial_state=np.full((1, 3), before, "float32"))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(given), ops.convert_to_numpy(layer(x))
    )


@pytest.mark.parametrize(
    "sizes",
    [
        [170, 130],
        pytest.param([1, 16, 17, 2, 264], marks=pytest.mark.slow_on_jax),
    ],
)
@pytest.mark.parametrize("settings", [SETTINGS["leaf_default"], LOG])
@pytest.mark.parametrize("before", [None, 1.0])
def test_chunks_in_turn_give_the_whole(sizes, settings, before):
    layer = postprocessing.PCENLayer(**settings, initial_energy=before)
    x = energies(2, 300, 3)
    whole = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(state_loop(layer, x, sizes), whole, rtol=1e-5)


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


@pytest.mark.parametrize("parametrization", ["linear", "log"])
def test_parameters_start_from_arrays_and_initializers(parametrization):
    layer = postprocessing.PCENLayer(
        alpha=[0.5, 0.6, 0.7],
        smooth_coef=np.array([0.1, 0.2, 0.3]),
        delta=initializers.ArrayInit([1.0, 2.0, 3.0]),
        root=keras.initializers.RandomUniform(2.0, 4.0, seed=1),
        per_channel_smooth_coef=True,
        parametrization=parametrization,
    )
    x = energies(1, 20, 3)
    expected = ops.convert_to_numpy(layer(x))
    used = {
        k: ops.convert_to_numpy(v)
        for k, v in layer.constrained_parameters().items()
    }
    np.testing.assert_allclose(used["alpha"], [0.5, 0.6, 0.7], rtol=1e-6)
    np.testing.assert_allclose(used["smooth"], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(used["delta"], [1, 2, 3], rtol=1e-6)
    assert ((used["exponent"] > 0.25) & (used["exponent"] < 0.5)).all()
    assert np.ptp(used["exponent"]) > 0
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(ops.convert_to_numpy(copy(x)), expected)


def test_parameters_are_one_or_one_per_channel():
    layer = postprocessing.PCENLayer(trainable=True, per_channel=False)
    one = ops.convert_to_numpy(layer(energies(1, 20, 4)))
    assert layer.count_params() == 4
    many = postprocessing.PCENLayer(trainable=True)
    np.testing.assert_allclose(
        one, ops.convert_to_numpy(many(energies(1, 20, 4))), rtol=1e-6
    )


def test_a_trained_pcen_can_be_started_from():
    trained = postprocessing.PCENLayer(name="PCEN")
    trained.build((None, None, 3))
    trained.alpha.assign(np.array([0.1, 0.2, 0.3], "float32"))
    layer = postprocessing.PCENLayer(
        alpha=initializers.from_trained(trained, "PCEN/alpha")
    )
    layer.build((None, None, 3))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.alpha), [0.1, 0.2, 0.3], rtol=1e-6
    )


FAR_OFF = (-200.0, -1.0, 0.0, 1e-20, 0.5, 3.0, 200.0)
UNUSUAL = (0.2, 1.0, 2.0, 4.0)


@pytest.mark.parametrize("floor", [1e-12, 1.0])
@pytest.mark.parametrize("clamp, values", [(True, FAR_OFF), (False, UNUSUAL)])
@pytest.mark.parametrize("parametrization", ["linear", "log"])
def test_no_parameter_makes_nan_of_finite_energies(
    parametrization, clamp, values, floor
):
    layer = postprocessing.PCENLayer(
        floor=floor,
        trainable=True,
        learn_smooth_coef=True,
        per_channel_smooth_coef=True,
        parametrization=parametrization,
        clamp=clamp,
    )
    smooth = (-1.0, 0.0, 0.04, 1.0, 2.0)
    grid = np.array(
        list(itertools.product(values, values, values, smooth)), "float32"
    )
    if parametrization == "log" and not clamp:
        grid = np.log(np.maximum(grid, 1e-30))
    layer.build((None, None, len(grid)))
    layer.set_weights(list(grid.T))

    def constant_channels(*frames):
        column = np.array(frames, "float32")[None, :, None]
        return np.repeat(column, len(grid), axis=2)

    outputs = layer(constant_channels(0, 1e-38, 1, 3e38, 0, 1e20, 1e-30))
    assert np.isfinite(ops.convert_to_numpy(outputs)).all()
    # The loss itself must not overflow either.
    by_input, gradients = grad_mean_square(
        _Root(layer), constant_channels(0, 1e-38, 1e-10, 1, 1e6, 0, 1e-30)
    )
    for gradient in (by_input, *gradients):
        assert np.isfinite(gradient).all()


class _Root(keras.layers.Layer):
    """Makes the mean square of its outputs the mean of a layer's."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.built = True

    def call(self, inputs):
        return ops.sqrt(self.layer(inputs) + 1e-3)


class _SmoothedFromState(keras.layers.Layer):
    """The moving average of all frames but the first, which is the state."""

    def __init__(self, smooth):
        super().__init__()
        self._initial = smooth

    def build(self, input_shape):
        self.smooth = self.add_weight(
            shape=self._initial.shape,
            initializer=initializers.ArrayInit(self._initial),
        )

    def call(self, inputs):
        # The weight as it is: on TensorFlow, a variable.
        smoothed = exponential_moving_average(
            inputs[:, 1:], ops.convert_to_tensor(self.smooth), inputs[:, 0]
        )
        return ops.concatenate([inputs[:, :1], smoothed], axis=1)


@pytest.mark.parametrize("smooth", [[0.3], [0.0, 0.04, 1.0]])
@pytest.mark.parametrize("frames", [0, 1, 16, 17, 40])
def test_the_gradient_of_the_recurrence_is_that_of_a_loop(frames, smooth):
    x = np.random.default_rng(0).exponential(size=(2, 1 + frames, 3))
    smooth = np.array(smooth)
    outputs = x.copy()
    for t in range(1, 1 + frames):
        outputs[:, t] = (1 - smooth) * outputs[:, t - 1] + smooth * x[:, t]
    by_input, by_smooth = np.zeros_like(x), np.zeros(3)
    slope = np.zeros((2, 3))
    for t in range(frames, 0, -1):
        slope = 2 * outputs[:, t] / x.size + (1 - smooth) * slope
        by_input[:, t] = smooth * slope
        by_smooth += np.sum(slope * (x[:, t] - outputs[:, t - 1]), axis=0)
    by_input[:, 0] = 2 * x[:, 0] / x.size + (1 - smooth) * slope
    if len(smooth) == 1:
        by_smooth = by_smooth.sum(keepdims=True)

    layer = _SmoothedFromState(smooth)
    found, (found_smooth,) = grad_mean_square(layer, x)
    np.testing.assert_allclose(found, by_input, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found_smooth, by_smooth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 100, 1000, 6000])
@pytest.mark.parametrize("smooth", [0.0, 1e-6, 0.04, 0.5, 1 - 1e-6, 1.0])
@pytest.mark.slow_on_jax
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
@pytest.mark.slow_on_jax
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
        functools.partial(postprocessing.PCENLayer, **LOG),
        functools.partial(
            postprocessing.PCENLayer,
            trainable=True,
            per_channel=False,
            initial_energy=1.0,
            clamp=False,
            alpha=keras.initializers.RandomUniform(0.5, 0.9),
        ),
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
        "log parameters",
        "one for all channels",
        "Log1p",
        "LogTBN",
        "LogTBN in place",
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
        (
            lambda: postprocessing.PCENLayer(parametrization="exp"),
            "parametrization='exp'",
        ),
        (
            lambda: postprocessing.PCENLayer(alpha=0, parametrization="log"),
            "alpha=0",
        ),
        (lambda: postprocessing.PCENLayer(clamp=1), "clamp=1"),
        (lambda: postprocessing.PCENLayer(per_channel=0), "per_channel=0"),
        (lambda: postprocessing.PCENLayer(floor=1e-40), "floor=1e-40"),
        (lambda: postprocessing.PCENLayer(delta=[1.0, -2.0]), "delta=-2.0"),
        (lambda: postprocessing.PCENLayer(alpha="one"), "alpha='one'"),
        (
            lambda: postprocessing.PCENLayer(initial_energy=-1.0),
            "initial_energy=-1.0",
        ),
        (
            lambda: postprocessing.PCENLayer(alpha=[0.5, 0.6])(
                energies(1, 5, 3)
            ),
            r"shape \(2,\) for a weight of shape \(3,\)",
        ),
        (
            lambda: postprocessing.PCENLayer(smooth_coef=[0.1, 0.2]),
            "`smooth_coef` must be one number unless `per_channel_smooth_coef`",
        ),
        (
            lambda: postprocessing.PCENLayer(
                alpha=[0.5, 0.6], per_channel=False
            ),
            "`alpha` must be one number unless `per_channel`",
        ),
        (lambda: postprocessing.PCENLayer(alpha=np.array(-1.0)), "alpha=-1.0"),
        (lambda: postprocessing.PCENLayer.like_librosa(bias=0), "bias=0"),
        (lambda: postprocessing.PCENLayer.like_librosa(power=0), "power=0"),
        (lambda: postprocessing.smoothing_coefficient(0, 1, 1), "=0"),
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


@pytest.mark.parametrize(
    "make",
    [
        postprocessing.Log1p,
        functools.partial(postprocessing.LogTBN, median="subtract"),
        postprocessing.TemporalBatchNormalization,
    ],
    ids=["Log1p", "LogTBN", "TemporalBatchNormalization"],
)
def test_energies_beyond_half_floats_are_compressed_in_mixed_precision(make):
    rng = np.random.default_rng(0)
    energies = 1e6 * rng.exponential(size=(2, 10, 3)).astype("float32")
    mixed = make(dtype="mixed_float16")
    outputs = ops.convert_to_numpy(call_layer(mixed, energies, None, True))
    assert outputs.dtype == "float16"
    assert np.isfinite(outputs).all()
