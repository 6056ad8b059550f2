"""ConvNet: an encoder that alternates convolutions over time and frequency."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_rate,
    check_size,
    check_sizes,
    check_unbound,
)
from leaf_audio.common.keras_checks import (
    check_activation,
    check_maker,
    make_layer,
)
from leaf_audio.common.serialization import deserialize, serialize
from leaf_audio.models.chain import (
    Chain,
    Shape,
    from_config_with_objects,
)

_NORMALIZATIONS = {
    "batch": layers.BatchNormalization,
    "layer": layers.LayerNormalization,
    "instance": lambda **kwargs: layers.GroupNormalization(groups=-1, **kwargs),
}


@keras.saving.register_keras_serializable("leaf_audio")
class ConvBlock(Chain):
    """Convolves over time, then over frequency, and pools both.

    The layers are: convolution 3×1 (time), activation, normalization, dropout;
    convolution 1×3 (frequency), activation, normalization, dropout;
    max-pooling 2×2. If the number of frames or bins is odd, the pooling drops
    the last one.

    Args:
      num_filters: Positive integer. Number of output channels.
      activation: Name of an activation, function, or layer. A layer, such as
        `keras.layers.PReLU()`, is copied for each of the two places. None is
        the identity. Defaults to `"relu"`.
      normalization_layer: `"batch"`, `"layer"` or `"instance"`; or a layer,
        which is copied for each of the two places; or a class or a function
        that returns a layer when it is called without arguments; or None for
        no normalization. Defaults to `"batch"`.
      dropout: Float in [0, 1). Dropout rate. Defaults to 0.0, which is no
        dropout.
      max_pooling: Boolean. Whether the block ends with the max-pooling.
        Defaults to True.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs have fewer
        than two frames or bins and the block pools.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, time // 2, bins // 2, num_filters)`; without pooling
      `(batch, time, bins, num_filters)`.

    Example:

    ```python
    block = models.ConvBlock(64, normalization_layer="layer", dropout=0.1)
    outputs = block(spectrogram[..., None], training=True)
    ```
    """

    def __init__(
        self,
        num_filters: int,
        activation: Any = "relu",
        normalization_layer: Any = "batch",
        dropout: float = 0.0,
        max_pooling: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_filters = check_size("num_filters", num_filters)
        check_activation("activation", activation)
        self.dropout = check_rate("dropout", dropout)
        self.max_pooling = check_bool("max_pooling", max_pooling)
        dtype = self.dtype_policy
        activations, normalizations = [], []
        self.chain = []
        for kernel_size in ((3, 1), (1, 3)):
            activations.append(_make_activation(activation, dtype))
            normalizations.append(
                _make_normalization(normalization_layer, dtype)
            )
            convolution = layers.Conv2D(
                num_filters,
                kernel_size,
                padding="same",
                dtype=dtype,
                data_format="channels_last",
            )
            self.chain += [convolution, activations[-1]]
            if normalizations[-1] is not None:
                self.chain.append(normalizations[-1])
            if dropout:
                self.chain.append(layers.Dropout(dropout, dtype=dtype))
        if max_pooling:
            self.chain.append(
                layers.MaxPooling2D(2, dtype=dtype, data_format="channels_last")
            )
        # If a layer was given, the model uses copies of it, so the copy is
        # stored here. A given class or function cannot be saved, but the layer
        # that it has made can.
        self.activation = (
            activations[0]
            if isinstance(activation, layers.Layer)
            else activation
        )
        self.normalization_layer = (
            normalization_layer
            if isinstance(normalization_layer, str)
            else normalizations[0]
        )

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if self.max_pooling:
            _check_poolable("ConvBlock", shape, 2)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_filters": self.num_filters,
            "activation": serialize(self.activation),
            "normalization_layer": serialize(self.normalization_layer),
            "dropout": self.dropout,
            "max_pooling": self.max_pooling,
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "ConvBlock":
        """Creates a block from the config that `get_config` has returned."""
        names = ("activation", "normalization_layer")
        return from_config_with_objects(cls, config, names, custom_objects)


@keras.saving.register_keras_serializable("leaf_audio")
class ConvNet(Chain):
    """Applies blocks of convolutions over time and frequency.

    The first block halves the number of frames and bins. So do the second, the
    fourth, the sixth block and so on.

    Args:
      filters: List of positive integers. Number of channels of each block.
      block: Callable that makes a block. It is called as
        `block(num_filters=..., max_pooling=...)` and returns a Keras layer. To
        change the settings of the blocks, give a partial, such as
        `functools.partial(models.ConvBlock, dropout=0.2)`. Defaults to None,
        which is `ConvBlock`.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs have fewer
        than `2**pools` frames or bins, with `pools = len(filters) // 2 + 1`.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, time // 2**pools, bins // 2**pools, filters[-1])`.

    Example:

    ```python
    encoder = models.ConvNet([64, 128, 256, 256, 512, 512])
    model = models.AudioClassifier(12, frontend.Leaf(), encoder)
    ```
    """

    def __init__(
        self,
        filters: Sequence[int],
        block: Callable[..., layers.Layer] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = check_sizes("filters", filters)
        check_maker(
            name="block",
            value=block,
            base=layers.Layer,
            allowed="a class or a function that makes a block, or None",
        )
        self.block = block
        if block is None:

            def block(**settings: Any) -> layers.Layer:
                return ConvBlock(dtype=self.dtype_policy, **settings)

        check_unbound("block", block, ("num_filters", "max_pooling"))
        pools = [i == 0 or i % 2 == 1 for i in range(len(filters))]
        self._min_size = 2 ** sum(pools)
        self.chain = [
            make_layer(
                "block",
                block,
                {"num_filters": num_filters, "max_pooling": max_pooling},
            )
            for num_filters, max_pooling in zip(filters, pools, strict=True)
        ]

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        blocks = len(self.filters)
        name = f"ConvNet with {blocks} block{'s' if blocks > 1 else ''}"
        _check_poolable(name, shape, self._min_size)

    def get_config(self) -> dict[str, Any]:
        # A function that makes blocks cannot be saved, but its blocks can.
        blocks = [serialize(block) for block in self.chain]
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "block": None if self.block is None else blocks,
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "ConvNet":
        """Creates a model from the config that `get_config` has returned."""
        config = dict(config)
        if config["block"] is not None:
            with keras.saving.custom_object_scope(custom_objects or {}):
                blocks = iter([deserialize(b) for b in config["block"]])
            config["block"] = lambda **_: next(blocks)
        return cls(**config)


def _make_activation(value: Any, dtype: Any) -> layers.Layer:
    """Creates a new layer from the argument `activation` of `ConvBlock`."""
    if isinstance(value, layers.Layer):
        return _copy_without_weights(value)
    return layers.Activation(value, dtype=dtype)


def _make_normalization(value: Any, dtype: Any) -> layers.Layer | None:
    """Creates a new layer from `normalization_layer`; None for None."""
    if value is None:
        return None
    if isinstance(value, layers.Layer):
        return _copy_without_weights(value)
    if isinstance(value, str):
        name = check_choice(
            "normalization_layer", value, tuple(_NORMALIZATIONS)
        )
        return _NORMALIZATIONS[name](dtype=dtype)
    if not callable(value):
        raise ValueError(
            f"`normalization_layer` must be one of {tuple(_NORMALIZATIONS)}, a "
            "layer, a class or function that makes one, or None. Received: "
            f"normalization_layer={value!r}."
        )
    return make_layer("normalization_layer", value, {})


def _copy_without_weights(layer: layers.Layer) -> layers.Layer:
    # The weights of the given layer may have other shapes than this block's.
    return type(layer).from_config(layer.get_config())


def _check_poolable(name: str, shape: Shape, min_size: int) -> None:
    if any(size is not None and size < min_size for size in shape[1:3]):
        raise ValueError(
            f"{name} needs at least {min_size} frames and {min_size} bins. "
            f"Received: inputs of shape {tuple(shape)}."
        )
