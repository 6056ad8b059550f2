"""Convolutions, against published filters and independent references."""

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer

from leaf_audio import convolution, impulse_responses, initializers


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 1, shape).astype("float32")


def correlate_same(x, kernel):
    """Full-rate "same" correlation in float64, channel by channel."""
    size = len(kernel)
    left = (size - 1) // 2
    padded = np.pad(x.astype("float64"), (left, size - 1 - left))
    return np.correlate(padded, kernel.astype("float64"), "valid")


def test_gabor_filters_are_the_published_ones(golden):
    arrays = golden("components")
    centre, sigma = arrays["gabor_params/40_16k"].T
    parts = impulse_responses.gabor_filters(
        ops.convert_to_tensor(centre), ops.convert_to_tensor(sigma), 401
    )
    for name, part in zip(("real", "imag"), parts, strict=True):
        expected = arrays[f"gabor_filters/40_16k/{name}"]
        np.testing.assert_allclose(
            ops.convert_to_numpy(part).T,
            expected,
            atol=1e-5 * np.abs(expected).max(),
        )


def test_sinc_filters_are_the_published_ones(golden):
    arrays = golden("components")
    layer = convolution.SincConv1D(80, 401)
    layer.build((None, None, 1))
    window = arrays["window_401/hamming"][:, None]
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.impulse_responses()),
        arrays["sinc_filters/40_16k"] * window,
        atol=1e-5,
    )


@pytest.mark.parametrize("sigma", ["0.001", "0.1", "0.4", "0.9"])
def test_lowpass_filters_are_the_published_ones(golden, sigma):
    expected = golden("components")[f"gaussian_lowpass/sigma_{sigma}_size_401"]
    width = ops.convert_to_tensor(np.array([sigma], "float32"))
    window = impulse_responses.gaussian_lowpass(width, 401)
    np.testing.assert_allclose(
        ops.convert_to_numpy(window)[:, 0], expected, rtol=1e-5, atol=1e-6
    )


def test_gaussians_hold_nothing_that_makes_denormal_products():
    sigma = np.array([2.0, 9.0, 15.0, 16.0, 40.0], "float32")
    real, _ = impulse_responses.gabor_filters(
        ops.zeros(5), ops.convert_to_tensor(sigma), 401
    )
    window = impulse_responses.gaussian_windows(
        ops.convert_to_tensor(sigma / 200), 401
    )
    free = impulse_responses.scaled_gabor_filters(
        np.stack([0 * sigma, sigma], axis=1), np.ones((5, 1)), 401
    ).real
    for values in (real, window, free):
        values = ops.convert_to_numpy(values)
        assert (values == 0).any() and (values > 0).any()
        assert values[values > 0].min() > 1e-32


@pytest.mark.parametrize("time", [1, 7, 8, 9, 100, 403])
@pytest.mark.parametrize("size", [1, 2, 9, 16, 401])
@pytest.mark.slow_on_jax
def test_blocks_give_the_plain_convolution(time, size):
    x, kernel = noise(2, time, 1), noise(size, 1, 3, seed=1)
    outputs = ops.convert_to_numpy(
        convolution.conv1d_by_blocks(
            ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
        )
    )
    expected = np.stack(
        [
            np.stack([correlate_same(e[:, 0], k) for k in kernel[:, 0].T], -1)
            for e in x
        ]
    )
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_gabor_convolution_interleaves_real_and_imaginary_parts():
    layer = convolution.GaborConv1D(6, 101)
    x = noise(1, 500, 1)
    outputs = ops.convert_to_numpy(layer(x))
    real, imag = (ops.convert_to_numpy(p) for p in layer.impulse_responses())
    for n in range(3):
        for offset, part in ((0, real), (1, imag)):
            np.testing.assert_allclose(
                outputs[0, :, 2 * n + offset],
                correlate_same(x[0, :, 0], part[:, n]),
                atol=1e-4,
            )


def test_gabor_parameters_are_constrained_in_the_forward_pass():
    wild = keras.initializers.Constant(1e6)
    layer = convolution.GaborConv1D(2, 401, kernel_initializer=wild)
    layer.build((None, None, 1))
    real, _ = layer.impulse_responses()
    sigma = 401 * np.sqrt(2 * np.log(2)) / np.pi
    t = np.arange(401) - 200
    expected = np.exp(-(t**2) / (2 * sigma**2)) * np.cos(np.pi * t)
    expected /= np.sqrt(2 * np.pi) * sigma
    np.testing.assert_allclose(
        ops.convert_to_numpy(real)[:, 0], expected, atol=1e-6
    )


