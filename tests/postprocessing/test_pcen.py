"""PCEN against published numbers, librosa and a loop in float64."""

import functools

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer
from random_energies import energies

from leaf_audio import initializers, postprocessing

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
        alpha=0.9,
        smooth_coef=0.05,
        delta=1.5,
        root=3.0,
        floor=1e-9,
        parametrization=parametrization,
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


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(postprocessing.PCENLayer, **SETTINGS["leaf_default"]),
        functools.partial(postprocessing.PCENLayer, **LOG),
        functools.partial(
            postprocessing.PCENLayer,
            trainable=True,
            per_channel=False,
            initial_energy=1.0,
            clamp=False,
            alpha=keras.initializers.RandomUniform(0.5, 0.9),
        ),
    ],
    ids=["PCENLayer", "log parameters", "one for all channels"],
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
            r"`alpha` .*3 channels.*alpha=\[0.5, 0.6\]",
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
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
