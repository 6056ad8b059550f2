"""Classifiers: encoders of spectrograms, and a model around frontend and head.

Spectrograms are `(batch, time, bins, channels)`. Convolutions are padded to
keep their sizes; each model says where it pools and how it rounds. Models pass
`training` on as Keras does, so that nothing trains unless asked to.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_positive_int,
    check_unbound,
)
from leaf_audio.common.serialization import deserialize, serialize
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.frontend.channels import (
    fold_channels,
    folded_shape,
    num_channels,
    unfold_channels,
    unfolded_shape,
)

__all__ = [
    "AudioClassifier",
    "ConvBlock",
    "ConvNet",
    "PANN",
    "PANNConvBlock",
    "PANNWavBlock",
    "WaveGram",
]

Tensor = Any
Shape = tuple[int | None, ...]

_NORMALIZATIONS = {
    "batch": layers.BatchNormalization,
    "layer": layers.LayerNormalization,
    "instance": lambda **kwargs: layers.GroupNormalization(groups=-1, **kwargs),
}


class _Chain(keras.Model):
    """A model that applies layers one after the other.

    A subclass puts them into `chain` and may refuse inputs in `_check_shape`.
    keras.Sequential is no base for that: its config holds its layers instead of
    the constructor's arguments.
    """

    chain: Sequence[layers.Layer]

    def _check_shape(self, shape: Shape) -> None:
        if len(shape) != 4:
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape (batch, time, "
                "bins, channels). Received: inputs of shape "
                f"{tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_shape(input_shape)
        for layer in self.chain:
            # A block loaded from a file has its weights already.
            if not layer.weights:
                layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        self._check_shape(inputs.shape)
        for layer in self.chain:
            inputs = layer(inputs, training=training)
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._check_shape(input_shape)
        for layer in self.chain:
            input_shape = layer.compute_output_shape(input_shape)
        return tuple(input_shape)


@keras.saving.register_keras_serializable("leaf_audio")
class ConvBlock(_Chain):
    """Convolves along time, then along frequency.

    Convolution 3×1, activation, normalisation, dropout; convolution 1×3,
    activation, normalisation, dropout; max-pooling 2×2, which drops an odd last
    frame or bin.

    Args:
      num_filters: number of output channels.
      activation: name or function; a layer, such as keras.layers.PReLU(), is
        copied for each of the two places; None is the identity.
      normalization_layer: `"batch"`, `"layer"`, `"instance"`; a class or a
        function of no arguments that makes a layer; a layer, which is copied
        for each of the two places; None for none.
      dropout: rate in [0, 1).
      max_pooling: whether to end with the max-pooling.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or inputs have too few frames or
        bins to pool.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, time // 2, bins // 2, num_filters)`, or `(batch, time, bins,
      num_filters)` without pooling.

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
        self.num_filters = check_positive_int("num_filters", num_filters)
        self.dropout = _check_rate("dropout", dropout)
        self.max_pooling = check_bool("max_pooling", max_pooling)
        dtype = self.dtype_policy
        activations, normalizations = [], []
        self.chain = []
        for kernel_size in ((3, 1), (1, 3)):
            activations.append(_activation(activation, dtype))
            normalizations.append(_normalization(normalization_layer, dtype))
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
        # A layer that was given is no part of this model, its copies are; and
        # what a class or a function has made can be saved, itself it cannot.
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
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None):
        """Creates the block whose `get_config` this is."""
        names = ("activation", "normalization_layer")
        return _from_config(cls, config, names, custom_objects)


@keras.saving.register_keras_serializable("leaf_audio")
class ConvNet(_Chain):
    """Applies blocks that convolve along time and frequency.

    The first block, and then every other one, halves time and frequency.

    Args:
      filters: number of channels of each block.
      block: makes a block, called as
        `block(num_filters=..., max_pooling=...)`; None is ConvBlock. For other
        settings than its defaults: `functools.partial(ConvBlock, dropout=0.2)`.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or inputs have too few frames or
        bins to pool.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, time // 2**pools, bins // 2**pools, filters[-1])`, where
      `pools = len(filters) // 2 + 1`.

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
        is_sequence = isinstance(filters, Sequence) and not isinstance(
            filters, str
        )
        if not is_sequence or not filters:
            raise ValueError(
                "`filters` must be a list with a number for each block. "
                f"Received: filters={filters!r}."
            )
        if block is not None and not callable(block):
            raise ValueError(
                "`block` must be None or a callable that makes a block. "
                f"Received: block={block!r}."
            )
        self.filters = [check_positive_int("filters", n) for n in filters]
        self.block = block
        if block is None:

            def block(**settings: Any) -> layers.Layer:
                return ConvBlock(dtype=self.dtype_policy, **settings)

        check_unbound("block", block, ("num_filters", "max_pooling"))
        pools = [i == 0 or i % 2 == 1 for i in range(len(filters))]
        self._min_size = 2 ** sum(pools)
        self.chain = [
            block(num_filters=num_filters, max_pooling=max_pooling)
            for num_filters, max_pooling in zip(filters, pools, strict=True)
        ]
        for made in self.chain:
            if not isinstance(made, layers.Layer):
                raise ValueError(
                    "`block` must make a Keras layer. "
                    f"Received: block={self.block!r}, which made {made!r}."
                )

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        blocks = len(self.filters)
        name = f"ConvNet with {blocks} block{'s' if blocks > 1 else ''}"
        _check_poolable(name, shape, self._min_size)

    def get_config(self) -> dict[str, Any]:
        # A function that makes blocks cannot be saved: its blocks can.
        blocks = [serialize(block) for block in self.chain]
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "block": None if self.block is None else blocks,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None):
        """Creates the model whose `get_config` this is."""
        config = dict(config)
        if config["block"] is not None:
            with keras.saving.custom_object_scope(custom_objects or {}):
                blocks = iter([deserialize(b) for b in config["block"]])
            config["block"] = lambda **_: next(blocks)
        return cls(**config)