def test_gabor_parameters_are_constrained_after_an_update():
    layer = convolution.GaborConv1D(8, 101)
    model = keras.Sequential([keras.Input((400, 1)), layer])
    model.compile(keras.optimizers.SGD(1e4), "mse")
    model.fit(noise(2, 400, 1), noise(2, 400, 8), verbose=0)
    centre, sigma = ops.convert_to_numpy(layer.kernel).T
    assert centre.min() >= 0 and centre.max() <= np.pi + 1e-6
    unit = np.sqrt(2 * np.log(2)) / np.pi
    assert sigma.min() >= 4 * unit - 1e-4
    assert sigma.max() <= 101 * unit + 1e-3


def test_sorted_filters_come_by_centre_frequency():
    order = np.array([2, 0, 3, 1])
    params = ops.convert_to_numpy(initializers.GaborInit()((4, 2), "float32"))
    x = noise(1, 300, 1)
    outputs = {}
    for sort_filters, start in ((True, params[order]), (False, params)):
        layer = convolution.GaborConv1D(8, 101, sort_filters=sort_filters)
        layer.build((None, None, 1))
        layer.kernel.assign(start)
        outputs[sort_filters] = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(outputs[True], outputs[False], atol=1e-6)


def test_sorted_filters_still_learn():
    layer = convolution.GaborConv1D(8, 101, sort_filters=True)
    layer.build((None, None, 1))
    layer.kernel.assign(ops.convert_to_numpy(layer.kernel)[::-1].copy())
    _, (gradient,) = grad_mean_square(layer, noise(1, 300, 1))
    assert (np.abs(gradient).max(axis=1) > 0).all()


def test_normalized_kernels_have_norm_1():
    layer = convolution.NormalizedConv1D(4, 9)
    layer.build((None, None, 1))
    layer.kernel.assign(10 * noise(9, 1, 4))
    impulse = np.zeros((1, 33, 1), "float32")
    impulse[0, 16] = 1
    responses = ops.convert_to_numpy(layer(impulse))[0]
    np.testing.assert_allclose(np.linalg.norm(responses, axis=0), 1, rtol=1e-5)


def test_sinc_filters_pass_their_band_at_any_sample_rate():
    for sample_rate in (8000, 44100):
        layer = convolution.SincConv1D(2, 801, sample_rate=sample_rate)
        layer.build((None, None, 1))
        layer.kernel.assign([[900.0, 500.0]])
        kernel = ops.convert_to_numpy(layer.impulse_responses())[:, 0]
        response = np.abs(np.fft.rfft(kernel, 1 << 14))
        hz = np.arange(len(response)) * sample_rate / (1 << 14)
        band = hz[response > response.max() / 2]
        assert abs(band[0] - 950) < 30 and abs(band[-1] - 1500) < 30


def test_an_empty_band_passes_nothing():
    layer = convolution.SincConv1D(
        4, 11, kernel_initializer="zeros", min_band_hz=0.0
    )
    x = noise(1, 50, 1)
    assert not ops.convert_to_numpy(layer(x)).any()
    # One band gets a width.
    layer.set_weights([np.array([[0.0, 0.0], [200.0, 300.0]], "float32")])
    outputs = ops.convert_to_numpy(layer(x))
    assert not outputs[..., 0].any() and outputs[..., 1].any()
    by_input, by_weights = grad_mean_square(layer, x)
    for gradient in (by_input, *by_weights):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
@pytest.mark.parametrize("strides", [1, 3, 50])
@pytest.mark.parametrize("time, size", [(1000, 401), (500, 32), (40, 33)])
@pytest.mark.slow_on_jax
def test_fft_convolution_is_keras_convolution(padding, strides, time, size):
    settings = {
        "strides": strides,
        "padding": padding,
        "activation": "tanh",
        "bias_initializer": "normal",
    }
    plain = keras.layers.Conv1D(
        4, size, data_format="channels_last", **settings
    )
    by_fft = convolution.FFTConv1D(4, size, **settings)
    x = noise(2, time, 2) / 10
    expected = ops.convert_to_numpy(plain(x))
    by_fft.build(x.shape)
    by_fft.set_weights(plain.get_weights())
    assert by_fft.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(
        ops.convert_to_numpy(by_fft(x)), expected, atol=1e-5
    )


