"""What AudioClassifier puts before and after the encoder."""

import math
from typing import Any

import keras
from keras import layers, ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import check_choice
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.models.chain import Shape, Tensor

POOLINGS = ("max", "average", "attention")


@keras.saving.register_keras_serializable("leaf_audio")
class BandNormalization(KnownArguments, layers.Layer):
    """Normalizes each band and channel with the statistics of the batch.

    It is a batch normalization over clips and frames, with a learnable scale
    and offset for each band and channel. In inference it uses moving averages,
    whose momentum is 0.95.

    Args:
      **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Raises:
      ValueError: If the number of bins or channels is unknown.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      The same as the input shape.

    Reference: the first layer of PANNs, arXiv:1912.10211.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**check_layer_arguments(kwargs))
        self._norm = layers.BatchNormalization(
            momentum=0.95, dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        bins, channels = input_shape[2:]
        if bins is None or channels is None:
            raise ValueError(
                "A normalization of bands needs a known number of bins and "
                f"channels. Received: features of shape {tuple(input_shape)}."
            )
        self._norm.build((*input_shape[:2], bins * channels))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        batch, time, bins, channels = ops.shape(inputs)
        outputs = ops.reshape(inputs, (batch, time, bins * channels))
        outputs = self._norm(outputs, training=training)
        return ops.reshape(outputs, (batch, time, bins, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)


@keras.saving.register_keras_serializable("leaf_audio")
class GlobalPooling(KnownArguments, layers.Layer):
    """Pools an embedding over all axes but the first and the last.

    - `"max"`: the maximum.
    - `"average"`: the mean.
    - `"attention"`: a weighted mean. The weights are `softmax(u · x)` over all
      positions, where x is the embedding at a position and u is learned. It
      starts as the mean, since u starts at 0. Differs from the reference, which
      has a hidden layer before u.

    With a mask, the mean and the weighted mean leave padding out. A position of
    the embedding is padding if the frame that it begins with is padding.

    Args:
      mode: `"max"`, `"average"` or `"attention"`. Defaults to `"average"`.
      **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Raises:
      ValueError: If `mode` is another value.

    Input shape:
      `(batch, ..., channels)`; the second axis, if any, is time. A mask has the
      shape `(batch, frames)`.

    Output shape:
      `(batch, channels)`.

    Reference: attentive pooling, arXiv:1803.10963, section 2.2.
    """

    def __init__(self, mode: str = "average", **kwargs: Any):
        super().__init__(**check_layer_arguments(kwargs))
        self.mode = check_choice("mode", mode, POOLINGS)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if self.mode == "attention":
            self._query = self.add_weight(
                name="query", shape=(input_shape[-1],), initializer="zeros"
            )

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        axes = tuple(range(1, len(inputs.shape) - 1))
        if not axes:
            return inputs
        if self.mode == "max":
            return ops.max(inputs, axis=axes)
        if self.mode == "average" and mask is None:
            return ops.mean(inputs, axis=axes)
        # (batch, positions, channels)
        rows = ops.reshape(inputs, (ops.shape(inputs)[0], -1, inputs.shape[-1]))
        scores = ops.zeros_like(rows[..., 0])
        if self.mode == "attention":
            scores = ops.sum(rows * self._query, axis=-1)
        # float16 has no number as low as that of what is masked.
        scores = ops.cast(scores, wide_dtype(self.compute_dtype))
        if mask is not None:
            valid = _positions(mask, ops.shape(inputs)[1])
            valid = ops.repeat(valid, math.prod(inputs.shape[2:-1]), axis=1)
            scores = ops.where(valid, scores, -1e9)
        weights = ops.cast(ops.softmax(scores, axis=1), rows.dtype)
        return ops.sum(rows * weights[..., None], axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        # The output has no time axis.
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}


def _positions(mask: Tensor, count: Any) -> Tensor:
    """Returns the mask of an embedding that has fewer positions than frames."""
    frames = ops.shape(mask)[1]
    first = ops.arange(count, dtype="int32") * frames // count
    return ops.take(ops.cast(mask, "bool"), first, axis=1)