@keras.saving.register_keras_serializable("leaf_audio")
class PANNConvBlock(_Chain):
    """Two convolutions 3×3, each with batch norm and ReLU; average-pooling.

    Args:
      filters: number of output channels.
      pool_size: of the pooling along time and frequency, an integer or a pair;
        the last window may be shorter than the others.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, ceil(time / pool_size[0]), ceil(bins / pool_size[1]), filters)`.

    Reference: PANNs, arXiv:1912.10211, appendix A.
    """

    def __init__(
        self,
        filters: int,
        pool_size: int | tuple[int, int] = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = check_positive_int("filters", filters)
        self.pool_size = _check_pair("pool_size", pool_size)
        dtype = self.dtype_policy
        self.chain = []
        for _ in range(2):
            self.chain += [
                layers.Conv2D(
                    filters,
                    3,
                    padding="same",
                    use_bias=False,
                    dtype=dtype,
                    data_format="channels_last",
                ),
                layers.BatchNormalization(dtype=dtype),
                layers.ReLU(dtype=dtype),
            ]
        self.chain.append(
            layers.AveragePooling2D(
                self.pool_size,
                padding="same",
                dtype=dtype,
                data_format="channels_last",
            )
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "pool_size": self.pool_size,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class PANN(_Chain):
    """CNN of the PANN family: normalised bins, then blocks of growing width.

    Block i has `min(64 · 2**i, 2048)` channels; the first five blocks halve
    time and frequency, rounding up. Dropout follows each block.

    Args:
      depth: number of blocks.
      dropout_rate: in [0, 1).
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or the number of bins is unknown.

    Input shape:
      `(batch, time, bins, channels)`.

    Output shape:
      `(batch, ceil(time / 2**d), ceil(bins / 2**d), min(64 · 2**(depth - 1),
      2048))` with `d = min(depth, 5)`.

    Example:
    ```python
    encoder = models.PANN(depth=4, dropout_rate=0.3)
    model = models.AudioClassifier(12, frontend.Leaf(), encoder)
    ```

    Reference: PANNs, arXiv:1912.10211.
    """

    def __init__(
        self, depth: int = 6, dropout_rate: float = 0.2, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.depth = check_positive_int("depth", depth)
        self.dropout_rate = _check_rate("dropout_rate", dropout_rate)
        dtype = self.dtype_policy
        # Axis 2: statistics per frequency bin.
        self.chain = [layers.BatchNormalization(axis=2, dtype=dtype)]
        for i in range(depth):
            self.chain.append(
                PANNConvBlock(
                    min(64 * 2**i, 2048), 2 if i < 5 else 1, dtype=dtype
                )
            )
            if dropout_rate:
                self.chain.append(layers.Dropout(dropout_rate, dtype=dtype))

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if shape[2] is None:
            raise ValueError(
                "PANN needs a known number of bins, which it normalises one by "
                f"one. Received: inputs of shape {tuple(shape)}."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "depth": self.depth,
            "dropout_rate": self.dropout_rate,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class PANNWavBlock(_Chain):
    """Two convolutions over time, the second dilated by 2; max-pooling.

    Each convolution spans 3 taps and is followed by batch norm and ReLU.

    Args:
      filters: number of output channels.
      pool_size: of the pooling, in frames; the last window may be shorter than
        the others.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range.

    Input shape:
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / pool_size), filters)`.

    Reference: PANNs, arXiv:1912.10211, section III.
    """

    def __init__(self, filters: int, pool_size: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = check_positive_int("filters", filters)
        self.pool_size = check_positive_int("pool_size", pool_size)
        dtype = self.dtype_policy
        self.chain = []
        for dilation_rate in (1, 2):
            self.chain += [
                layers.Conv1D(
                    filters,
                    3,
                    padding="same",
                    dilation_rate=dilation_rate,
                    use_bias=False,
                    dtype=dtype,
                    data_format="channels_last",
                ),
                layers.BatchNormalization(dtype=dtype),
                layers.ReLU(dtype=dtype),
            ]
        self.chain.append(
            layers.MaxPooling1D(
                pool_size,
                padding="same",
                dtype=dtype,
                data_format="channels_last",
            )
        )

    def _check_shape(self, shape: Shape) -> None:
        if len(shape) != 3:
            raise ValueError(
                "PANNWavBlock takes inputs of shape (batch, time, channels). "
                f"Received: inputs of shape {tuple(shape)}."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "pool_size": self.pool_size,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class WaveGram(_Chain):
    """Learns a time-frequency representation by plain convolutions.

    One convolution of stride 5, three PANNWavBlocks and a PANNConvBlock: 64
    learned bins, one frame for every 640 samples. A frontend that brings its
    channel axis along.

    Args:
      multichannel: whether to take waveforms of any number of channels, with
        the same convolutions for each.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or inputs are not waveforms of
        one channel.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / 640), 64, 1)`; with `multichannel`
      `(batch, ceil(time / 640), 64, channels)`.

    Example:
    ```python
    model = models.AudioClassifier(12, models.WaveGram(), models.PANN(4))
    ```

    Reference: PANNs, arXiv:1912.10211, section III.
    """

    def __init__(self, multichannel: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.multichannel = check_bool("multichannel", multichannel)
        dtype = self.dtype_policy
        self.chain = [
            layers.Reshape((-1, 1), dtype=dtype),
            layers.Conv1D(
                64,
                11,
                strides=5,
                padding="same",
                use_bias=False,
                dtype=dtype,
                data_format="channels_last",
            ),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
            *(PANNWavBlock(n, 4, dtype=dtype) for n in (64, 128, 128)),
            layers.Reshape((-1, 1, 128), dtype=dtype),
            PANNConvBlock(64, (2, 1), dtype=dtype),
            layers.Permute((1, 3, 2), dtype=dtype),
        ]

    def _check_shape(self, shape: Shape) -> None:
        is_waveform = len(shape) in (2, 3)
        if is_waveform and not self.multichannel:
            is_waveform = num_channels(shape) == 1
        if not is_waveform:
            raise ValueError(
                "WaveGram takes waveforms of shape (batch, time) or (batch, "
                "time, 1), and with multichannel=True (batch, time, channels). "
                f"Received: inputs of shape {tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_shape(input_shape)
        super().build(folded_shape(input_shape))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        self._check_shape(inputs.shape)
        if not self.multichannel:
            return super().call(inputs, training=training)
        if len(inputs.shape) == 2:
            inputs = inputs[..., None]
        outputs = super().call(fold_channels(inputs), training=training)
        return unfold_channels(outputs, inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._check_shape(input_shape)
        shape = super().compute_output_shape(folded_shape(input_shape))
        return unfolded_shape(shape, input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multichannel": self.multichannel}


@keras.saving.register_keras_serializable("leaf_audio")
class AudioClassifier(keras.Model):
    """Classifies waveforms: frontend, encoder, global max-pooling, dense.

    A channel axis is added to features that lack one. Logits are float32
    (float64 under a float64 policy), also under mixed precision. A mask goes to
    the frontend alone: the encoder and the pooling see the frames of padding.

    Args:
      num_outputs: number of classes.
      frontend: layer or model from waveforms to features, `(batch, time,
        bins)` or `(batch, time, bins, channels)`; None where the inputs are
        features already.
      encoder: layer or model from `(batch, time, bins, channels)` to an
        embedding of any rank, channels last, such as ConvNet, or a model of
        keras.applications made with `include_top=False, weights=None,
        input_shape=(None, None, 1)`; None to classify the features themselves.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.

    Raises:
      ValueError: an argument is out of range, or the inputs are too short, or
        have too few bins, for the encoder.

    Input shape:
      That of the frontend: `(batch, time)` or `(batch, time, 1)`, or `(batch,
      time, channels)` for one made with `multichannel=True`, where the encoder
      gets as many channels. Without a frontend, features.

    Output shape:
      `(batch, num_outputs)`.

    Example:
    ```python
    model = models.AudioClassifier(
        num_outputs=12,
        frontend=frontend.Leaf(),
        encoder=models.ConvNet([64, 128, 256, 256, 512, 512]),
    )
    logits = model(waveforms)
    ```
    """

    def __init__(
        self,
        num_outputs: int,
        frontend: layers.Layer | None = None,
        encoder: layers.Layer | None = None,
        **kwargs: Any,
    ):
        # A frontend takes the waveform as it is, in all its bits.
        super().__init__(autocast=False, **kwargs)
        self.num_outputs = check_positive_int("num_outputs", num_outputs)
        self.frontend = _check_layer("frontend", frontend)
        self.encoder = _check_layer("encoder", encoder)
        self._passes_mask = (
            frontend is not None
            and "mask" in inspect.signature(frontend.call).parameters
        )
        self.supports_masking = self._passes_mask
        self.head = layers.Dense(
            num_outputs, dtype=wide_dtype(self.variable_dtype), name="head"
        )

    def build(self, input_shape: Shape) -> None:
        inputs = keras.KerasTensor(input_shape, dtype=self.variable_dtype)
        embedding = self._embed(inputs, training=None, mask=None)
        self.head.build(embedding.shape)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        return self.head(self._embed(inputs, training, mask))

    def _embed(
        self, inputs: Tensor, training: bool | None, mask: Any
    ) -> Tensor:
        features = inputs
        if self.frontend is not None:
            kwargs = {"mask": mask} if self._passes_mask else {}
            features = self.frontend(inputs, training=training, **kwargs)
        if len(features.shape) == 3:
            features = features[..., None]
        if len(features.shape) != 4:
            raise ValueError(
                "AudioClassifier takes features of shape (batch, time, bins) "
                "or (batch, time, bins, channels) from its frontend, or as its "
                "inputs where it has none. Received: features of shape "
                f"{tuple(features.shape)} from frontend={self.frontend}."
            )
        encoded = self._encode(features, training)
        axes = tuple(range(1, len(encoded.shape) - 1))
        return ops.max(encoded, axis=axes) if axes else encoded

    def _encode(self, features: Tensor, training: bool | None) -> Tensor:
        if self.encoder is None:
            return features
        received = f"Received: features of shape {tuple(features.shape)}"
        try:
            encoded = self.encoder(features, training=training)
        except ValueError as error:
            raise ValueError(
                f"The encoder `{self.encoder.name}` cannot take its inputs. "
                f"{received}. {error}"
            ) from error
        if 0 in encoded.shape[1:]:
            raise ValueError(
                f"The encoder `{self.encoder.name}` needs more frames or bins. "
                f"{received}, of which it leaves {tuple(encoded.shape)}."
            )
        return encoded

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.num_outputs)

    def compute_output_spec(
        self, inputs: Any, training: Any = None, mask: Any = None
    ) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self.head.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        # Logits have no time axis.
        return None

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_outputs": self.num_outputs,
            "frontend": serialize(self.frontend),
            "encoder": serialize(self.encoder),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None):
        """Creates the classifier whose `get_config` this is."""
        names = ("frontend", "encoder")
        return _from_config(cls, config, names, custom_objects)


def _from_config(
    cls: type, config: dict[str, Any], names: Sequence[str], custom_objects: Any
) -> Any:
    """Calls a class with a config in which `names` are serialized objects."""
    with keras.saving.custom_object_scope(custom_objects or {}):
        objects = {name: deserialize(config[name]) for name in names}
    return cls(**{**config, **objects})


def _activation(value: Any, dtype: Any) -> layers.Layer:
    """Makes a new activation layer of what ConvBlock was given."""
    if isinstance(value, layers.Layer):
        return _unbuilt_copy(value)
    return layers.Activation(value, dtype=dtype)


def _normalization(value: Any, dtype: Any) -> layers.Layer | None:
    """Makes a new normalisation layer of what ConvBlock was given, if any."""
    if value is None:
        return None
    if isinstance(value, layers.Layer):
        return _unbuilt_copy(value)
    if isinstance(value, str):
        name = check_choice(
            "normalization_layer", value, tuple(_NORMALIZATIONS)
        )
        return _NORMALIZATIONS[name](dtype=dtype)
    layer = value() if callable(value) else value
    if not isinstance(layer, layers.Layer):
        raise ValueError(
            f"`normalization_layer` must be one of {tuple(_NORMALIZATIONS)}, a "
            "layer, a class or function that makes one, or None. Received: "
            f"normalization_layer={value!r}."
        )
    return layer


def _unbuilt_copy(layer: layers.Layer) -> layers.Layer:
    """Copies a layer without its weights, whose shapes may not fit."""
    return type(layer).from_config(layer.get_config())


def _check_poolable(name: str, shape: Shape, min_size: int) -> None:
    if any(size is not None and size < min_size for size in shape[1:3]):
        raise ValueError(
            f"{name} needs at least {min_size} frames and {min_size} bins. "
            f"Received: inputs of shape {tuple(shape)}."
        )


def _check_layer(name: str, value: Any) -> layers.Layer | None:
    if value is not None and not isinstance(value, layers.Layer):
        raise ValueError(
            f"`{name}` must be a Keras layer or model, or None. "
            f"Received: {name}={value!r}."
        )
    return value


def _check_rate(name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < 1:
        raise ValueError(
            f"`{name}` must be a number in [0, 1). Received: {name}={value!r}."
        )
    return value


def _check_pair(name: str, value: Any) -> tuple[int, int]:
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"`{name}` must be a positive integer or a pair of them. "
            f"Received: {name}={value!r}."
        )
    return tuple(check_positive_int(name, size) for size in pair)
