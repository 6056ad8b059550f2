"""Compression of energies: logarithm and per-channel energy normalisation.

Energies are `(batch, frames, channels)` and not negative.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_not_negative,
    check_positive,
)
from leaf_audio.common.lean_ops import on_tensorflow
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.initializers import ArrayInit

Tensor = Any
Shape = tuple[int | None, ...]

# Frames that one block of the recurrence holds; a power of two.
_BLOCK = 16

# Blocks that an input of unknown length may have: two weeks of 10 ms frames.
_MAX_BLOCKS = 1 << 20

_PARAMETRIZATIONS = ("linear", "log")

# PCEN's parameters are used between these, and its exponents up to 100. Nearer
# to 0, the slope of δ^(1/r) would drive δ itself to NaN.
_LEAST, _MOST = 1e-6, 1e6
_MOST_EXPONENT = 100.0

# Below this, `floor + 0` is close to leaving float32.
_LEAST_FLOOR = 1e-30

# Logarithm of the greatest gain and output, and the greatest energy after the
# gain: products of these, and of their slopes, are still float32.
_MAX_LOG = 60.0
_MAX_GAINED = 1e25


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


@keras.saving.register_keras_serializable("leaf_audio")
def db_compression(
    inputs: Tensor,
    ref: float | str = 1.0,
    amin: float = 1e-10,
    top_db: float | None = 80.0,
    power: float = 2.0,
) -> Tensor:
    """Computes decibels, `10 log10(max(E, amin) / max(ref, amin))`.

    As librosa's `power_to_db` and torchaudio's `AmplitudeToDB`, one recording
    at a time: librosa takes the maximum over all that it is given.

    Args:
      inputs: E, not negative, of shape `(batch, ...)`.
      ref: the energy of 0 dB, positive; `"max"` for the greatest of each
        recording.
      amin: the least energy that is told from silence, positive.
      top_db: how far below its maximum a recording may reach, in dB, not
        negative; None for no limit.
      power: what power of a magnitude the inputs are, positive: 2 for energies,
        1 for magnitudes, whose squares `ref` and `amin` then refer to.

    Returns:
      An array of the same shape.

    Raises:
      ValueError: an argument is out of range.
    """
    check_positive("amin", amin)
    check_positive("power", power)
    if isinstance(ref, str):
        check_choice("ref", ref, ("max",))
    else:
        check_positive("ref", ref)
    if top_db is not None:
        check_not_negative("top_db", top_db)

    scale = 20 / power / math.log(10)
    level = scale * ops.log(ops.maximum(inputs, amin ** (power / 2)))
    if isinstance(ref, str):
        level = level - _maximum_of_each(level)
    else:
        level = level - 10 * math.log10(max(ref, amin))
    if top_db is None:
        return level
    return ops.maximum(level, _maximum_of_each(level) - top_db)


def _maximum_of_each(x: Tensor) -> Tensor:
    return ops.max(x, axis=tuple(range(1, len(x.shape))), keepdims=True)


def exponential_moving_average(
    inputs: Tensor, smooth: Tensor, initial_state: Tensor
) -> Tensor:
    """Computes `M_t = (1 − s) M_{t−1} + s E_t` along time, without a loop.

    The frames of a block follow one another, for all blocks at once. Then the
    state is carried from block to block: a recurrence with `d = (1 − s)^block`
    is the filter `Σ_k d^k z^k`, which factors into `(1 + d z)(1 + d² z²)(1 + d⁴
    z⁴)…`: each factor adds a shifted copy, so 2ⁿ blocks take n steps. All terms
    are products and sums of numbers in [0, 1], so s = 0 and s = 1 are exact,
    and so are their gradients.

    Args:
      inputs: E, `(batch, frames, channels)`.
      smooth: s in [0, 1], `(channels,)` or `(1,)`.
      initial_state: M before the first frame, `(batch, channels)`.

    Returns:
      M, `(batch, frames, channels)`. Its last frame is the state with which to
      go on.
    """
    recurrence = _with_own_gradient if on_tensorflow() else _recurrence
    # Products, since TensorFlow takes no variable where a gradient is given.
    return recurrence(smooth * inputs, 1 - smooth, 1 * initial_state)


# TensorFlow's gradient of what the recurrence is made of takes twice as long.
@ops.custom_gradient
def _with_own_gradient(x: Tensor, decay: Tensor, initial_state: Tensor) -> Any:
    outputs = _recurrence(x, decay, initial_state)

    def gradients(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # What a frame adds to itself and all that follow is the same
        # recurrence, backwards in time.
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
        # A sum, since there may be no frame at all.
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

    padded = ops.pad(x, [[0, 0], [0, block - 1], [0, 0]])
    blocks = ops.reshape(
        padded[:, : num_blocks * block], (batch, num_blocks, block, channels)
    )
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
    """Computes the s that smooths over a given time, as librosa does.

    `(√(1 + 4 T²) − 1) / (2 T²)`, T the time in frames.

    Args:
      time_constant: in seconds.
      sample_rate: of the waveforms, in Hz.
      hop_length: samples from frame to frame.

    Returns:
      s in (0, 1).

    Raises:
      ValueError: an argument is not a positive number.

    Reference: librosa.pcen; Lostanlen et al., "Per-Channel Energy
    Normalization: Why and How", 2019, doi:10.1109/LSP.2018.2878620.
    """
    check_positive("time_constant", time_constant)
    check_positive("sample_rate", sample_rate)
    frames = (
        time_constant * sample_rate / check_positive("hop_length", hop_length)
    )
    # The formula, times its conjugate: no difference of numbers that are close.
    return 2 / (math.sqrt(1 + 4 * frames**2) + 1)


def _values(name: str, value: Any, check: Callable) -> Any:
    """Checks what a parameter starts from: numbers, or an initializer."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (dict, keras.initializers.Initializer)):
        return keras.initializers.get(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [check(name, number) for number in np.asarray(value).tolist()]
    return check(name, value)


def _check_count(argument: str, values: Any, **per_channel: bool) -> None:
    """Checks that channels which share a parameter have one value for it."""
    ((flag, is_set),) = per_channel.items()
    if not is_set and isinstance(values, list) and len(values) > 1:
        raise ValueError(
            f"`{argument}` must be one number unless `{flag}` is True. "
            f"Received: {argument} of {len(values)} numbers."
        )


def _initializer(values: Any, log: bool) -> Callable:
    """Makes an initializer of what `_values` returned, or of its logarithm."""
    if isinstance(values, list):
        values = ArrayInit(values)
    elif not isinstance(values, keras.initializers.Initializer):
        values = keras.initializers.Constant(values)
    if not log:
        return values

    def log_values(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return ops.log(ops.maximum(values(shape, dtype=dtype), _LEAST))

    return log_values


def _check_initial_energy(value: Any) -> float | None:
    if value is None:
        return None
    return check_not_negative("initial_energy", value)


@keras.saving.register_keras_serializable("leaf_audio")
class ExponentialMovingAverage(keras.layers.Layer):
    """Smooths along time, `M_t = (1 − s) M_{t−1} + s E_t`.

    The weight `smooth` is used clipped to [0, 1]; with log parameters
    `log_smooth` takes its place.

    Args:
      coeff_init: initial value of s, in [0, 1]; more counts as 1. A number, one
        for each channel, or an initializer; positive with log parameters.
      per_channel: whether each channel has an s of its own.
      trainable: whether s is learned.
      parametrization: `"linear"`, or `"log"` to learn log s.
      initial_energy: M before the first frame, not negative; None is the first
        frame's energy.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: an argument is out of range, or inputs have another rank.

    Input shape:
      `(batch, frames, channels)`, and `initial_state` of `(batch, channels)`,
      which comes before `initial_energy`.

    Output shape:
      `(batch, frames, channels)`. The last frame is the state to go on from.

    Reference: PCEN, arXiv:1607.05666, equation 2.
    """

    def __init__(
        self,
        coeff_init: Any,
        per_channel: bool = False,
        trainable: bool = False,
        parametrization: str = "linear",
        initial_energy: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(trainable=trainable, **kwargs)
        self.parametrization = check_choice(
            "parametrization", parametrization, _PARAMETRIZATIONS
        )
        self._log = self.parametrization == "log"
        check = check_positive if self._log else check_not_negative
        self.coeff_init = _values("coeff_init", coeff_init, check)
        self.per_channel = per_channel
        self.initial_energy = _check_initial_energy(initial_energy)
        self.input_spec = keras.InputSpec(ndim=3)

    def build(self, input_shape: Shape) -> None:
        name = "log_smooth" if self._log else "smooth"
        weight = self.add_weight(
            name=name,
            shape=(input_shape[-1],) if self.per_channel else (1,),
            initializer=_initializer(self.coeff_init, self._log),
        )
        setattr(self, name, weight)

    def coefficient(self) -> Tensor:
        """Returns s as it is used, `(channels,)` or `(1,)`."""
        if self._log:
            return ops.minimum(_exp(ops.convert_to_tensor(self.log_smooth)), 1)
        return ops.clip(ops.convert_to_tensor(self.smooth), 0.0, 1.0)

    def call(
        self, inputs: Tensor, initial_state: Tensor | None = None
    ) -> Tensor:
        dtype = wide_dtype(self.compute_dtype)
        energy = ops.cast(inputs, dtype)
        if initial_state is None:
            initial_state = energy[:, 0]
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
        return {
            **super().get_config(),
            "coeff_init": serialize(self.coeff_init),
            "per_channel": self.per_channel,
            "parametrization": self.parametrization,
            "initial_energy": self.initial_energy,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class PCENLayer(keras.layers.Layer):
    """Per-channel energy normalisation.

    `(E / (floor + M)^α + δ)^(1/r) − δ^(1/r)`, where M is E smoothed by
    `M_t = (1 − s) M_{t−1} + s E_t`, `M_0 = E_0`. With linear parameters, α is
    used as min(α, 1), r as max(r, 1), s clipped to [0, 1]. Differs from the
    original in that δ is kept from falling below 1e-6, where the original
    answers NaN, and that the recurrence needs no loop. Energies below 0 count
    as 0. Finite energies have finite outputs, and finite gradients up to 1e6.

    With log parameters, the paper's and EfficientLEAF's, what is learned is
    log α, log δ, log s and the logarithm of the exponent, 1/r in this formula
    and r in theirs: the weights are `log_alpha`, `log_delta`, `log_smooth` and
    `log_exponent`. Arguments mean the same, so that nothing but what is
    learned depends on `parametrization`.

    PCEN's variants are

    - fixed, the paper's: `PCENLayer(0.98, 0.025, 2.0, 2.0, 1e-6)`, the default
      but for `alpha` and `smooth_coef`;
    - learned: `trainable=True`, and `parametrization="log"` as in the paper;
      `per_channel=False` learns one α, δ and r for all channels;
    - with a learned smoothing, LEAF's sPCEN: `learn_smooth_coef=True`, and
      `per_channel_smooth_coef=True` for one a channel.

    To go on from chunk to chunk, call it with the state that the chunk before
    has left: chunks in turn give what the whole gives.

    Args:
      alpha: initial exponent α of the smoothed energy. This and the next three
        are a number, or one for each channel, or an initializer; with log
        parameters they are positive, and count as 1e-6 where they are less.
      smooth_coef: initial smoothing coefficient s, in [0, 1]; more counts as
        1. `smoothing_coefficient` converts a time.
      delta: initial bias δ, not negative.
      root: initial r, one over the exponent of the compression, at least 1;
        less counts as 1.
      floor: offset of the smoothed energy, at least 1e-30.
      trainable: whether α, δ and r are learned.
      learn_smooth_coef: whether s is learned.
      per_channel_smooth_coef: whether each channel has an s of its own.
      parametrization: `"linear"`, or `"log"` to learn logarithms.
      clamp: whether α and the exponent 1/r count as 1 where they are more, and
        not just as 100; None is True for linear and False for log parameters. s
        never counts as more than 1, and δ is used between 1e-6 and 1e6.
      per_channel: whether each channel has an α, δ and r of its own.
      initial_energy: M before the first frame, not negative; None is the first
        frame's energy. librosa's is 1.
      name: of the layer.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: an argument is out of range, or inputs have another rank.

    Input shape:
      `(batch, frames, channels)`, and `initial_state` of `(batch, channels)`,
      which comes before `initial_energy`.

    Output shape:
      `(batch, frames, channels)`. Called with `return_state=True` it gives a
      tuple of that and the state, `(batch, channels)`.

    Example:

    ```python
    leaf = frontend.Leaf(
        compression_fn=postprocessing.PCENLayer(alpha=0.8, trainable=True)
    )
    pcen = postprocessing.PCENLayer()
    state = None
    for chunk in chunks:
        outputs, state = pcen(chunk, initial_state=state, return_state=True)
    ```

    Reference: PCEN, arXiv:1607.05666; sPCEN (learnable s), LEAF,
    arXiv:2101.08596, section 3.3; log parameters, also EfficientLEAF,
    arXiv:2207.05508.
    """

    def __init__(
        self,
        alpha: Any = 0.96,
        smooth_coef: Any = 0.04,
        delta: Any = 2.0,
        root: Any = 2.0,
        floor: float = 1e-6,
        trainable: bool = False,
        learn_smooth_coef: bool = False,
        per_channel_smooth_coef: bool = False,
        parametrization: str = "linear",
        clamp: bool | None = None,
        per_channel: bool = True,
        initial_energy: float | None = None,
        name: str = "PCEN",
        **kwargs: Any,
    ):
        # `trainable` is about α, δ and r alone: the layer itself stays
        # trainable, so that s can be learned without them. Without autocast, a
        # state is not rounded to 16 bits from chunk to chunk.
        super().__init__(name=name, autocast=False, **kwargs)
        self.parametrization = check_choice(
            "parametrization", parametrization, _PARAMETRIZATIONS
        )
        self._log = self.parametrization == "log"
        check = check_positive if self._log else check_not_negative
        self.alpha_init = _values("alpha", alpha, check)
        self.smooth_coef = _values("smooth_coef", smooth_coef, check)
        self.delta_init = _values("delta", delta, check)
        self.root_init = _values("root", root, check)
        if check_positive("floor", floor) < _LEAST_FLOOR:
            raise ValueError(
                f"`floor` must be at least {_LEAST_FLOOR}. Received: "
                f"floor={floor!r}."
            )
        self.floor = floor
        self.learn_parameters = trainable
        self.learn_smooth_coef = check_bool(
            "learn_smooth_coef", learn_smooth_coef
        )
        self.per_channel_smooth_coef = check_bool(
            "per_channel_smooth_coef", per_channel_smooth_coef
        )
        if clamp is not None:
            check_bool("clamp", clamp)
        self.clamp = clamp
        self.per_channel = check_bool("per_channel", per_channel)
        for argument, values in (
            ("alpha", self.alpha_init),
            ("delta", self.delta_init),
            ("root", self.root_init),
        ):
            _check_count(argument, values, per_channel=per_channel)
        _check_count(
            "smooth_coef",
            self.smooth_coef,
            per_channel_smooth_coef=per_channel_smooth_coef,
        )
        self.initial_energy = _check_initial_energy(initial_energy)
        self.input_spec = keras.InputSpec(ndim=3)
        self.ema = ExponentialMovingAverage(
            self.smooth_coef,
            per_channel=per_channel_smooth_coef,
            trainable=learn_smooth_coef,
            parametrization=self.parametrization,
            initial_energy=self.initial_energy,
            name="EMA",
            dtype=wide_dtype(self.compute_dtype),
        )

    @classmethod
    def like_librosa(
        cls,
        sr: float = 22050,
        hop_length: int = 512,
        gain: float = 0.98,
        bias: float = 2.0,
        power: float = 0.5,
        time_constant: float = 0.4,
        eps: float = 1e-6,
        b: float | None = None,
        **kwargs: Any,
    ) -> "PCENLayer":
        """Makes the layer that computes what `librosa.pcen` does.

        Its arguments are librosa's, with librosa's defaults. The layer takes
        `(batch, frames, channels)` where librosa takes `(channels, frames)`.
        librosa's `max_size` and `ref` are not here, nor are its special cases
        `bias=0` and `power=0`.

        Args:
          sr: sample rate, in Hz.
          hop_length: samples from frame to frame.
          gain: α, not negative.
          bias: δ, positive.
          power: the exponent 1/r, positive.
          time_constant: of the smoothing, in seconds; see
            `smoothing_coefficient`.
          eps: the floor.
          b: the smoothing coefficient itself, in place of the time.
          **kwargs: of the constructor.

        Raises:
          ValueError: an argument is out of range.
        """
        if b is None:
            b = smoothing_coefficient(time_constant, sr, hop_length)
        return cls(
            alpha=check_not_negative("gain", gain),
            smooth_coef=check_not_negative("b", b),
            delta=check_positive("bias", bias),
            root=1 / check_positive("power", power),
            floor=check_positive("eps", eps),
            **{"clamp": False, "initial_energy": 1.0, **kwargs},
        )

    def build(self, input_shape: Shape) -> None:
        for name, value in (
            ("alpha", self.alpha_init),
            ("delta", self.delta_init),
            ("root", self.root_init),
        ):
            initializer = _initializer(value, self._log)
            if self._log and name == "root":
                name, initializer = "exponent", _negated(initializer)
            name = f"log_{name}" if self._log else name
            weight = self.add_weight(
                name=name,
                shape=(input_shape[-1] if self.per_channel else 1,),
                initializer=initializer,
                trainable=self.learn_parameters,
            )
            setattr(self, name, weight)
        self.ema.build(input_shape)

    def constrained_parameters(self) -> dict[str, Tensor]:
        """Returns the parameters as they are used.

        A dictionary of α, δ, 1/r and s, under `"alpha"`, `"delta"`,
        `"exponent"` and `"smooth"`, each `(channels,)` or `(1,)`.
        """
        if self._log:
            alpha, delta, exponent = (
                _exp(self._weight(f"log_{name}"))
                for name in ("alpha", "delta", "exponent")
            )
        else:
            alpha = self._weight("alpha")
            delta = ops.clip(self._weight("delta"), _LEAST, _MOST)
            exponent = 1.0 / ops.clip(self._weight("root"), _LEAST, _MOST)
        clamp = not self._log if self.clamp is None else self.clamp
        most = 1.0 if clamp else _MOST_EXPONENT
        alpha = ops.minimum(alpha, most)
        exponent = ops.minimum(exponent, most)
        return {
            "alpha": alpha,
            "delta": delta,
            "exponent": exponent,
            "smooth": self.ema.coefficient(),
        }

    def _weight(self, name: str) -> Tensor:
        return ops.cast(getattr(self, name), self.ema.compute_dtype)

    def call(
        self,
        inputs: Tensor,
        initial_state: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        dtype = self.ema.compute_dtype
        energy = ops.maximum(ops.cast(inputs, dtype), 0.0)
        if initial_state is not None:
            initial_state = ops.maximum(ops.cast(initial_state, dtype), 0.0)
        smoothed = self.ema(energy, initial_state=initial_state)
        used = self.constrained_parameters()
        outputs = _normalize(
            energy,
            self.floor + smoothed,
            used["alpha"],
            used["delta"],
            used["exponent"],
        )
        outputs = ops.cast(outputs, self.compute_dtype)
        return (outputs, smoothed[:, -1]) if return_state else outputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def compute_output_spec(
        self,
        inputs: Any,
        initial_state: Any = None,
        return_state: bool = False,
    ) -> Any:
        outputs = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_state:
            return outputs
        state = keras.KerasTensor(
            (inputs.shape[0], inputs.shape[2]), dtype=self.ema.compute_dtype
        )
        return outputs, state

    def get_config(self) -> dict[str, Any]:
        # A layer that was frozen as a whole comes back with nothing to learn.
        return {
            **super().get_config(),
            "alpha": serialize(self.alpha_init),
            "smooth_coef": serialize(self.smooth_coef),
            "delta": serialize(self.delta_init),
            "root": serialize(self.root_init),
            "floor": self.floor,
            "trainable": self.learn_parameters and self.trainable,
            "learn_smooth_coef": self.learn_smooth_coef and self.trainable,
            "per_channel_smooth_coef": self.per_channel_smooth_coef,
            "parametrization": self.parametrization,
            "clamp": self.clamp,
            "per_channel": self.per_channel,
            "initial_energy": self.initial_energy,
        }


def _normalize(
    energy: Tensor, level: Tensor, alpha: Tensor, delta: Tensor, power: Tensor
) -> Tensor:
    """Computes `(energy / level^alpha + delta)^power − delta^power`.

    As `delta^power · ((1 + x)^power − 1)`, by logarithms, so that small
    energies keep their digits. The limits keep numbers that no audio has from
    overflowing, and so their gradients from NaN.
    """
    gain = ops.exp(ops.minimum(-alpha * ops.log(level), _MAX_LOG))
    gained = ops.minimum(energy * gain, _MAX_GAINED)
    log_scale = ops.minimum(power * ops.log(delta), _MAX_LOG)
    room = _MAX_LOG - ops.maximum(log_scale, 0.0)
    exponent = ops.minimum(power * ops.log1p(gained / delta), room)
    return ops.exp(log_scale) * ops.expm1(exponent)


def _exp(log: Tensor) -> Tensor:
    """Computes the exponential of a log parameter, from 1e-6 to 1e6."""
    return ops.exp(ops.clip(log, math.log(_LEAST), math.log(_MOST)))


def _negated(initializer: Callable) -> Callable:
    def negated(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return -initializer(shape, dtype=dtype)

    return negated
