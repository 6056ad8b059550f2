"""The contract of `leaf_audio.frontend.base`, for every frontend."""

import functools

import keras
import numpy as np
import pytest
from frontend_makers import FRONTENDS, noise
from keras import ops
from layer_checks import check_compiled_fit, check_layer

from leaf_audio import frontend
from leaf_audio.frontend.base import Frontend

ALL = {**FRONTENDS, "spectrogram": frontend.Spectrogram}


def test_every_exported_frontend_is_tested():
    exported = [getattr(frontend, name) for name in frontend.__all__]
    exported = {
        cls
        for cls in exported
        if isinstance(cls, type) and issubclass(cls, Frontend)
    }
    assert {getattr(make, "func", make) for make in ALL.values()} == exported


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(2, 1000), (2, 1000, 1)])
def test_waveforms_become_a_frame_of_every_filter_each_stride(name, shape):
    """`(batch, time[, 1])` → `(batch, ceil(time / stride), n_filters)`."""
    layer = ALL[name](window_stride=7.0)
    expected = (2, -(-1000 // 112), layer.n_filters)
    assert layer.compute_output_shape(shape) == expected
    assert layer(noise(*shape)).shape == expected


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("time", [1, 2, 159, 160, 161, 401, 1000, 16001])
@pytest.mark.slow_on_jax
def test_frames_are_a_stride_apart_for_any_length(name, time):
    layer = FRONTENDS[name]()
    features = layer(noise(2, time))
    assert features.shape == (2, -(-time // 160), 40)
    assert layer.compute_output_shape((2, time)) == features.shape
    assert np.isfinite(ops.convert_to_numpy(features)).all()


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"sample_rate": 8000},
        {"sample_rate": 44100},
        {"sample_rate": 22050, "window_len": 46.0, "window_stride": 11.6},
        {"n_filters": 1},
        {"n_filters": 128},
        {"window_len": 5.0, "window_stride": 5.0},
        {"window_len": 4.0, "window_stride": 8.0},
        {"sample_rate": 16000.0, "n_filters": 64, "window_len": 100.0},
    ],
)
@pytest.mark.slow_on_jax
def test_any_sample_rate_window_and_filter_count(name, settings):
    layer = FRONTENDS[name](**settings)
    sample_rate = settings.get("sample_rate", 16000)
    stride = int(sample_rate * settings.get("window_stride", 10.0) // 1000)
    features = ops.convert_to_numpy(layer(noise(1, 3000)))
    frames = -(-3000 // stride)
    assert features.shape == (1, frames, settings.get("n_filters", 40))
    assert np.isfinite(features).all()


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.slow_on_jax
def test_a_channel_axis_of_one_changes_nothing(name):
    layer = FRONTENDS[name]()
    x = noise(2, 2000)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layer(x)),
        ops.convert_to_numpy(layer(x[..., None])),
    )


# `leaf` has all that `leaf_linear` has.
@pytest.mark.parametrize(
    "name",
    [
        *("leaf", "mel", "efficient_leaf"),
        *(
            pytest.param(name, marks=pytest.mark.slow_on_jax)
            for name in ("tfbanks", "sincnet", "sincnet_plus")
        ),
    ],
)
def test_is_a_keras_citizen(name, tmp_path):
    make = functools.partial(FRONTENDS[name], n_filters=4)
    check_layer(make, noise(2, 1600), tmp_path, compiles=name == "mel")


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.slow
def test_xla_compiles_a_step_of_training(name):
    layer = FRONTENDS[name](n_filters=4)
    x = noise(2, 1600)
    expected = ops.convert_to_numpy(layer(x))
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    check_compiled_fit(model, x, expected)


@pytest.mark.parametrize("name", FRONTENDS)
def test_answers_to_a_channel_axis_of_unknown_length(name):
    x = keras.Input((None, 1))
    model = keras.Model(x, FRONTENDS[name]()(x))
    assert model.output_shape == (None, None, 40)
    assert model.predict(noise(2, 700, 1), verbose=0).shape == (2, 5, 40)


@pytest.mark.parametrize("name", ["leaf", "efficient_leaf"])
def test_a_frozen_frontend_is_frozen_in_any_model(name, tmp_path):
    layer = FRONTENDS[name](n_filters=4, trainable=False)
    model = keras.Sequential(
        [keras.Input((800,)), layer, keras.layers.Dense(2)]
    )
    assert len(model.trainable_weights) == 2
    model.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert len(loaded.trainable_weights) == 2


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((2, 1000, 2), "float32"), "one channel"),
        (np.zeros((1000,), "float32"), "batch, time"),
        (np.zeros((2, 0), "float32"), "at least one sample"),
        (np.zeros((2, 1000), "int16"), "floating-point"),
        (np.zeros((2, 1, 1000, 1), "float32"), "batch, time"),
    ],
)
def test_inputs_that_are_no_waveforms_are_rejected(name, inputs, message):
    with pytest.raises(ValueError, match=message):
        FRONTENDS[name]()(inputs)


