"""AudioClassifier: a frontend, an encoder and an output layer in one model.

Features are `(batch, time, bins, channels)`. The model passes `training` to its
parts unchanged, as Keras layers do: dropout, SpecAugment and batch statistics
are active only if it is True.
"""

import inspect
from typing import Any

import keras
import numpy as np
from keras import layers

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import check_choice, check_rate, check_size
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.frontend.held import Holdable
from leaf_audio.models.chain import (
    Shape,
    Tensor,
    from_config_with_objects,
)
from leaf_audio.models.heads import POOLINGS, BandNormalization, GlobalPooling
from leaf_audio.models.same_parts import difference


@keras.saving.register_keras_serializable("leaf_audio")
class AudioClassifier(KnownArguments, keras.Model):
    """Classifies waveforms with a frontend, an encoder and a dense layer.

    Waveform → frontend → features → normalization → encoder → embedding →
    global pooling → dropout → dense layer → logits. If the features have no
    channel axis, the model adds one. The logits are float32 also under mixed
    precision, and float64 under a float64 policy. An untrained model gives all
    classes about the same probability: the weights of its dense layer are
    normally distributed with a standard deviation of 0.01.

    A mask of the waveform's samples reaches the frontend and the poolings
    `"average"` and `"attention"`, which leave padding out. The normalization,
    the encoder and the pooling `"max"` also use the frames that are padding.

    Args:
      num_outputs: Positive integer. Number of classes.
      frontend: Keras layer or model that turns waveforms into features of shape
        `(batch, time, bins)` or `(batch, time, bins, channels)`, such as
        `frontend.Leaf()`. Defaults to None: the inputs are features already.
      encoder: Keras layer or model that turns features of shape
        `(batch, time, bins, channels)` into an embedding of any rank with the
        channels on the last axis, such as `ConvNet([64, 128])`. A model of
        `keras.applications` also works; create it with `include_top=False`,
        `weights=None` and `input_shape=(None, None, 1)`. Those that divide
        their inputs by 255, such as EfficientNetB0, need a
        `Rescaling(255.0)` before. Defaults to None: the features themselves
        are classified.
      input_norm: `"batch"` or None. `"batch"` brings each band (and channel) of
        the features to mean 0 and standard deviation 1 with the statistics of
        the batch, as PANNs do (arXiv:1912.10211). Defaults to None.
      pooling: `"max"`, `"average"` or `"attention"`. How the embedding is
        pooled over time and bins; see `GlobalPooling`. Defaults to `"max"`.
      dropout: Float in [0, 1). Dropout rate of the pooled embedding. Defaults
        to 0.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range, or if the inputs are too short
        or have too few bins for the encoder.

    Input shape:
      That of the frontend: `(batch, time)` or `(batch, time, 1)`; with a
      frontend made with `multichannel=True` also `(batch, time, channels)`, and
      the encoder receives as many channels. Without a frontend,
      `(batch, time, bins)` or `(batch, time, bins, channels)`.

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
        input_norm: str | None = None,
        pooling: str = "max",
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        # Without autocast, the frontend receives the waveform in its own dtype.
        # bfloat16 would lose quiet sounds.
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.num_outputs = check_size("num_outputs", num_outputs)
        self.frontend = _check_layer("frontend", frontend)
        self.encoder = _check_layer("encoder", encoder)
        if input_norm is not None:
            input_norm = check_choice("input_norm", input_norm, ("batch",))
        self.input_norm = input_norm
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        self.dropout = check_rate("dropout", dropout)
        self._passes_mask = (
            frontend is not None
            and "mask" in inspect.signature(frontend.call).parameters
        )
        self.supports_masking = self._passes_mask
        self._holds_frontend = False
        self._holds_encoder = False
        dtype = wide_dtype(self.variable_dtype)
        self._normalize = (
            None if input_norm is None else BandNormalization(dtype=dtype)
        )
        self._pool = GlobalPooling(pooling, dtype=dtype)
        self._drop = layers.Dropout(dropout, dtype=dtype)
        self.head = layers.Dense(
            self.num_outputs,
            # An untrained model gives all classes about the same probability,
            # whatever the scale of the embedding. With Keras' default, the loss
            # began at several times that of guessing.
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=dtype,
            name="head",
        )

    def build(self, input_shape: Shape) -> None:
        inputs = keras.KerasTensor(input_shape, dtype=self.variable_dtype)
        embedding = self.embed(inputs, training=None, mask=None)
        self.head.build(embedding.shape)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        return self.head(self.embed(inputs, training, mask))

    def embed(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        """Computes the pooled embedding, which the dense layer classifies.

        Args:
          inputs: Waveforms, as for a call of the model.
          training: Whether dropout, SpecAugment and batch statistics are
            active. Defaults to None, as in a call of a Keras layer.
          mask: A mask of the samples, or None. Defaults to None.

        Returns:
          A tensor of shape `(batch, channels)`.
        """
        features = inputs
        if self.frontend is not None:
            kwargs = {"mask": mask} if self._passes_mask else {}
            for_frontend = False if self._holds_frontend else training
            features = self.frontend(inputs, training=for_frontend, **kwargs)
        if len(features.shape) == 3:
            features = features[..., None]
        if len(features.shape) == 2 and self.frontend is None:
            raise ValueError(
                "`frontend` must be given for clips of shape (batch, time): "
                "AudioClassifier.frontend, which the config of a frontend, "
                "such as leaf.gin, sets. Received: frontend=None, inputs of "
                f"shape {tuple(inputs.shape)}."
            )
        if len(features.shape) != 4:
            raise ValueError(
                "AudioClassifier takes features of shape (batch, time, bins) "
                "or (batch, time, bins, channels) from its frontend, or as its "
                "inputs where it has none. Received: features of shape "
                f"{tuple(features.shape)} from frontend={self.frontend}."
            )
        for_encoder = False if self._holds_encoder else training
        if self._normalize is not None:
            features = self._normalize(features, training=for_encoder)
        encoded = self._encode(features, for_encoder)
        pooled = self._pool(encoded, mask=self._frame_mask(inputs, mask))
        return self._drop(pooled, training=training)

    def with_head(
        self, kernel: Any, bias: Any, input_shape: Shape | None = None
    ) -> "AudioClassifier":
        """Copies the classifier, and gives the copy another dense layer.

        Args:
          kernel: Array of shape `(channels, outputs)`, the weights of the dense
            layer.
          bias: Array of shape `(outputs,)`.
          input_shape: Shape of the inputs of the copy. Defaults to None for
            that of this model, which must have been built by itself.

        Returns:
          A new model with `outputs` outputs. It shares no weights with this
          one.

        Raises:
          ValueError: If this model is not built, or the arrays do not fit it or
            each other.
        """
        _check_built("The classifier", self)
        kernel, bias = np.asarray(kernel), np.asarray(bias)
        fits = kernel.ndim == 2 and bias.shape == kernel.shape[1:] != (0,)
        if not fits:
            raise ValueError(
                "`kernel` must have the shape (channels, outputs), and `bias` "
                f"the shape (outputs,). Received: arrays of shape "
                f"{kernel.shape} and {bias.shape}."
            )
        config = {**self.get_config(), "num_outputs": len(bias)}
        copy = type(self).from_config(config)
        copy.build(input_shape or self.get_build_config()["input_shape"])
        copy.take_weights(self)
        channels = copy.head.kernel.shape[0]
        if len(kernel) != channels:
            raise ValueError(
                f"`kernel` must have a row for each of {channels} channels. "
                f"Received: an array of shape {kernel.shape}."
            )
        copy.head.set_weights([kernel, bias])
        return copy

    def with_frontend(
        self, frontend: layers.Layer, input_shape: Shape
    ) -> "AudioClassifier":
        """Copies a classifier of features, and gives the copy a frontend.

        Args:
          frontend: The frontend, built. It is copied too.
          input_shape: Shape of its inputs.

        Returns:
          A new model. It shares no weights with this one.
        """
        config = {**self.get_config(), "frontend": serialize(frontend)}
        copy = type(self).from_config(config)
        copy.build(input_shape)
        copy.frontend.set_weights(frontend.get_weights())
        for name in ("_normalize", "encoder", "_pool", "head"):
            own = getattr(copy, name)
            if own is not None:
                own.set_weights(getattr(self, name).get_weights())
        return copy

    def take_weights(self, other: "AudioClassifier") -> None:
        """Takes over the weights of another classifier.

        Those of the dense layer stay. Both must be built, and have the same
        frontend, encoder, `input_norm` and `pooling`. Arguments that have no
        effect on what a part computes from its weights may differ; see
        `leaf_audio.models.same_parts`.

        Args:
          other: The classifier that has the weights.

        Raises:
          ValueError: If a part has other weights or computes something else
            from them, or one of the two is not built. Nothing is changed then.
        """
        _check_built("The classifier", self)
        _check_built("`other`", other)
        pairs = []
        for name, argument in _PARTS.items():
            own, given = getattr(self, name), getattr(other, name)
            problem = _mismatch(own, given)
            if problem:
                raise ValueError(
                    f"`{argument}` of the two classifiers must be of the same "
                    "kind, size and settings to take over weights. Received: "
                    f"{problem[0]}, and {problem[1]} for `other`."
                )
            pairs.append((own, given))
        for own, given in pairs:
            if own is not None:
                own.set_weights(given.get_weights())

    def hold(self, frontend: bool = False, encoder: bool = False) -> None:
        """Has parts compute as in evaluation from now on, also in training.

        Normalizations then use, and keep, the statistics that they have, and
        dropout within the parts is off. The weights can still be trained.

        Args:
          frontend: Whether the frontend does so. The SpecAugment of a frontend
            of this package stays on in training. Defaults to False.
          encoder: Whether the normalization and the encoder do so. Defaults to
            False.
        """
        if frontend and isinstance(self.frontend, Holdable):
            self.frontend.hold()
        elif frontend:
            self._holds_frontend = True
        self._holds_encoder = self._holds_encoder or encoder

    def _frame_mask(self, inputs: Tensor, mask: Any) -> Any:
        if mask is None or not self._passes_mask:
            return mask
        return self.frontend.compute_mask(inputs, mask)

    def _encode(self, features: Tensor, training: bool | None) -> Tensor:
        if self.encoder is None:
            return features
        received = f"Received: features of shape {tuple(features.shape)}"
        channels = _channels_of(self.encoder)
        if channels not in (None, features.shape[-1]):
            raise ValueError(
                f"The encoder `{self.encoder.name}` must take as many channels "
                f"as the features have, but it takes {channels}: make it with "
                f"another `input_shape`, or `channels` in a config. {received}."
            )
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
            "input_norm": self.input_norm,
            "pooling": self.pooling,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "AudioClassifier":
        """Creates a classifier from the config `get_config` has returned."""
        names = ("frontend", "encoder")
        return from_config_with_objects(cls, config, names, custom_objects)


# The parts before the dense layer, and the argument that each depends on.
_PARTS = {
    "frontend": "frontend",
    "_normalize": "input_norm",
    "encoder": "encoder",
    "_pool": "pooling",
}


def _channels_of(encoder: layers.Layer) -> int | None:
    """Returns the channels that a functional model takes; None for others."""
    shape = getattr(encoder, "input_shape", None)
    return shape[-1] if isinstance(shape, tuple) and len(shape) == 4 else None


def _mismatch(
    own: layers.Layer | None, given: layers.Layer | None
) -> tuple[str, str] | None:
    """Describes both of two parts if one cannot have the other's weights."""
    if type(own) is type(given):
        if own is None:
            return None
        found = difference(own, given)
        if found:
            name, here, there = found
            return f"{name}={here}", f"{name}={there}"
        own_shapes, given_shapes = [
            [tuple(weight.shape) for weight in part.weights]
            for part in (own, given)
        ]
        if own_shapes == given_shapes:
            return None
    return _described(own), _described(given)


def _described(part: layers.Layer | None) -> str:
    if part is None:
        return "none"
    return f"a {type(part).__name__} with {part.count_params()} weights"


def _check_built(name: str, model: "AudioClassifier") -> None:
    """Checks that the parts have weights. The model itself may have no head."""
    parts = [getattr(model, part) for part in _PARTS]
    if not all(part is None or part.built for part in parts):
        raise ValueError(
            f"{name} must be built, by `build` or a call. Received: "
            f"{model.name}, which has no weights yet."
        )


def _check_layer(name: str, value: Any) -> layers.Layer | None:
    if value is not None and not isinstance(value, layers.Layer):
        raise ValueError(
            f"`{name}` must be a Keras layer or model, or None. "
            f"Received: {name}={value!r}."
        )
    return value
