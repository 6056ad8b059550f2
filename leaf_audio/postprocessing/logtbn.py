"""EfficientLEAF's compression: logarithm, median and temporal batch norm.

Energies are `(batch, frames, channels)`.
"""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import check_bool, check_choice, check_finite
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.postprocessing.normalization import (
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)

Tensor = Any
Shape = tuple[int | None, ...]


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
        # Energies would overflow half floats; `call` casts.
        super().__init__(trainable=trainable, autocast=False, **kwargs)
        self.a_init = check_finite("a", a)
        self.per_band = check_bool("per_band", per_band)

    def build(self, input_shape: Shape) -> None:
        self.a = self.add_weight(
            name="a",
            shape=(input_shape[-1],) if self.per_band else (1,),
            initializer=keras.initializers.Constant(self.a_init),
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
        super().__init__(autocast=False, **kwargs)
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
