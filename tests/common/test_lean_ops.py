"""Operations with gradients of their own: what they give, and their slopes."""

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops

from leaf_audio import frontend
from leaf_audio.common import lean_ops


class Applied(keras.layers.Layer):
    """A function of the inputs, as a layer."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def call(self, inputs):
        return self._function(inputs)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def slope(function, x):
    """The gradient of the mean of squares."""
    return grad_mean_square(Applied(function), x)[0]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_energies_are_those_of_complex_numbers(count):
    x = noise(2, 5, 2 * count)
    energies = lean_ops.complex_energies(ops.convert_to_tensor(x))
    expected = np.abs(x[..., :count] + 1j * x[..., count:]) ** 2
    np.testing.assert_allclose(
        ops.convert_to_numpy(energies), expected, rtol=1e-5
    )
    np.testing.assert_allclose(
        slope(lean_ops.complex_energies, x),
        4 * np.tile(expected, 2) * x / expected.size,
        rtol=1e-5,
    )


@pytest.mark.parametrize("head, tail", [(2, 4), (3, 3), (4, 2), (6, 0)])
def test_ends_and_the_whole_share_a_gradient(head, tail):
    x = noise(2, 6, 3)

    def joined(x):
        return ops.concatenate(lean_ops.with_ends(x, head, tail), axis=1)

    expected = np.concatenate([x, x[:, :head], x[:, tail:]], axis=1)
    outputs = ops.convert_to_numpy(joined(ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(outputs, expected)
    time = np.arange(6)[:, None]
    used = 1 + (time < head) + (time >= tail)
    np.testing.assert_allclose(
        slope(joined, x), 2 * used * x / expected.size, rtol=1e-5
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_reordering_has_the_gradient_of_what_it_took(axis):
    x = noise(4, 4, 4)
    order = [2, 0, 3, 1]
    weights = noise(4, 4, 4)

    def weighted(x):
        return ops.multiply(lean_ops.reorder(x, order, axis), weights)

    outputs = ops.convert_to_numpy(weighted(ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(outputs, np.take(x, order, axis) * weights)
    back = np.take(weights, np.argsort(order), axis)
    np.testing.assert_allclose(
        slope(weighted, x), 2 * back**2 * x / x.size, rtol=1e-5
    )


@pytest.mark.parametrize("sizes", [[5], [2, 3], [1, 1, 3]])
def test_parts_of_a_split_have_the_sizes_asked_for(sizes):
    parts = lean_ops.split_by(ops.convert_to_tensor(noise(5, 2)), sizes, 0)
    assert [part.shape[0] for part in parts] == sizes
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ops.concatenate(parts)), noise(5, 2)
    )


@pytest.mark.parametrize("low, high", [(-0.5, None), (None, 0.5), (-0.5, 0.5)])
def test_values_beyond_a_limit_are_clipped_and_have_no_slope(low, high):
    x = noise(4, 5)
    clipped = lean_ops.clip(ops.convert_to_tensor(x), low=low, high=high)
    expected = np.clip(x, low, high)
    np.testing.assert_array_equal(ops.convert_to_numpy(clipped), expected)
    np.testing.assert_allclose(
        slope(lambda x: lean_ops.clip(x, low=low, high=high), x),
        np.where(expected == x, 2 * x / x.size, 0),
        rtol=1e-5,
    )


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="for tensors of PyTorch"
)
def test_no_number_is_copied_to_the_device_in_a_call(monkeypatch):
    """A GPU would wait for the copy."""
    import torch

    leaf = frontend.Leaf(n_filters=4)
    audio = ops.convert_to_tensor(noise(1, 4000))
    leaf(audio)
    as_tensor, numbers = torch.as_tensor, []

    def watched(value, *args, **kwargs):
        if isinstance(value, int | float):
            numbers.append(value)
        return as_tensor(value, *args, **kwargs)

    monkeypatch.setattr(torch, "as_tensor", watched)
    leaf(audio)
    assert numbers == []
