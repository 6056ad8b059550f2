"""LogTBN, the compression of EfficientLEAF.

Energies are `(batch, frames, bands)`, where a band is a filter's output.
"""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import check_bool, check_choice, check_finite
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.postprocessing.logarithms import Log1p
from leaf_audio.postprocessing.normalization import (
    TemporalBatchNormalization,
    TemporalMedianSubtraction,
)

Tensor = Any
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("leaf_audio")
class LogTBN(KnownArguments, keras.layers.Layer):
    """Takes logarithms, subtracts medians and normalizes over batch and time.

    The steps are those of EfficientLEAF:

    1. `log(1 + 10^a E)`, by `Log1p`;
    2. minus its median over time for each band, by
       `TemporalMedianSubtraction`, which removes steady background noise;
    3. to mean 0 and variance 1 over batch and time for each band, by
       `TemporalBatchNormalization`.

    By default the result has two channels, one with the median subtracted and
    one without, which are normalized separately.

    Args:
      a: Finite float. Initial value of the exponent a. Defaults to 5.0.
      learn_a: Boolean. Whether a is learned. Defaults to True.
      per_band: Boolean. True gives each band its own a, False gives all bands
        one. Defaults to True.
      median: `"append"` returns the logarithm as a first channel and the
        logarithm minus its median as a second one. `"subtract"` returns the
        second alone, `"keep"` the first alone. Defaults to `"append"`.
      affine: Boolean. Whether to learn a scale and an offset after the
        normalization, for each band and channel. Defaults to True.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If an argument is out of range or the inputs are not of rank
        3.

    Input shape:
      `(batch, frames, bands)`. Energies, not negative.

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
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.a = check_finite("a", a)
        self.learn_a = check_bool("learn_a", learn_a)
        self.per_band = check_bool("per_band", per_band)
        self.median = check_choice(
            "median", median, ("append", "subtract", "keep")
        )
        self.affine = check_bool("affine", affine)
        self.input_spec = keras.InputSpec(ndim=3)
        self.supports_masking = True
        dtype = wide_dtype(self.compute_dtype)
        self.log1p = Log1p(
            a,
            per_band=per_band,
            trainable=learn_a,
            name="log1p",
            dtype=dtype,
        )
        self.log1p.trainable = self.trainable
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
