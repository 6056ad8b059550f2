"""PCEN at extreme numbers: outputs and gradients stay finite."""

import itertools

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from random_energies import energies

from leaf_audio import postprocessing

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
