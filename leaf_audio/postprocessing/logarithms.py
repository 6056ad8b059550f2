"""Logarithmic compression of energies.

Energies are squared magnitudes, so they are not negative. Their last axis holds
the bands (filters).
"""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_finite,
    check_not_negative,
    check_positive,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip
from leaf_audio.common.sizes import wide_dtype

Tensor = Any
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("leaf_audio")
def log_compression(inputs: Tensor, log_offset: float = 1e-5) -> Tensor:
    """Computes the natural logarithm, `log(E + log_offset)`.

    Args:
      inputs: Tensor of any shape. Energies E, not negative.
      log_offset: Positive float, in the unit of the energies. Keeps the
        logarithm of 0 finite. Energies far below it become alike, close to
        `log(log_offset)`. Defaults to 1e-5.

    Returns:
      A tensor of the shape of `inputs`.

    Raises:
      ValueError: If `log_offset` is not a positive number.
    """
    check_positive("log_offset", log_offset)
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

    This is what librosa's `power_to_db` and torchaudio's `AmplitudeToDB`
    compute. One thing differs from librosa: the maxima that `ref="max"` and
    `top_db` refer to are taken for each recording of the batch, while librosa
    takes one maximum over its whole input.

    Args:
      inputs: Tensor of shape `(batch, ...)`. Energies E, not negative.
      ref: Positive float, the energy of 0 dB; or `"max"`, for the largest
        energy of each recording. Defaults to 1.0.
      amin: Positive float. Smaller energies are raised to it. Defaults to
        1e-10.
      top_db: Float in dB, not negative. Values more than `top_db` below the
        maximum of their recording are raised to that limit. None sets no
        limit. Defaults to 80.0.
      power: Positive float. The inputs are magnitudes to this power: 2 for
        energies, 1 for magnitudes. For other values than 2, `ref` and `amin`
        still refer to energies. Defaults to 2.0.

    Returns:
      A tensor of the shape of `inputs`, in dB.

    Raises:
      ValueError: If an argument is out of range.
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
    level = scale * ops.log(clip(inputs, low=amin ** (power / 2)))
    if isinstance(ref, str):
        level = level - _maximum_of_each(level)
    else:
        level = level - 10 * math.log10(max(ref, amin))
    if top_db is None:
        return level
    return ops.maximum(level, _maximum_of_each(level) - top_db)


def _maximum_of_each(x: Tensor) -> Tensor:
    """Computes the maximum of each example, with all axes kept."""
    return ops.max(x, axis=tuple(range(1, len(x.shape))), keepdims=True)


@keras.saving.register_keras_serializable("leaf_audio")
class Log1p(KnownArguments, keras.layers.Layer):
    """Computes `log(1 + 10^a E)`, with a gain `10^a` that can be learned.

    The output is close to linear, `10^a E`, where `10^a E` is well below 1, and
    close to a logarithm where it is well above 1. A larger `a` lifts quiet
    sounds.

    Args:
      a: Finite float. Initial value of the exponent a. The layer's weight `a`
        holds it. Defaults to 0.0.
      per_band: Boolean. True gives each band its own a, False gives all bands
        one. Defaults to False.
      trainable: Boolean. Whether a is learned. If False, a stays fixed also
        when a model that holds the layer is frozen and unfrozen. Defaults to
        False.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If `a` is not a finite number or `per_band` is not a boolean.

    Input shape:
      `(..., bands)`, with any axes before the last. Energies, not negative.

    Output shape:
      That of the input.

    Example:

    ```python
    layer = postprocessing.Log1p(a=5.0, per_band=True, trainable=True)
    compressed = layer(energies)
    ```

    Reference: EfficientLEAF, arXiv:2207.05508, section 3.
    """

    def __init__(
        self,
        a: float = 0.0,
        per_band: bool = False,
        trainable: bool = False,
        **kwargs: Any,
    ):
        # Keras would cast the energies to float16, where they may overflow.
        # `call` casts them instead.
        # `trainable` is about a. The layer itself stays trainable, so that a is
        # still fixed after a model with the layer was frozen and unfrozen.
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.learn_a = check_bool("trainable", trainable)
        self.a_init = check_finite("a", a)
        self.per_band = check_bool("per_band", per_band)

    def build(self, input_shape: Shape) -> None:
        self.a = self.add_weight(
            name="a",
            shape=(input_shape[-1],) if self.per_band else (1,),
            initializer=keras.initializers.Constant(self.a_init),
            trainable=self.learn_a,
        )

    def call(self, inputs: Tensor) -> Tensor:
        dtype = wide_dtype(self.compute_dtype)
        gain = ops.exp(math.log(10) * ops.cast(self.a, dtype))
        outputs = ops.log1p(gain * ops.cast(inputs, dtype))
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        # A layer that was frozen is loaded with nothing to learn.
        return {
            **super().get_config(),
            "trainable": self.learn_a and self.trainable,
            "a": self.a_init,
            "per_band": self.per_band,
        }
