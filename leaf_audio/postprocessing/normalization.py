"""Normalization of features: per example, per batch, and by the median.

Axes are `(batch, frames, channels)`. Where a frontend has several channels per
filter, they follow as `(batch, frames, bands, channels)`. Masks are
`(batch, frames)`, True where a frame is valid.
"""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    check_bool,
    check_positive,
    check_rate,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip
from leaf_audio.common.sizes import wide_dtype

Tensor = Any
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("leaf_audio")
class InstanceNormalization(KnownArguments, keras.layers.Layer):
    """Brings each channel of each example to mean 0 and variance 1 over time.

    `gamma · (x − mean) / √(variance + epsilon) + beta`. The weights `gamma` and
    `beta` are learned, one of each per channel. Unlike
    `keras.layers.GroupNormalization(groups=-1)`, the layer takes a mask and
    leaves padding out of the statistics.

    Args:
      epsilon: Positive float. Is added to the variance. Defaults to 1e-6.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If `epsilon` is not positive or the inputs are not of rank 3.

    Input shape:
      `(batch, frames, channels)`. A call also takes `mask`, of shape
      `(batch, frames)`.

    Output shape:
      `(batch, frames, channels)`.

    Example:

    ```python
    layer = postprocessing.InstanceNormalization()
    normalized = layer(features)
    ```

    Reference: Instance normalization, arXiv:1607.08022.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        # In float16 the inputs would lose digits or overflow. So Keras does
        # not cast them; `call` casts them to float32.
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.epsilon = check_positive("epsilon", epsilon)
        self.input_spec = keras.InputSpec(ndim=3)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(
            name="gamma", shape=shape, initializer="ones"
        )
        self.beta = self.add_weight(
            name="beta", shape=shape, initializer="zeros"
        )

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        dtype = wide_dtype(self.compute_dtype)
        x = ops.cast(inputs, dtype)
        if mask is None:
            valid = ops.ones_like(x[:, :, :1])
        else:
            valid = ops.cast(mask, dtype)[:, :, None]
        count = clip(ops.sum(valid, axis=1, keepdims=True), low=1.0)
        mean = ops.sum(valid * x, axis=1, keepdims=True) / count
        centred = x - mean
        square = valid * ops.square(centred)
        variance = ops.sum(square, axis=1, keepdims=True) / count
        normalized = centred * ops.rsqrt(variance + self.epsilon)
        gamma, beta = ops.cast(self.gamma, dtype), ops.cast(self.beta, dtype)
        return ops.cast(normalized * gamma + beta, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("leaf_audio")
class TemporalBatchNormalization(KnownArguments, keras.layers.Layer):
    """Brings each band to mean 0 and variance 1 over batch and time.

    In training the statistics are those of the batch. In inference they are
    moving averages over the training batches. Masked frames are left out of the
    statistics.

    Differs from EfficientLEAF's release in the moving variance: here it
    averages the variances of the batches as they are. There each is first
    multiplied by n / (n − 1), where n is the number of values.

    Args:
      per_channel: Boolean. True gives each channel of a band its own
        statistics, scale and offset. False computes them over all channels of
        the band. Defaults to False.
      affine: Boolean. Whether to learn a scale `gamma` and an offset `beta`.
        Defaults to True.
      momentum: Float in [0, 1). Share of the old value in each update of a
        moving average. Defaults to 0.9.
      epsilon: Positive float. Is added to the variance. Defaults to 1e-5.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If an argument is out of range or the inputs are not of rank 3
        or 4.

    Input shape:
      `(batch, frames, bands)` or `(batch, frames, bands, channels)`. A call
      also takes `mask`, of shape `(batch, frames)`.

    Output shape:
      That of the input.

    Example:

    ```python
    layer = postprocessing.TemporalBatchNormalization()
    normalized = layer(features, training=True)
    ```

    Reference: EfficientLEAF, arXiv:2207.05508, section 3.
    """

    def __init__(
        self,
        per_channel: bool = False,
        affine: bool = True,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.per_channel = check_bool("per_channel", per_channel)
        self.affine = check_bool("affine", affine)
        self.momentum = check_rate("momentum", momentum)
        self.epsilon = check_positive("epsilon", epsilon)
        self.supports_masking = True
        self._norm = keras.layers.BatchNormalization(
            axis=2,
            momentum=momentum,
            epsilon=epsilon,
            center=affine,
            scale=affine,
            name="norm",
            trainable=self.trainable,
            dtype=wide_dtype(self.compute_dtype),
        )

    def build(self, input_shape: Shape) -> None:
        self._norm.build(self._folded_shape(input_shape))

    def _folded_shape(self, shape: tuple[Any, ...]) -> Shape:
        """Joins bands and channels where each has its own statistics."""
        if len(shape) not in (3, 4):
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape (batch, frames, "
                "bands) or (batch, frames, bands, channels). Received: input "
                f"shape {tuple(shape)}."
            )
        if len(shape) == 4 and self.per_channel:
            return (*shape[:2], shape[2] * shape[3])
        return tuple(shape)

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        shape = ops.shape(inputs)
        folded = self._folded_shape(inputs.shape)
        x = ops.cast(inputs, self._norm.compute_dtype)
        if len(folded) < len(shape):
            x = ops.reshape(x, (shape[0], shape[1], folded[2]))
        if mask is not None and len(folded) == 4:
            # Keras' layer expects a mask over all axes but the last.
            mask = ops.broadcast_to(mask[:, :, None], ops.shape(x)[:3])
        outputs = self._norm(x, training=training, mask=mask)
        outputs = ops.reshape(outputs, shape)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "per_channel": self.per_channel,
            "affine": self.affine,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class TemporalMedianSubtraction(KnownArguments, keras.layers.Layer):
    """Subtracts the median over time from each band of each example.

    In logarithmic features the median is an estimate of the steady background.
    For an even number of frames, it is the lower one of the two middle values.
    Masked frames are left out.

    Args:
      append: Boolean. True returns two channels: the inputs, and the inputs
        minus their median. False returns the second alone. Defaults to False.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If `append` is not a boolean or the inputs are not of rank 3.

    Input shape:
      `(batch, frames, bands)`. A call also takes `mask`, of shape
      `(batch, frames)`.

    Output shape:
      `(batch, frames, bands)`, or `(batch, frames, bands, 2)` with `append`.

    Example:

    ```python
    layer = postprocessing.TemporalMedianSubtraction(append=True)
    two_channels = layer(log_energies)
    ```

    Reference: EfficientLEAF, arXiv:2207.05508, section 3.
    """

    def __init__(self, append: bool = False, **kwargs: Any):
        super().__init__(**check_layer_arguments(kwargs))
        self.append = check_bool("append", append)
        self.input_spec = keras.InputSpec(ndim=3)
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        difference = inputs - _lower_median(inputs, mask)
        if self.append:
            return ops.stack([inputs, difference], axis=-1)
        return difference

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, 2) if self.append else tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "append": self.append}


def _lower_median(x: Tensor, mask: Tensor | None) -> Tensor:
    """Computes the lower medians over time, of shape `(batch, 1, bands)`."""
    ranked = ops.stop_gradient(x)
    if mask is None:
        frames = ops.shape(x)[1]
        middle = ops.broadcast_to((frames - 1) // 2, ops.shape(x[:, :1]))
    else:
        # Infinity sorts the masked frames behind the valid ones.
        infinite = ops.full_like(ranked, float("inf"))
        ranked = ops.where(mask[..., None], ranked, infinite)
        count = ops.sum(ops.cast(mask, "int32"), axis=1)
        middle = ops.maximum(count - 1, 0)[:, None, None] // 2
        middle = ops.broadcast_to(middle, ops.shape(x[:, :1]))
    # Only the value at the median's position needs a gradient. The gradient of
    # sorting would cost as much as all the rest.
    order = ops.argsort(ranked, axis=1)
    position = ops.take_along_axis(order, ops.cast(middle, order.dtype), axis=1)
    return ops.take_along_axis(x, position, axis=1)
