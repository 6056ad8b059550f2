"""Exponential moving average of energies over time.

Energies are `(batch, frames, channels)`. The smoothing coefficient s is the
weight of the current frame: with s = 1 nothing is smoothed, with s = 0 the
initial state stays for ever.
"""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.blocks import cut_into_blocks
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_positive,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip, on_tensorflow
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.postprocessing.parameters import (
    PARAMETRIZATIONS,
    InitialValue,
    check_initial_energy,
    check_initial_value,
    check_shared_value,
    check_value_for_each,
    exp_within_limits,
    weight_initializer,
)

Tensor = Any
Shape = tuple[int | None, ...]

# Frames in one block of the recurrence. Must be a power of two.
_BLOCK = 16

# The largest number of blocks in an input of unknown length. That is about two
# days of frames at a hop of 10 ms.
_MAX_BLOCKS = 1 << 20


def exponential_moving_average(
    inputs: Tensor, smooth: Tensor, initial_state: Tensor
) -> Tensor:
    """Computes `M_t = (1 − s) M_{t−1} + s E_t` along time.

    There is no loop over the frames. They are cut into blocks of 16:

    1. Within a block, the frames are computed one after another, for all blocks
       at once.
    2. The states at the ends of the blocks follow the same recurrence, with the
       decay `d = (1 − s)^16`. That recurrence is the filter `Σ_k d^k z^k`,
       where z delays by one block. The filter factors into
       `(1 + d z)(1 + d² z²)(1 + d⁴ z⁴)…`. Each factor adds a delayed copy, so
       2ⁿ blocks take n steps.

    All terms are sums of energies, each multiplied by numbers in [0, 1]. So the
    results for s = 0 and s = 1 are exact, and so are their gradients.

    Args:
      inputs: Float tensor of shape `(batch, frames, channels)`. Energies E.
      smooth: Float tensor of shape `(channels,)` or `(1,)`. Smoothing
        coefficient s, in [0, 1].
      initial_state: Float tensor of shape `(batch, channels)`. M before the
        first frame.

    Returns:
      M, a tensor of shape `(batch, frames, channels)`. Its last frame is the
      `initial_state` of the frames that follow.
    """
    recurrence = _with_own_gradient if on_tensorflow() else _recurrence
    # TensorFlow accepts no variable as an argument of a function with its own
    # gradient. A product with 1 is a tensor.
    return recurrence(smooth * inputs, 1 - smooth, 1 * initial_state)


