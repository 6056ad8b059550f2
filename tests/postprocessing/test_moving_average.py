"""The moving average against filters and loops in float64."""

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer
from random_energies import energies
from scipy.signal import lfilter

from leaf_audio import initializers, postprocessing
from leaf_audio.postprocessing import exponential_moving_average


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


def test_a_time_is_smoothed_over_as_librosa_does():
    for time_constant in (1e-4, 0.06, 0.4, 100.0):
        frames = time_constant * 22050 / 512
        expected = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
        found = postprocessing.smoothing_coefficient(time_constant, 22050, 512)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow_on_jax
def test_is_a_keras_citizen(tmp_path):
    def make(**kwargs):
        return postprocessing.ExponentialMovingAverage(
            0.1, trainable=True, **kwargs
        )

    inputs = energies(2, 150, 3) + np.array([0, 1, 2], "float32")
    check_layer(make, inputs, tmp_path, atol=1e-5)


def test_a_time_constant_of_zero_is_rejected():
    with pytest.raises(ValueError, match="=0"):
        postprocessing.smoothing_coefficient(0, 1, 1)
