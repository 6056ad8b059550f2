"""Normalisation of features per example."""

from typing import Any

import keras
from keras import ops

from leaf_audio.settings import check_positive, wide_dtype

Tensor = Any
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("leaf_audio")
class InstanceNormalization(keras.layers.Layer):
    """Brings each example's channels to mean 0 and variance 1 over time.

    With learnable scale `gamma` and offset `beta` per channel. Unlike
    keras.layers.GroupNormalization(groups=-1) it takes a mask, so that padding
    has no part in the statistics.

    Args:
      epsilon: added to the variance.
      **kwargs: of keras.layers.Layer.

    Raises:
      ValueError: `epsilon` is not positive, or inputs have another rank.

    Input shape:
      `(batch, frames, channels)`.

    Output shape:
      `(batch, frames, channels)`.

    Reference: arXiv:1607.08022.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
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
        count = ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)
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