def test_waveform_convolution_is_keras_convolution():
    settings = {"activation": "tanh", "bias_initializer": "normal"}
    plain = keras.layers.Conv1D(
        4, 401, padding="same", data_format="channels_last", **settings
    )
    layer = convolution.WaveformConv1D(4, 401, **settings)
    x = noise(2, 1001, 1) / 10
    expected = ops.convert_to_numpy(plain(x))
    layer.build(x.shape)
    layer.set_weights(plain.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), expected, atol=1e-5
    )


@pytest.mark.parametrize(
    "cls",
    [
        convolution.GaborConv1D,
        convolution.NormalizedConv1D,
        convolution.SincConv1D,
        convolution.FFTConv1D,
        convolution.WaveformConv1D,
    ],
)
@pytest.mark.slow_on_jax
def test_is_a_keras_citizen(cls, tmp_path):
    def make(**kwargs):
        return cls(filters=8, kernel_size=33, use_bias=True, **kwargs)

    check_layer(make, noise(2, 200, 1), tmp_path, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: convolution.GaborConv1D(8, 33, use_bias=True),
        lambda: convolution.GaborConv1D(8, 33, strides=3, sort_filters=True),
        lambda: convolution.WaveformConv1D(8, 33, activation="tanh"),
    ],
)
def test_energies_are_the_squared_modulus(make):
    layer = make()
    x = noise(2, 200, 1)
    layer.build(x.shape)
    if layer.use_bias:
        layer.bias.assign(noise(8))
    parts = ops.convert_to_numpy(layer(x))
    energies = ops.convert_to_numpy(layer(x, squared_modulus=True))
    symbolic = layer(keras.Input(x.shape[1:]), squared_modulus=True)
    assert symbolic.shape == (None, *energies.shape[1:])
    np.testing.assert_allclose(
        energies, parts[..., ::2] ** 2 + parts[..., 1::2] ** 2, atol=1e-5
    )


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 3])
@pytest.mark.parametrize(
    "cls",
    [
        convolution.GaborConv1D,
        convolution.NormalizedConv1D,
        convolution.SincConv1D,
    ],
)
def test_an_empty_batch_gives_empty_outputs(cls, strides, padding):
    layer = cls(8, 41, strides=strides, padding=padding)
    shape = (0, 300, 1)
    assert layer(np.zeros(shape, "float32")).shape == (
        layer.compute_output_shape(shape)
    )


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 4])
def test_gabor_convolution_honours_strides_and_padding(padding, strides):
    plain = convolution.GaborConv1D(4, 65)
    layer = convolution.GaborConv1D(
        4, 65, strides=strides, padding=padding.upper()
    )
    x = noise(1, 301, 1)
    full = ops.convert_to_numpy(plain(x))
    outputs = ops.convert_to_numpy(layer(x))
    if padding == "valid":
        expected = full[:, 32:-32:strides]
    else:
        # At a stride of 4, 301 samples give 76 frames, which lack 64 samples.
        # Of these, 32 are on the left, as at a stride of 1.
        expected = full[:, ::strides]
    assert layer.compute_output_shape(x.shape) == outputs.shape
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: convolution.GaborConv1D(7, 401), "filters=7"),
        (lambda: convolution.SincConv1D(-2, 401), "filters=-2"),
        (lambda: convolution.GaborConv1D(8, 0), "kernel_size=0"),
        (lambda: convolution.GaborConv1D(8, 9, strides=0), "strides=0"),
        (lambda: convolution.NormalizedConv1D(8, 9, padding="full"), "full"),
        (lambda: convolution.SincConv1D(8, 9, sample_rate=0), "sample_rate=0"),
        (
            lambda: convolution.SincConv1D(8, 9, min_band_hz=-1),
            "min_band_hz=-1",
        ),
        (
            lambda: convolution.SincConv1D(
                8, 9, kernel_initializer="zeros", min_low_hz=7950.0
            ),
            "min_low_hz=7950.0, min_band_hz=50.0, sample_rate=16000",
        ),
        (
            lambda: convolution.SincConv1D(
                8, 9, kernel_initializer="zeros", sample_rate=100
            ),
            "half of the sample rate",
        ),
        (lambda: convolution.FFTConv1D(8, 9, dilation_rate=2), "dilation_rate"),
        (lambda: convolution.FFTConv1D(8, 9, groups=2), "groups=2"),
        (lambda: convolution.WaveformConv1D(8, 9, strides=2), "strides=2"),
        (
            lambda: convolution.WaveformConv1D(8, 9)(np.zeros((1, 50, 2), "f")),
            "batch, time, 1",
        ),
        (
            lambda: convolution.GaborConv1D(8, 9)(np.zeros((1, 50, 2), "f")),
            "batch, time, 1",
        ),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
