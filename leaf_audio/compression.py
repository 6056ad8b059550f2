"""Compression of energies: logarithms and per-channel energy normalisation.

Energies are `(batch, frames, channels)` and not negative.
"""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio.normalization import (
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)
from leaf_audio.settings import (
    check_bool,
    check_choice,
    check_finite,
    check_not_negative,
    check_positive,
    wide_dtype,
)

Tensor = Any
Shape = tuple[int | None, ...]

# Frames that one block of the recurrence holds; a power of two.
_BLOCK = 16

# Blocks that an input of unknown length may have: two weeks of 10 ms frames.
_MAX_BLOCKS = 1 << 20

# Below this, the slope of δ^(1/r) at 0 would drive δ itself to NaN.
_MIN_DELTA = 1e-6


@keras.saving.register_keras_serializable("leaf_audio")
def log_compression(inputs: Tensor, log_offset: float = 1e-5) -> Tensor:
    """Computes `log(inputs + log_offset)`.

    Args:
      inputs: energies of any shape.
      log_offset: keeps the logarithm of 0 finite.

    Returns:
      An array of the same shape.
    """
    return ops.log(inputs + log_offset)


def exponential_moving_average(
    inputs: Tensor, smooth: Tensor, initial_state: Tensor
) -> Tensor:
    """Computes `M_t = (1 − s) M_{t−1} + s E_t` along time, without a loop.

    The recurrence is the filter `s Σ_k d^k z^k` with `d = 1 − s`, and that sum
    factors into `(1 + d z)(1 + d² z²)(1 + d⁴ z⁴)…`: each factor adds a shifted
    copy, so a block of 2ⁿ frames takes n steps. The same recurrence, with
    `d^block` for d, then carries the state from block to block. All terms are
    products and sums of numbers in [0, 1], so s = 0 and s = 1 are exact, and so
    are their gradients.

    Args:
      inputs: E, `(batch, frames, channels)`.
      smooth: s in [0, 1], `(channels,)` or `(1,)`.
      initial_state: M before the first frame, `(batch, channels)`.

    Returns:
      M, `(batch, frames, channels)`. Its last frame is the state with which to
      go on.
    """
    batch, frames = ops.shape(inputs)[0], ops.shape(inputs)[1]
    channels = inputs.shape[-1]
    decay = 1 - smooth
    if inputs.shape[1] is None:
        block = _BLOCK
        num_blocks = (frames + block - 1) // block
        max_ends = _MAX_BLOCKS
    else:
        block = min(_BLOCK, 1 << max(frames - 1, 0).bit_length())
        num_blocks = -(-frames // block)
        max_ends = num_blocks + 1

    padded = ops.pad(smooth * inputs, [[0, 0], [0, block - 1], [0, 0]])
    within = ops.reshape(
        padded[:, : num_blocks * block], (batch, num_blocks, block, channels)
    )
    within, block_decay = _accumulate(within, decay, block, axis=2)

    # The state at the end of each block; the initial one comes before them.
    ends = ops.concatenate([initial_state[:, None], within[:, :, -1]], axis=1)
    ends, _ = _accumulate(ends, block_decay, max_ends, axis=1)
    carried = ends[:, :num_blocks, None] * _powers(decay, block)
    outputs = ops.reshape(
        within + carried, (batch, num_blocks * block, channels)
    )
    return outputs[:, :frames]


def _accumulate(
    x: Tensor, decay: Tensor, span: int, axis: int
) -> tuple[Tensor, Tensor]:
    """Computes `y_t = x_t + decay · y_{t−1}` over an axis of at most `span`.

    Returns y, and `decay ** span` where `span` is a power of two.
    """
    length = ops.shape(x)[axis]
    shift = 1
    while shift < span:
        before = [slice(None)] * axis
        # Only an axis of unknown length can be shorter than the shift.
        cut = ops.minimum(shift, length) if x.shape[axis] is None else shift
        zeros = ops.zeros_like(x[(*before, slice(cut))])
        kept = x[(*before, slice(length - cut))]
        x = x + decay * ops.concatenate([zeros, kept], axis=axis)
        decay = ops.square(decay)
        shift *= 2
    return x, decay


def _powers(decay: Tensor, count: int) -> Tensor:
    """Computes `decay ** k` for k = 1 … count, a power of two, `(count, n)`."""
    powers = decay[None]
    while powers.shape[0] < count:
        powers = ops.concatenate([powers, powers * powers[-1:]], axis=0)
    return powers


def _power(x: Tensor, exponent: Tensor) -> Tensor:
    """Computes `x ** exponent` for x > 0, with a gradient that costs little."""
    return ops.exp(exponent * ops.log(x))


@keras.saving.register_keras_serializable("leaf_audio")
class ExponentialMovingAverage(keras.layers.Layer):
    """Smooths along time, `M_t = (1 − s) M_{t−1} + s E_t`.

    The weight `smooth` is used clipped to [0, 1].

    Args:
      coeff_init: initial value of s, in [0, 1]; more counts as 1.
      per_channel: whether each channel has an s of its own.
      trainable: whether s is learned.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: `coeff_init` is negative or not a number, or inputs have
        another rank.

    Input shape:
      `(batch, frames, channels)`, and `initial_state` of `(batch, channels)`;
      without it the first frame is the state.

    Output shape:
      `(batch, frames, channels)`.

    Reference: PCEN, arXiv:1607.05666, equation 2.
    """

    def __init__(
        self,
        coeff_init: float,
        per_channel: bool = False,
        trainable: bool = False,
        **kwargs: Any,
    ):
        super().__init__(trainable=trainable, **kwargs)
        self.coeff_init = check_not_negative("coeff_init", coeff_init)
        self.per_channel = per_channel
        self.input_spec = keras.InputSpec(ndim=3)

    def build(self, input_shape: Shape) -> None:
        self.smooth = self.add_weight(
            name="smooth",
            shape=(input_shape[-1],) if self.per_channel else (1,),
            initializer=keras.initializers.Constant(self.coeff_init),
        )

    def call(
        self, inputs: Tensor, initial_state: Tensor | None = None
    ) -> Tensor:
        dtype = wide_dtype(self.compute_dtype)
        energy = ops.cast(inputs, dtype)
        if initial_state is None:
            initial_state = energy[:, 0]
        smooth = ops.clip(ops.cast(self.smooth, dtype), 0.0, 1.0)
        outputs = exponential_moving_average(
            energy, smooth, ops.cast(initial_state, dtype)
        )
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "coeff_init": self.coeff_init,
            "per_channel": self.per_channel,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class PCENLayer(keras.layers.Layer):
    """Per-channel energy normalisation.

    `(E / (floor + M)^α + δ)^(1/r) − δ^(1/r)`, where M is E smoothed by
    `M_t = (1 − s) M_{t−1} + s E_t`, `M_0 = E_0`. α is used as min(α, 1), r as
    max(r, 1), s clipped to [0, 1]. Differs from the original in that δ is kept
    from falling below 1e-6, where the original answers NaN, and that the
    recurrence needs no loop. Energies below 0 count as 0.

    Args:
      alpha: initial exponent α of the smoothed energy.
      smooth_coef: initial smoothing coefficient s, in [0, 1]; more counts as
        1.
      delta: initial bias δ, not negative.
      root: initial r, one over the exponent of the compression, at least 1;
        less counts as 1.
      floor: offset of the smoothed energy, positive.
      trainable: whether α, δ and r are learned.
      learn_smooth_coef: whether s is learned.
      per_channel_smooth_coef: whether each channel has an s of its own.
      name: of the layer.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: an argument is out of range, or inputs have another rank.

    Input shape:
      `(batch, frames, channels)`.

    Output shape:
      `(batch, frames, channels)`.

    Example:

    ```python
    leaf = frontend.Leaf(
        compression_fn=postprocessing.PCENLayer(alpha=0.8, trainable=True)
    )
    ```

    Reference: PCEN, arXiv:1607.05666; sPCEN (learnable s), LEAF,
    arXiv:2101.08596, section 3.3.
    """

    def __init__(
        self,
        alpha: float = 0.96,
        smooth_coef: float = 0.04,
        delta: float = 2.0,
        root: float = 2.0,
        floor: float = 1e-6,
        trainable: bool = False,
        learn_smooth_coef: bool = False,
        per_channel_smooth_coef: bool = False,
        name: str = "PCEN",
        **kwargs: Any,
    ):
        # `trainable` is about α, δ and r alone: the layer itself stays
        # trainable, so that s can be learned without them.
        super().__init__(name=name, **kwargs)
        self.alpha_init = check_not_negative("alpha", alpha)
        self.smooth_coef = check_not_negative("smooth_coef", smooth_coef)
        self.delta_init = check_not_negative("delta", delta)
        self.root_init = check_not_negative("root", root)
        self.floor = check_positive("floor", floor)
        self.learn_parameters = trainable
        self.learn_smooth_coef = learn_smooth_coef
        self.per_channel_smooth_coef = per_channel_smooth_coef
        self.input_spec = keras.InputSpec(ndim=3)
        self.ema = ExponentialMovingAverage(
            smooth_coef,
            per_channel=per_channel_smooth_coef,
            trainable=learn_smooth_coef,
            name="EMA",
            dtype=wide_dtype(self.compute_dtype),
        )

    def build(self, input_shape: Shape) -> None:
        for name, value in (
            ("alpha", self.alpha_init),
            ("delta", self.delta_init),
            ("root", self.root_init),
        ):
            weight = self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                initializer=keras.initializers.Constant(value),
                trainable=self.learn_parameters,
            )
            setattr(self, name, weight)
        self.ema.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        dtype = self.ema.compute_dtype
        energy = ops.maximum(ops.cast(inputs, dtype), 0.0)
        alpha = ops.minimum(ops.cast(self.alpha, dtype), 1.0)
        delta = ops.maximum(ops.cast(self.delta, dtype), _MIN_DELTA)
        exponent = 1.0 / ops.maximum(ops.cast(self.root, dtype), 1.0)
        smoothed = self.ema(energy)
        normalized = energy * _power(self.floor + smoothed, -alpha)
        outputs = _power(normalized + delta, exponent) - _power(delta, exponent)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        # A layer that was frozen as a whole comes back with nothing to learn.
        return {
            **super().get_config(),
            "alpha": self.alpha_init,
            "smooth_coef": self.smooth_coef,
            "delta": self.delta_init,
            "root": self.root_init,
            "floor": self.floor,
            "trainable": self.learn_parameters and self.trainable,
            "learn_smooth_coef": self.learn_smooth_coef and self.trainable,
            "per_channel_smooth_coef": self.per_channel_smooth_coef,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class Log1p(keras.layers.Layer):
    """Computes `log(1 + 10^a x)`.

    Args:
      a: initial value of the exponent; the weight `a` holds it.
      per_band: whether each band has an a of its own.
      trainable: whether a is learned.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: `a` is not a finite number, or `per_band` not a boolean.

    Input shape:
      Energies of any shape, bands last.

    Output shape:
      That of the input.

    Reference: EfficientLEAF, arXiv:2207.05508, section 3.
    """

    def __init__(
        self,
        a: float = 0.0,
        per_band: bool = False,
        trainable: bool = False,
        **kwargs: Any,
    ):
        super().__init__(trainable=trainable, **kwargs)
        self.a_init = check_finite("a", a)
        self.per_band = check_bool("per_band", per_band)

    def build(self, input_shape: Shape) -> None:
        self.a = self.add_weight(
            name="a",
            shape=(input_shape[-1],) if self.per_band else (1,),
            initializer=keras.initializers.Constant(self.a_init),
            # Of 16 bits, a would lose a percent of 10^a.
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        dtype = wide_dtype(self.compute_dtype)
        gain = ops.exp(math.log(10) * ops.cast(self.a, dtype))
        outputs = ops.log1p(gain * ops.cast(inputs, dtype))
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "a": self.a_init,
            "per_band": self.per_band,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class LogTBN(keras.layers.Layer):
    """Logarithm, median subtraction and temporal batch normalisation.

    `log(1 + 10^a x)`, less its median over time, brought to mean 0 and variance
    1 over batch and time for each band. The default is what EfficientLEAF uses:
    both with the median and without it, as two channels, normalised apart.

    Args:
      a: initial exponent of the logarithm.
      learn_a: whether a is learned.
      per_band: whether each band has an a of its own.
      median: `"append"` for the logarithm and, as a second channel, what is
        left of it when the median is subtracted; `"subtract"` for the second
        alone; `"keep"` for the first alone.
      affine: whether to learn a scale and an offset after the normalisation.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: an argument is out of range, or inputs have another rank.

    Input shape:
      `(batch, frames, bands)`, energies.

    Output shape:
      `(batch, frames, bands, 2)` with `median="append"`, otherwise
      `(batch, frames, bands)`.

    Example:

    ```python
    leaf = frontend.Leaf(
        compression_fn=postprocessing.LogTBN(median="subtract")
    )
    ```

    Reference: EfficientLEAF, arXiv:2207.05508, section 3.
    """

    def __init__(
        self,
        a: float = 5.0,
        learn_a: bool = True,
        per_band: bool = True,
        median: str = "append",
        affine: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.a = a
        self.learn_a = check_bool("learn_a", learn_a)
        self.per_band = per_band
        self.median = check_choice(
            "median", median, ("append", "subtract", "keep")
        )
        self.affine = affine
        self.input_spec = keras.InputSpec(ndim=3)
        self.supports_masking = True
        dtype = wide_dtype(self.compute_dtype)
        self.log1p = Log1p(
            a,
            per_band,
            trainable=learn_a and self.trainable,
            name="log1p",
            dtype=dtype,
        )
        self.median_subtraction = None
        if self.median != "keep":
            self.median_subtraction = TemporalMedianSubtraction(
                append=self.median == "append",
                name="median_subtraction",
                dtype=dtype,
            )
        self.normalization = TemporalBatchNormalization(
            per_channel=True,
            affine=affine,
            name="normalization",
            trainable=self.trainable,
            dtype=dtype,
        )

    def build(self, input_shape: Shape) -> None:
        self.log1p.build(input_shape)
        self.normalization.build(self.compute_output_shape(input_shape))

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        x = self.log1p(ops.cast(inputs, self.log1p.compute_dtype))
        if self.median_subtraction is not None:
            x = self.median_subtraction(x, mask=mask)
        x = self.normalization(x, training=training, mask=mask)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.median_subtraction is None:
            return tuple(input_shape)
        return self.median_subtraction.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "a": self.a,
            "learn_a": self.learn_a,
            "per_band": self.per_band,
            "median": self.median,
            "affine": self.affine,
        }