@pytest.mark.parametrize(
    "shape, dtype", [((100, 2), "float32"), ((9,), "int32")]
)
def test_symbolic_inputs_are_checked_too(shape, dtype):
    with pytest.raises(ValueError, match="takes"):
        frontend.Leaf()(keras.Input(shape, dtype=dtype))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_filters": 0}, "`n_filters` must be a positive integer"),
        ({"n_filters": -3}, "n_filters=-3"),
        ({"n_filters": 4.5}, "n_filters=4.5"),
        ({"sample_rate": -1}, "sample_rate=-1"),
        ({"window_len": 0}, "window_len=0"),
        ({"window_len": 0.025}, "window_len=0.025 ms"),
        ({"window_stride": -10}, "window_stride=-10"),
        ({"window_stride": 0.01}, "at least one sample.*sample_rate=16000 Hz"),
        ({"sample_rate": 44.1}, "=44.1 Hz. `sample_rate` is .* 44100 Hz"),
        ({"window_len": float("nan")}, "window_len=nan"),
        ({"compression_fn": "sqrt"}, "compression_fn"),
        ({"spec_augment": "yes"}, "spec_augment='yes'"),
        ({"spec_augment": ops.abs}, "must be True, False or a layer"),
        ({"compression_fn": 3}, "compression_fn=3"),
    ],
)
@pytest.mark.parametrize("cls", [frontend.Leaf, frontend.MelFilterbanks])
def test_impossible_settings_are_rejected(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", FRONTENDS)
def test_spec_augment_acts_in_training_only(name):
    leaf = FRONTENDS[name](spec_augment=True)
    x = noise(4, 16000)
    fixed = ops.convert_to_numpy(leaf(x))
    assert (fixed != 0).all()
    augmented = ops.convert_to_numpy(leaf(x, training=True))
    assert (augmented == 0).any()
    again = ops.convert_to_numpy(leaf(x, training=True))
    assert (augmented != again).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(leaf(x)), fixed)


def test_float64_policy_computes_in_float64():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only when the process starts with it")
    leaf = frontend.Leaf(dtype="float64", compression_fn=None)
    features = leaf(noise(1, 3000).astype("float64"))
    assert keras.backend.standardize_dtype(features.dtype) == "float64"
    single = ops.convert_to_numpy(
        frontend.Leaf(compression_fn=None)(noise(1, 3000))
    )
    difference = np.abs(ops.convert_to_numpy(features) - single)
    assert 0 < difference.max() < 1e-5


@pytest.mark.parametrize("name", ["sincnet", "sincnet_plus"])
def test_all_parts_of_a_frontend_compute_in_its_dtype(name):
    for dtype, expected in (("float64", "float64"), ("float16", "float32")):
        layers = FRONTENDS[name](dtype=dtype).layers
        assert {layer.compute_dtype for layer in layers} == {expected}


@pytest.mark.parametrize("name", FRONTENDS)
def test_building_again_changes_nothing(name):
    built = FRONTENDS[name]()
    built.build((None, 1600))
    before = built.get_weights()
    built.build((None, 3200))
    for one, other in zip(built.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("stride, frames", [(10.0, 5), (2.5, 20)])
def test_an_empty_batch_gives_no_features(name, stride, frames):
    if keras.backend.backend() != "tensorflow" and name == "mel":
        pytest.skip("this backend's Fourier transform refuses it")
    layer = FRONTENDS[name](n_filters=4, window_stride=stride)
    features = layer(np.zeros((0, 800), "float32"))
    assert features.shape == (0, frames, 4)
