"""Per-channel energy normalization (PCEN).

Energies are squared magnitudes, `(batch, frames, channels)`. Symbols are those
of the formula in `PCENLayer`.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_not_negative,
    check_positive,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.postprocessing.moving_average import (
    ExponentialMovingAverage,
    smoothing_coefficient,
)
from leaf_audio.postprocessing.parameters import (
    LARGEST,
    PARAMETRIZATIONS,
    SMALLEST,
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

# The exponents α and 1/r count as 100 where they are larger.
_LARGEST_EXPONENT = 100.0

# A smaller floor would come close to float32's smallest normal number, 1.2e-38.
_SMALLEST_FLOOR = 1e-30

# Limits inside the formula: for the logarithms of the gain and of the output,
# and for the energy after the gain. Products of such numbers, and of their
# slopes, still fit into float32.
_MAX_LOG = 60.0
_MAX_GAINED = 1e25


# The state of a stream that has had no frame. Energies are not negative.
_NO_FRAME_YET = -1.0


@keras.saving.register_keras_serializable("leaf_audio")
class PCENLayer(KnownArguments, keras.layers.Layer):
    """Normalizes each channel by its recent energy, then compresses it.

    The formula of per-channel energy normalization (PCEN) is

        PCEN = (E / (floor + M)^α + δ)^(1/r) − δ^(1/r)
        M_t = (1 − s) M_{t−1} + s E_t,  M_0 = E_0

    E is the energy of one channel over time. M is E smoothed over time, the
    channel's recent level. The division by M^α is an automatic gain control.
    The bias δ and the root r then compress the range. Steady sounds, such as
    background noise, come out weak; onsets and other fast changes stand out.
    PCEN takes the place of a logarithm.

    **What the parameters do.**

    - `alpha` (α) sets how much of the level is divided out. 0 switches the
      gain control off. With 1 a steady sound gives the same output whatever
      its level. In between, a steady sound well above the floor has
      `E / (floor + M)^α = E^(1 − α)`: at 0.96, ten times the energy gives 1.1
      times that.
    - `smooth_coef` (s) sets how fast M follows E. M looks back over about 1/s
      frames: 25 for 0.04. Sounds that last much longer are suppressed.
    - `delta` (δ) sets where compression begins. Well below δ the output is
      proportional to the normalized energy; well above, it grows like its r-th
      root. A larger δ weakens background noise relative to onsets.
    - `root` (r) sets how strongly loud onsets are compressed: 1 not at all, 2
      by a square root, 4 by a fourth root.
    - `floor` sets what counts as silence. Where M is well below the floor, the
      gain is constant, so quiet sounds stay quiet. Where M is well above, they
      are lifted to about the level of loud ones. With the other defaults, a
      steady energy of 1e-2 gives 0.27. A steady 1e-8 gives 0.002 with a floor
      of 1e-6, and 0.16 with 1e-12.

    **Scale of the inputs.** The layer expects energies, not magnitudes or
    decibels, of waveforms in [−1, 1]. For a full-scale sine these reach about
    40 in `Leaf` and 1e4 in `Spectrogram`, at the default settings. `Leaf`
    raises its energies to at least 1e-5 first, so a floor of 1e-6 or less
    changes little there. Divide waveforms of 16-bit integers by 32768 before
    the filterbank. Where you cannot, use `floor · c` and `δ · c^(1 − α)` with
    `c = 32768²`: 1074 and 4.6 for the defaults. The outputs are then the same
    but for a constant factor, `c^((1 − α) / r)`. The documentation of
    `librosa.pcen` advises waveforms in [−2³¹, 2³¹) for the paper's values;
    there the floor hardly matters.

    **Which settings to use.**

    - Learned, in a frontend that is trained on labelled data: LEAF's sPCEN, the
      defaults with `floor=1e-12, trainable=True, learn_smooth_coef=True,
      per_channel_smooth_coef=True`. `Leaf(compression_fn="pcen")` makes it,
      with `parametrization="log"`.
    - Fixed, with little training data or for features that are computed once:
      the PCEN paper's values for far-field speech at a hop of 10 ms,
      `PCENLayer(alpha=0.98, smooth_coef=0.025)`.
    - Fixed, for short animal calls over outdoor noise: BirdVoxDetect's values,
      `PCENLayer.like_librosa(sr, hop_length, gain=0.8, bias=10, power=0.25,
      time_constant=0.06)`.
    - Learned through logarithms, as in the PCEN paper and EfficientLEAF:
      `trainable=True, parametrization="log"`. A training step then scales a
      parameter instead of shifting it, and the parameter stays positive. Choose
      it where a parameter may have to move by orders of magnitude, and with
      Adam at rates of 1e-3 and more: some tens of its steps shift a smoothing
      coefficient of 0.04 to 0. `Leaf` and its configs use it. The weights
      are `log_alpha`, `log_delta`, `log_smooth` and `log_exponent`, the
      logarithm of 1/r. The arguments keep their meaning: only what is learned
      changes, and the default of `clamp`.

    **Streams.** Call the layer chunk by chunk with `return_state=True`, and
    pass each state on as the next `initial_state`, as in the example. The
    outputs are those of one call on the whole. A chunk may have no frames. A
    negative state says that the stream has had no frame so far.

    Differences from the original: s is learned itself, as in LEAF, where the
    PCEN paper learns how to mix several fixed smoothers. δ is kept from falling
    below 1e-6; LEAF's original answers NaN for a negative one. The recurrence
    needs no loop over frames. Negative energies count as 0. Finite energies
    give finite outputs, and energies up to 1e6 give finite gradients.

    Args:
      alpha: Initial exponent α of the smoothed energy, not negative. A float,
        one float per channel, or an initializer. With log parameters it must be
        positive, and an initial value below 1e-6 becomes 1e-6. Defaults to
        0.96.
      smooth_coef: Initial smoothing coefficient s, not negative; values above 1
        act as 1. Types as for `alpha`. `smoothing_coefficient` converts a time
        constant in seconds. Defaults to 0.04.
      delta: Initial bias δ, not negative. Types as for `alpha`. Defaults to
        2.0.
      root: Initial root r, not negative. Types as for `alpha`. Values below 1
        act as 1 if `clamp` is on. Defaults to 2.0.
      floor: Float, at least 1e-30, in the unit of the energies. Defaults to
        1e-6.
      trainable: Boolean. Whether α, δ and r are learned. Defaults to False.
      learn_smooth_coef: Boolean. Whether s is learned. Defaults to False.
      per_channel_smooth_coef: Boolean. True gives each channel its own s, False
        gives all channels one. Defaults to False.
      parametrization: `"linear"` to learn the parameters themselves, or `"log"`
        to learn their logarithms. Defaults to `"linear"`.
      clamp: Boolean. True limits α and 1/r to at most 1, False to at most 100.
        None means True for linear and False for log parameters. Whatever it is,
        s is limited to 1, and δ to [1e-6, 1e6]. Defaults to None.
      per_channel: Boolean. True gives each channel its own α, δ and r, False
        gives all channels one of each. Defaults to True.
      initial_energy: Float, not negative. M before the first frame. None takes
        the energy of the first frame; librosa takes 1. Defaults to None.
      name: String. Name of the layer. Defaults to `"PCEN"`.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `dtype`.

    Raises:
      ValueError: If an argument is out of range or the inputs are not of rank
        3.

    Input shape:
      `(batch, frames, channels)`; there may be no frames at all. A call also
      takes `initial_state`, M before the first frame, of shape
      `(batch, channels)`. It replaces `initial_energy`.

    Output shape:
      `(batch, frames, channels)`. With `return_state=True` a call returns a
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

    Reference: PCEN, arXiv:1607.05666; sPCEN, LEAF, arXiv:2101.08596, section
    3.3; log parameters, EfficientLEAF, arXiv:2207.05508; choice of values,
    Lostanlen et al., 2019, doi:10.1109/LSP.2018.2878620.
    """

    def __init__(
        self,
        alpha: InitialValue = 0.96,
        smooth_coef: InitialValue = 0.04,
        delta: InitialValue = 2.0,
        root: InitialValue = 2.0,
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
        # `trainable` is about α, δ and r only. The layer itself stays
        # trainable, so that s can be learned without them. Without autocast,
        # Keras does not round a state to 16 bits from chunk to chunk.
        super().__init__(
            autocast=False, **check_layer_arguments({"name": name, **kwargs})
        )
        self.parametrization = check_choice(
            "parametrization", parametrization, PARAMETRIZATIONS
        )
        self._log = self.parametrization == "log"
        self.per_channel = check_bool("per_channel", per_channel)
        self.per_channel_smooth_coef = check_bool(
            "per_channel_smooth_coef", per_channel_smooth_coef
        )
        self.alpha_init = self._initial_value("alpha", alpha)
        self.smooth_coef = self._initial_value("smooth_coef", smooth_coef)
        self.delta_init = self._initial_value("delta", delta)
        self.root_init = self._initial_value("root", root)
        if check_positive("floor", floor) < _SMALLEST_FLOOR:
            raise ValueError(
                f"`floor` must be at least {_SMALLEST_FLOOR}. Received: "
                f"floor={floor!r}."
            )
        self.floor = floor
        self.learn_parameters = check_bool("trainable", trainable)
        self.learn_smooth_coef = check_bool(
            "learn_smooth_coef", learn_smooth_coef
        )
        if clamp is not None:
            check_bool("clamp", clamp)
        self.clamp = clamp
        self.initial_energy = check_initial_energy(initial_energy)
        self.input_spec = keras.InputSpec(ndim=3)
        self.ema = ExponentialMovingAverage(
            coeff_init=self.smooth_coef,
            per_channel=per_channel_smooth_coef,
            trainable=learn_smooth_coef,
            parametrization=self.parametrization,
            initial_energy=self.initial_energy,
            name="EMA",
            dtype=wide_dtype(self.compute_dtype),
        )

    def _initial_value(self, name: str, value: Any) -> Any:
        """Checks an initial value and how many numbers it has."""
        value = check_initial_value(name, value, positive=self._log)
        if name == "smooth_coef":
            flag, per_channel = (
                "per_channel_smooth_coef",
                self.per_channel_smooth_coef,
            )
        else:
            flag, per_channel = "per_channel", self.per_channel
        check_shared_value(name, value, flag, per_channel)
        return value

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
        """Makes the layer that computes what `librosa.pcen` computes.

        The arguments and their defaults are librosa's. The axes are not: the
        layer takes `(batch, frames, channels)`, librosa `(channels, frames)`.
        librosa's `max_size`, `ref`, `bias=0` and `power=0` are not supported.
        The inputs are not scaled: see "Scale of the inputs" above for the
        waveforms that librosa's defaults are meant for.

        Args:
          sr: Positive float. Sample rate, in Hz. Defaults to 22050.
          hop_length: Positive integer. Hop between frames, in samples. Defaults
            to 512.
          gain: Float, not negative. The exponent α. Defaults to 0.98.
          bias: Positive float. The bias δ. Defaults to 2.0.
          power: Positive float. The exponent 1/r. Defaults to 0.5.
          time_constant: Positive float. Time constant of the smoothing, in
            seconds; `smoothing_coefficient` converts it. Defaults to 0.4.
          eps: Float, at least 1e-30. The floor. Defaults to 1e-6.
          b: Float, not negative. The smoothing coefficient s, in place of
            `time_constant`. Defaults to None.
          **kwargs: Other arguments of the constructor. `clamp` and
            `initial_energy` default to librosa's, False and 1.0.

        Returns:
          A PCENLayer.

        Raises:
          ValueError: If an argument is out of range.
        """
        check_positive("sr", sr)
        check_positive("hop_length", hop_length)
        check_positive("time_constant", time_constant)
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
        check_value_for_each("smooth_coef", self.smooth_coef, input_shape[-1])
        for name, value in (
            ("alpha", self.alpha_init),
            ("delta", self.delta_init),
            ("root", self.root_init),
        ):
            check_value_for_each(name, value, input_shape[-1])
            initializer = weight_initializer(value, self._log)
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
        """Returns the parameters as the layer uses them, within their limits.

        Returns:
          A dictionary of tensors of shape `(channels,)` or `(1,)`: `"alpha"`
          is α, `"delta"` is δ, `"exponent"` is 1/r and `"smooth"` is s.
        """
        if self._log:
            alpha, delta, exponent = (
                exp_within_limits(self._weight(f"log_{name}"))
                for name in ("alpha", "delta", "exponent")
            )
        else:
            alpha = self._weight("alpha")
            delta = clip(self._weight("delta"), SMALLEST, LARGEST)
            root = clip(self._weight("root"), SMALLEST, LARGEST)
            exponent = 1.0 / root
        clamp = not self._log if self.clamp is None else self.clamp
        largest = 1.0 if clamp else _LARGEST_EXPONENT
        return {
            "alpha": clip(alpha, high=largest),
            "delta": delta,
            "exponent": clip(exponent, high=largest),
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
        outputs, states = self.outputs_and_states(inputs, initial_state)
        if not return_state:
            return outputs
        # A chunk without frames leaves the state as it was.
        before = initial_state
        if before is None:
            fill = self.initial_energy
            fill = _NO_FRAME_YET if fill is None else fill
            before = ops.full_like(_first(states), fill)
        before = ops.cast(before, states.dtype)[:, None]
        return outputs, ops.concatenate([before, states], axis=1)[:, -1]

    def outputs_and_states(
        self, inputs: Tensor, initial_state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the outputs, and the state after each frame.

        Args:
          inputs: Energies of shape `(batch, frames, channels)`.
          initial_state: State before the first frame, `(batch, channels)`, as
            in a call.

        Returns:
          The outputs and the states, both of the shape of `inputs`. The layer
          must be built.
        """
        dtype = self.ema.compute_dtype
        energy = clip(ops.cast(inputs, dtype), low=0.0)
        if initial_state is not None:
            before = ops.cast(initial_state, dtype)
            initial_state = ops.where(before < 0, _first(energy), before)
        smoothed = self.ema(energy, initial_state=initial_state)
        used = self.constrained_parameters()
        outputs = _normalize(
            energy,
            self.floor + smoothed,
            alpha=used["alpha"],
            delta=used["delta"],
            power=used["exponent"],
        )
        return ops.cast(outputs, self.compute_dtype), smoothed

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
        # A layer whose `trainable` was set to False is loaded with nothing to
        # learn.
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

    It is computed as `delta^power · ((1 + x)^power − 1)` through logarithms, so
    that small energies keep their digits. The limits keep numbers far beyond
    those of audio from overflowing, and their gradients from becoming NaN.
    """
    gain = ops.exp(clip(-alpha * ops.log(level), high=_MAX_LOG))
    gained = clip(energy * gain, high=_MAX_GAINED)
    log_scale = clip(power * ops.log(delta), high=_MAX_LOG)
    room = _MAX_LOG - clip(log_scale, low=0.0)
    exponent = ops.minimum(power * ops.log1p(gained / delta), room)
    return ops.exp(log_scale) * ops.expm1(exponent)


def _first(energy: Tensor) -> Tensor:
    """Returns the energy of the first frame, or 0 if there is no frame."""
    return ops.sum(energy[:, :1], axis=1)


def _negated(initializer: Callable) -> Callable:
    """Makes an initializer of the negated values."""

    def negated(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return -initializer(shape, dtype=dtype)

    return negated
