"""Poolings, against plain sums in float64."""

import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from leaf_audio import impulse_responses, pooling

LEARNABLE = [
    pooling.GaussianLowpass,
    pooling.LearnablePooling1D,
    pooling.ChannelWiseLearnablePooling1D,
]


PADDINGS = ["same", "valid", "centred", "causal"]


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 1, shape).astype("float32")


def window_sums(x, window, strides, padding):
    """Pools `(time, channels)` frame by frame."""
    size, time = len(window), len(x)
    frames = -(-time // strides)
    if padding == "valid":
        frames = max((time - size) // strides + 1, 0)
    left = {
        "same": max((frames - 1) * strides + size - time, 0) // 2,
        "centred": size // 2,
        "causal": size - 1,
        "valid": 0,
    }[padding]
    padded = np.pad(
        x.astype("float64"), ((left, size + frames * strides), (0, 0))
    )
    return np.stack(
        [
            (padded[m * strides : m * strides + size] * window).sum(0)
            for m in range(frames)
        ]
    )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    "size, strides", [(401, 160), (9, 9), (5, 12), (160, 160), (1, 3), (40, 2)]
)
@pytest.mark.parametrize("time", [401, 402, 1000])
@pytest.mark.slow_on_jax
def test_blocks_give_plain_sums(time, size, strides, padding):
    x, window = noise(2, time, 3), noise(size, 3, seed=1)
    outputs = ops.convert_to_numpy(
        pooling.pool_blocks(
            ops.convert_to_tensor(x),
            ops.convert_to_tensor(window),
            strides,
            padding,
        )
    )
    expected = np.stack([window_sums(e, window, strides, padding) for e in x])
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("strides", [2, 20])
@pytest.mark.parametrize("cls", LEARNABLE)
def test_each_pooling_honours_its_padding_and_stride(cls, strides, padding):
    """A stride of 2 takes the other of the two ways to compute it."""
    layer = cls(51, strides=strides, padding=padding)
    x = noise(1, 333, 4)
    outputs = ops.convert_to_numpy(layer(x))
    kernel = ops.convert_to_numpy(layer.kernel)
    if cls is pooling.GaussianLowpass:
        width = ops.convert_to_tensor(kernel.reshape(-1))
        window = impulse_responses.gaussian_lowpass(width, 51)
        window = ops.convert_to_numpy(window)
    else:
        window = kernel.reshape(51, -1)
    expected = window_sums(x[0], window, strides, padding)
    assert layer.compute_output_shape(x.shape) == outputs.shape
    np.testing.assert_allclose(outputs[0], expected, atol=1e-4)


@pytest.mark.parametrize("size", [50, 51])
@pytest.mark.parametrize(
    "padding, frames, first",
    [
        ("same", 17, lambda size: -((320 + size - 333) // 2)),
        ("centred", 17, lambda size: -(size // 2)),
        ("causal", 17, lambda size: 1 - size),
        ("valid", 15, lambda size: 0),
    ],
)
def test_max_pooling_honours_its_padding(padding, frames, first, size):
    """Below zero everywhere, so that a padded zero would be the maximum."""
    layer = pooling.MaxPooling1D(size, strides=20, padding=padding)
    x = -np.abs(noise(1, 333, 4))
    outputs = ops.convert_to_numpy(layer(x))
    assert outputs.shape == (1, frames, 4)
    assert layer.compute_output_shape(x.shape) == outputs.shape
    starts = first(size) + 20 * np.arange(frames)
    expected = [x[0, max(s, 0) : s + size].max(axis=0) for s in starts]
    np.testing.assert_array_equal(outputs[0], expected)


def test_bias_is_added():
    layer = pooling.GaussianLowpass(51, strides=20, use_bias=True)
    x = noise(1, 200, 4)
    before = ops.convert_to_numpy(layer(x))
    layer.bias.assign([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), before + [1, 2, 3, 4], rtol=1e-5
    )


@pytest.mark.parametrize(
    "cls, padding",
    [
        *((cls, "same") for cls in [*LEARNABLE, pooling.MaxPooling1D]),
        (pooling.GaussianLowpass, "centred"),
        (pooling.MaxPooling1D, "causal"),
    ],
)
def test_is_a_keras_citizen(cls, padding, tmp_path):
    def make(**kwargs):
        return cls(kernel_size=33, strides=10, padding=padding, **kwargs)

    check_layer(make, np.abs(noise(2, 200, 3)), tmp_path, atol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: pooling.GaussianLowpass(0), "kernel_size=0"),
        (lambda: pooling.LearnablePooling1D(9, strides=-1), "strides=-1"),
        (lambda: pooling.GaussianLowpass(9, padding="full"), "padding='full'"),
        (lambda: pooling.MaxPooling1D(9, padding="full"), "padding='full'"),
        (lambda: pooling.MaxPooling1D(9, use_bias=True), "use_bias=True"),
        (
            lambda: pooling.MaxPooling1D(9, kernel_initializer="zeros"),
            "kernel_initializer='zeros'",
        ),
        (
            lambda: pooling.GaussianLowpass(9)(np.zeros((2, 50), "f")),
            "expected ndim=3",
        ),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gaussians_are_the_same_in_numpy_and_as_tensors(dtype):
    values = np.array([0.001, 0.2, 0.4, 3.0], dtype)
    for function, parameters in (
        (impulse_responses.gaussian_lowpass, values),
        (impulse_responses.gaussian_windows, values),
        (impulse_responses.gabor_envelope, 50 * values),
    ):
        in_numpy = function(parameters, 41)
        assert isinstance(in_numpy, np.ndarray)
        assert in_numpy.dtype == dtype
        tensor = function(ops.convert_to_tensor(parameters), 41)
        # On PyTorch, Keras rounds the bounds of `clip` to float32, and the
        # exponential multiplies the error. The first and the last width lie at
        # their bounds.
        np.testing.assert_allclose(
            in_numpy,
            ops.convert_to_numpy(tensor),
            rtol=1e-4 if dtype == "float32" else 1e-5,
        )
        np.testing.assert_allclose(
            in_numpy[..., 1:-1],
            ops.convert_to_numpy(tensor)[..., 1:-1],
            rtol=1e-4 if dtype == "float32" else 1e-12,
        )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("strides", [1, 40, 160])
@pytest.mark.parametrize("cls", [*LEARNABLE, pooling.MaxPooling1D])
def test_an_empty_batch_gives_no_frames(cls, strides, padding):
    layer = cls(401, strides=strides, padding=padding)
    shape = (0, 1000, 4)
    assert layer(np.zeros(shape, "float32")).shape == (
        layer.compute_output_shape(shape)
    )