# TensorFlow's gradient of the operations in the recurrence takes twice as long
# as this one.
@ops.custom_gradient
def _with_own_gradient(x: Tensor, decay: Tensor, initial_state: Tensor) -> Any:
    outputs = _recurrence(x, decay, initial_state)

    def gradients(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # An input frame adds to its own output and to all later ones. The sum
        # of their gradients is the same recurrence, run backwards in time.
        backwards = _recurrence(
            ops.flip(upstream, axis=1), decay, ops.zeros_like(initial_state)
        )
        share = ops.flip(backwards, axis=1)
        before = ops.concatenate(
            [initial_state[:, None], outputs[:, :-1]], axis=1
        )
        of_decay = ops.sum(share * before, axis=(0, 1))
        if decay.shape[0] == 1:
            of_decay = ops.sum(of_decay, keepdims=True)
        # A sum over at most one frame, because there may be no frame at all.
        of_state = ops.sum(decay * share[:, :1], axis=1)
        return share, of_decay, of_state

    return outputs, gradients


def _recurrence(x: Tensor, decay: Tensor, initial_state: Tensor) -> Tensor:
    """Computes `y_t = x_t + decay · y_{t−1}` along time."""
    batch, frames = ops.shape(x)[0], ops.shape(x)[1]
    channels = x.shape[-1]
    if x.shape[1] is None:
        block = _BLOCK
        num_blocks = (frames + block - 1) // block
        max_ends = _MAX_BLOCKS
    else:
        block = min(_BLOCK, 1 << max(frames - 1, 0).bit_length())
        num_blocks = -(-frames // block)
        max_ends = num_blocks + 1

    blocks = cut_into_blocks(x, block, num_blocks, max_padding=(0, block - 1))
    first, *others = ops.unstack(blocks, block, axis=2)
    within = [first]
    for frame in others:
        within.append(frame + decay * within[-1])
    powers = _powers(decay, block)

    # The state at the end of each block; the initial one comes before them.
    ends = ops.concatenate([initial_state[:, None], within[-1]], axis=1)
    ends = _accumulate(ends, powers[-1], max_ends)
    carried = ends[:, :num_blocks, None] * powers
    outputs = ops.reshape(
        ops.stack(within, axis=2) + carried,
        (batch, num_blocks * block, channels),
    )
    return outputs[:, :frames]


def _accumulate(x: Tensor, decay: Tensor, span: int) -> Tensor:
    """Computes `y_t = x_t + decay · y_{t−1}` along axis 1, at most `span`."""
    length = ops.shape(x)[1]
    shift = 1
    while shift < span:
        # Only an axis of unknown length can be shorter than the shift.
        cut = ops.minimum(shift, length) if x.shape[1] is None else shift
        shifted = ops.concatenate(
            [ops.zeros_like(x[:, :cut]), x[:, : length - cut]], axis=1
        )
        x = x + decay * shifted
        decay = ops.square(decay)
        shift *= 2
    return x


def _powers(decay: Tensor, count: int) -> Tensor:
    """Computes `decay ** k` for k = 1 … count, a power of two, `(count, n)`."""
    powers = decay[None]
    while powers.shape[0] < count:
        powers = ops.concatenate([powers, powers * powers[-1:]], axis=0)
    return powers


def smoothing_coefficient(
    time_constant: float, sample_rate: float, hop_length: int
) -> float:
    """Converts a time constant to a smoothing coefficient, as librosa does.

    `s = (√(1 + 4 T²) − 1) / (2 T²)`, where T is the time constant in frames.
    For T well above 1, s is close to 1 / T.

    Args:
      time_constant: Positive float, in seconds.
      sample_rate: Positive float. Sample rate of the waveforms, in Hz.
      hop_length: Positive integer. Hop between frames, in samples.

    Returns:
      A float, s in (0, 1).

    Raises:
      ValueError: If an argument is not a positive number.

    Reference: librosa.pcen; Lostanlen et al., "Per-Channel Energy
    Normalization: Why and How", 2019, doi:10.1109/LSP.2018.2878620.
    """
    check_positive("time_constant", time_constant)
    check_positive("sample_rate", sample_rate)
    frames = (
        time_constant * sample_rate / check_positive("hop_length", hop_length)
    )
    # The formula, multiplied and divided by its conjugate. It subtracts no
    # numbers that are close to each other, so it keeps its digits.
    return 2 / (math.sqrt(1 + 4 * frames**2) + 1)


@keras.saving.register_keras_serializable("leaf_audio")
class ExponentialMovingAverage(KnownArguments, keras.layers.Layer):
    """Smooths energies over time by `M_t = (1 − s) M_{t−1} + s E_t`.

    `M_0 = E_0`, unless an initial energy or state is given. A sound is
    smoothed over about 1 / s frames.

    The layer learns s itself, as LEAF does. The PCEN paper learns how to mix
    several averages whose coefficients are fixed.

    Args:
      coeff_init: Initial value of s: a float, one float per channel, or an
        initializer. Not negative; with log parameters positive. Values above 1
        act as 1.
      per_channel: Boolean. True gives each channel its own s, False gives all
        channels one. Defaults to False.
      trainable: Boolean. Whether s is learned. If False, s stays fixed also
        when a model that holds the layer is frozen and unfrozen. Defaults to
        False.
      parametrization: `"linear"` or `"log"`. With `"linear"` the weight
        `smooth` holds s and is used clipped to [0, 1]. With `"log"` the weight
        `log_smooth` holds log s, and s is used between 1e-6 and 1. Defaults to
        `"linear"`.
      initial_energy: Float, not negative. M before the first frame. None takes
        the energy of the first frame. Defaults to None.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If an argument is out of range or the inputs are not of rank
        3.

    Input shape:
      `(batch, frames, channels)`; there may be no frames at all. A call also
      takes `initial_state`, M before the first frame, of shape
      `(batch, channels)`. It replaces `initial_energy`.

    Output shape:
      `(batch, frames, channels)`. The last frame is the `initial_state` of the
      frames that follow.

    Example:

    ```python
    layer = postprocessing.ExponentialMovingAverage(0.04)
    smoothed = layer(energies)
    smoothed_next = layer(next_energies, initial_state=smoothed[:, -1])
    ```

    Reference: PCEN, arXiv:1607.05666, equation 2.
    """

    def __init__(
        self,
        coeff_init: InitialValue,
        per_channel: bool = False,
        trainable: bool = False,
        parametrization: str = "linear",
        initial_energy: float | None = None,
        **kwargs: Any,
    ):
        # `trainable` is about s. The layer itself stays trainable, so that s is
        # still fixed after a model with the layer was frozen and unfrozen.
        super().__init__(**check_layer_arguments(kwargs))
        self.learn_coefficient = check_bool("trainable", trainable)
        self.parametrization = check_choice(
            "parametrization", parametrization, PARAMETRIZATIONS
        )
        self._log = self.parametrization == "log"
        self.coeff_init = check_initial_value(
            "coeff_init", coeff_init, positive=self._log
        )
        self.per_channel = check_bool("per_channel", per_channel)
        check_shared_value(
            "coeff_init", self.coeff_init, "per_channel", per_channel
        )
        self.initial_energy = check_initial_energy(initial_energy)
        self.input_spec = keras.InputSpec(ndim=3)

    def build(self, input_shape: Shape) -> None:
        check_value_for_each("coeff_init", self.coeff_init, input_shape[-1])
        name = "log_smooth" if self._log else "smooth"
        weight = self.add_weight(
            name=name,
            shape=(input_shape[-1],) if self.per_channel else (1,),
            initializer=weight_initializer(self.coeff_init, self._log),
            trainable=self.learn_coefficient,
        )
        setattr(self, name, weight)

    def coefficient(self) -> Tensor:
        """Returns s as the layer uses it, of shape `(channels,)` or `(1,)`."""
        if self._log:
            smooth = exp_within_limits(ops.convert_to_tensor(self.log_smooth))
            return clip(smooth, high=1.0)
        return clip(ops.convert_to_tensor(self.smooth), 0.0, 1.0)

    def call(
        self, inputs: Tensor, initial_state: Tensor | None = None
    ) -> Tensor:
        dtype = wide_dtype(self.compute_dtype)
        energy = ops.cast(inputs, dtype)
        if initial_state is None:
            # A sum over at most one frame, because there may be none at all.
            initial_state = ops.sum(energy[:, :1], axis=1)
            if self.initial_energy is not None:
                initial_state = ops.full_like(
                    initial_state, self.initial_energy
                )
        outputs = exponential_moving_average(
            energy,
            ops.cast(self.coefficient(), dtype),
            ops.cast(initial_state, dtype),
        )
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        # A layer that was frozen is loaded with nothing to learn.
        return {
            **super().get_config(),
            "trainable": self.learn_coefficient and self.trainable,
            "coeff_init": serialize(self.coeff_init),
            "per_channel": self.per_channel,
            "parametrization": self.parametrization,
            "initial_energy": self.initial_energy,
        }
