"""Initializers: published values, other settings, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from leaf_audio import initializers


def values(init, shape):
    return ops.convert_to_numpy(init(shape, dtype="float32"))


def test_gabor_parameters_are_the_published_ones(golden):
    init = initializers.GaborInit(
        sample_rate=16000, min_freq=60.0, max_freq=7800.0
    )
    expected = golden("components")["gabor_params/40_16k"]
    np.testing.assert_allclose(values(init, (40, 2)), expected, rtol=1e-5)


def test_gabor_kernels_interleave_real_and_imaginary_parts(golden):
    init = initializers.GaborInit(
        sample_rate=16000, min_freq=60.0, max_freq=7800.0
    )
    kernel = values(init, (401, 1, 80))
    arrays = golden("components")
    for offset, part in ((0, "real"), (1, "imag")):
        expected = arrays[f"gabor_filters_scaled/40_16k/{part}"]
        np.testing.assert_allclose(
            kernel[:, 0, offset::2].T,
            expected,
            atol=1e-5 * np.abs(expected).max(),
        )


def test_sinc_parameters_are_the_published_ones(golden):
    expected = golden("components")["sinc_init/40_16k"]
    init = initializers.SincInit()
    np.testing.assert_allclose(values(init, (40, 2)), expected, rtol=1e-5)


def test_preemphasis_is_the_published_one(golden):
    expected = golden("components")["preemp_init"]
    init = initializers.PreempInit()
    np.testing.assert_allclose(values(init, (2, 1, 1)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "window_type", ["hamming", "hanning", "squared_hanning"]
)
@pytest.mark.parametrize("shape", [(401, 1, 3), (1, 401, 3, 1)])
def test_lowpass_windows_are_the_published_ones(golden, window_type, shape):
    expected = golden("components")[f"window_401/{window_type}"]
    init = initializers.LowpassInit(window_type=window_type)
    kernel = values(init, shape).reshape(401, 3)
    for channel in kernel.T:
        np.testing.assert_allclose(channel, expected, atol=1e-6)


@pytest.mark.parametrize(
    "init",
    [
        initializers.PreempInit(0.9),
        initializers.GaborInit(8000, 100.0, 3000.0, 1024, True, 12, 20.0),
        initializers.SincInit(8000, 30.0, 40.0),
        initializers.LowpassInit(8000, 25.0, "hamming"),
    ],
)
def test_config_is_complete(init):
    config = keras.saving.serialize_keras_object(init)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(init)
    assert vars(copy) == vars(init)
    assert set(init.get_config()) == set(vars(init))


def test_settings_left_open_follow_a_frontend():
    init = initializers.GaborInit(min_freq=60.0)
    following = init.following(sample_rate=8000, window_len=32.0)
    assert (following.sample_rate, following.window_len) == (8000, 32.0)
    settled = initializers.GaborInit(16000).following(8000, 32.0)
    assert settled.sample_rate == 16000


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: initializers.GaborInit(16000, 60.0, 9000.0), "Nyquist"),
        (lambda: initializers.GaborInit(16000, 500.0, 400.0), "min_freq=500.0"),
        (lambda: initializers.GaborInit()((4, 3)), r"shape=\(4, 3\)"),
        (lambda: initializers.GaborInit()((9, 1, 3)), r"shape=\(9, 1, 3\)"),
        (lambda: initializers.GaborInit(n_filters=4)((5, 2)), "n_filters=4"),
        (lambda: initializers.GaborInit(n_fft=64)((40, 2)), "without a bin"),
        (lambda: initializers.GaborInit(sample_rate=-1), "sample_rate=-1"),
        (lambda: initializers.GaborInit(n_fft=-4), "n_fft=-4"),
        (lambda: initializers.GaborInit(n_filters=0), "n_filters=0"),
        (lambda: initializers.GaborInit(window_len=-3.0), "window_len=-3.0"),
        (lambda: initializers.GaborInit(16000, "60"), "min_freq='60'"),
        (lambda: initializers.SincInit(200)((4, 2)), "sample_rate=200"),
        (lambda: initializers.SincInit(sample_rate=-1), "sample_rate=-1"),
        (lambda: initializers.SincInit(min_low_hz=-5.0), "min_low_hz=-5.0"),
        (lambda: initializers.PreempInit(alpha=7.0), "alpha=7.0"),
        (lambda: initializers.PreempInit(alpha="x"), "alpha='x'"),
        (lambda: initializers.LowpassInit(window_len=0), "window_len=0"),
        (lambda: initializers.SincInit()((4, 3)), r"shape=\(4, 3\)"),
        (lambda: initializers.PreempInit()((3, 1, 1)), r"shape=\(3, 1, 1\)"),
        (lambda: initializers.LowpassInit(window_type="kaiser"), "kaiser"),
        (lambda: initializers.LowpassInit()((4,)), r"shape=\(4,\)"),
        (
            lambda: initializers.LowpassInit(8000, 25.0)((401, 1, 1)),
            "201 samples",
        ),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_analytic_filters_take_neither_an_fft_nor_a_full_kernel():
    with pytest.raises(ValueError, match="n_fft=512, method='mel_analytic'"):
        initializers.GaborInit(n_fft=512, method="mel_analytic")
    init = initializers.GaborInit(method="mel_analytic", n_filters=8)
    with pytest.raises(ValueError, match="method='mel' alone"):
        init((401, 1, 80))
    with pytest.raises(ValueError, match="n_filters=8 for a layer of 9"):
        init((9, 2))
    with pytest.raises(ValueError, match="method='melody'"):
        initializers.GaborInit(method="melody")
