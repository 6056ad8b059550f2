"""Learning without labels: two views of a recording find each other.

A model of this file compares all recordings of a batch. Its outputs are not
logits of labels, but similarities, by which a cross-entropy trains: the most
similar candidate of a view should be the other view of the same recording. See
`leaf_audio.training.contrast`.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import check_choice, check_positive, check_size
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip
from leaf_audio.common.serialization import serialize
from leaf_audio.common.sizes import wide_dtype
from leaf_audio.models.chain import Shape, Tensor, from_config_with_objects
from leaf_audio.models.classifier import AudioClassifier

# What excludes a candidate. Infinity would give gradients that are not finite.
EXCLUDED = -1e9
_TEMPERATURE_OF_COLA = 0.2


def part_alone(part: Tensor) -> tuple[Tensor, int]:
    """Takes the part of a batch that a device has for the whole batch.

    Args:
      part: A tensor whose first axis is that of the batch.

    Returns:
      The tensor, and the position of its first row in the batch, 0.
    """
    return part, 0


class Contrastive(KnownArguments, keras.Model):
    """The base class of models that compare pairs of views.

    A subclass makes the layers of its projection in the constructor, and writes
    `_project` and `_compare`.

    Args:
      classifier: An `AudioClassifier`. Its frontend, encoder and pooling give
        the embeddings that are learned. Its dense layer is not used.
      **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
      ValueError: If an argument is out of range.

    Input shape:
      `(batch, 2, ...)`: two views of each recording, each of the shape that the
      classifier takes.

    Output shape:
      `(batch, queries, candidates)`.

    Attributes:
      queries: How many of the two views look for the other one.
      whole_batch: A function from what a device has computed of its part of a
        batch to the same of the whole batch, and to the position of its own
        first row there. The candidates are those of the whole batch. It is not
        saved. The default is `part_alone`, for one device.
    """

    queries: int

    def __init__(self, classifier: AudioClassifier, **kwargs: Any):
        # As in AudioClassifier, the frontend gets the waveform as it is.
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        if not isinstance(classifier, AudioClassifier):
            raise ValueError(
                "`classifier` must be a models.AudioClassifier. "
                f"Received: classifier={classifier!r}."
            )
        self.classifier = classifier
        self.whole_batch: Callable[[Tensor], tuple[Tensor, Any]] = part_alone
        self._wide = wide_dtype(self.variable_dtype)

    @property
    def frontend(self) -> layers.Layer | None:
        """The frontend of the classifier."""
        return self.classifier.frontend

    def build(self, input_shape: Shape) -> None:
        self._check_views(input_shape)
        inputs = keras.KerasTensor(
            (input_shape[0], *input_shape[2:]), dtype=self.variable_dtype
        )
        self._build_projection(self.embed(inputs).shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        self._check_views(inputs.shape)
        # Views of a recording stay together, so that devices which share the
        # batch need not exchange waveforms.
        clips = ops.reshape(inputs, (-1, *ops.shape(inputs)[2:]))
        projected = self._project(self.embed(clips, training))
        pairs = ops.reshape(projected, (-1, 2, projected.shape[-1]))
        return self._compare(pairs, *self.whole_batch(pairs))

    def embed(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Computes the embedding of recordings, before the projection.

        Args:
          inputs: Waveforms, as for a call of the classifier.
          training: As in a call of a Keras layer. Defaults to None.

        Returns:
          A tensor of shape `(batch, channels)`.
        """
        return self.classifier.embed(inputs, training)

    def with_head(self, kernel: Any, bias: Any) -> AudioClassifier:
        """Makes a classifier with the frontend and the encoder of this model.

        Args:
          kernel: Array of shape `(channels, outputs)`, the weights of its dense
            layer.
          bias: Array of shape `(outputs,)`.

        Returns:
          A new model with `outputs` outputs. It shares no weights with this
          one.
        """
        _, _, *shape = self.get_build_config()["input_shape"]
        return self.classifier.with_head(kernel, bias, (None, *shape))

    def _check_views(self, shape: Shape) -> None:
        if len(shape) < 3 or shape[1] != 2:
            raise ValueError(
                f"{type(self).__name__} takes two views of each recording, in "
                "inputs of shape (batch, 2, time). Received: inputs of shape "
                f"{tuple(shape)}."
            )

    def _build_projection(self, shape: Shape) -> None:
        raise NotImplementedError

    def _project(self, embeddings: Tensor) -> Tensor:
        raise NotImplementedError

    def _compare(self, pairs: Tensor, whole: Tensor, start: Any) -> Tensor:
        """Returns the similarities of pairs of views with all of a batch.

        Args:
          pairs: Projections, of shape `(clips, 2, units)`.
          whole: Those of all clips of the batch.
          start: Where `pairs` begin in `whole`.
        """
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch = input_shape[0]
        candidates = None if batch is None else self.queries * batch
        return (batch, self.queries, candidates)

    def compute_output_spec(
        self, inputs: Any, training: Any = None
    ) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self._wide)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classifier": serialize(self.classifier),
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "Contrastive":
        """Creates a model from the config `get_config` has returned."""
        return from_config_with_objects(
            cls, config, ["classifier"], custom_objects
        )


@keras.saving.register_keras_serializable("leaf_audio")
class COLA(Contrastive):
    """Learns that two crops of a recording belong together.

    The embedding passes a dense layer, a layer normalization and a tanh. The
    first crop of each recording is compared with the second crops of all
    recordings of the batch: by `x W y` with a learned matrix W, or by the
    cosine of their angle, divided by a temperature.

    Args:
      classifier: An `AudioClassifier`; see `Contrastive`.
      units: Positive integer. Size of the projection. Defaults to 512.
      similarity: `"bilinear"` or `"cosine"`. Defaults to `"bilinear"`.
      temperature: Float above 0, or None. Divides the cosine. Must be None with
        `"bilinear"`. None stands for 0.2 with `"cosine"`. Defaults to None.
      **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
      ValueError: If an argument is out of range.

    Input shape:
      `(batch, 2, time)`.

    Output shape:
      `(batch, 1, batch)`.

    Example:

    ```python
    model = models.COLA(
        models.AudioClassifier(
            1, frontend=frontend.Leaf(), encoder=models.ConvNet([64, 128])
        )
    )
    similarities = model(pairs_of_crops)
    ```

    Reference: arXiv:2010.10915, section 2.
    """

    queries = 1

    def __init__(
        self,
        classifier: AudioClassifier,
        units: int = 512,
        similarity: str = "bilinear",
        temperature: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(classifier, **kwargs)
        self.units = check_size("units", units)
        self.similarity = check_choice(
            "similarity", similarity, ("bilinear", "cosine")
        )
        if temperature is not None:
            check_positive("temperature", temperature)
            if self.similarity == "bilinear":
                raise ValueError(
                    "`temperature` must be None unless similarity='cosine'. "
                    f"Received: temperature={temperature!r}, "
                    f"similarity={similarity!r}."
                )
        self.temperature = temperature
        self._dense = layers.Dense(units, dtype=self._wide, name="projection")
        self._norm = layers.LayerNormalization(dtype=self._wide)
        self._bilinear = (
            layers.Dense(
                units,
                use_bias=False,
                # An untrained model finds all candidates about equally
                # similar. With Keras' default, similarities of 512 units began
                # with a standard deviation of 9.
                kernel_initializer=keras.initializers.RandomNormal(
                    stddev=1 / units
                ),
                dtype=self._wide,
                name="bilinear",
            )
            if self.similarity == "bilinear"
            else None
        )

    def _build_projection(self, shape: Shape) -> None:
        self._dense.build(shape)
        projected = (shape[0], self.units)
        self._norm.build(projected)
        if self._bilinear is not None:
            self._bilinear.build(projected)

    def _project(self, embeddings: Tensor) -> Tensor:
        return ops.tanh(self._norm(self._dense(embeddings)))

    def _compare(self, pairs: Tensor, whole: Tensor, start: Any) -> Tensor:
        first, second = pairs[:, 0], whole[:, 1]
        if self._bilinear is not None:
            similarities = self._bilinear(first) @ ops.transpose(second)
        else:
            temperature = self.temperature or _TEMPERATURE_OF_COLA
            cosines = _unit(first) @ ops.transpose(_unit(second))
            similarities = cosines / temperature
        return similarities[:, None]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "similarity": self.similarity,
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class SimCLR(Contrastive):
    """Learns that two augmented views of a recording belong together.

    The embedding passes a dense layer with a ReLU and a second dense layer
    without bias. Each view is compared with all other views of the batch, those
    of the same position included, by the cosine of their angle, divided by a
    temperature. The mean cross-entropy of these similarities is the loss
    NT-Xent. Differs from the published code, which has batch normalization
    after both layers.

    Args:
      classifier: An `AudioClassifier`; see `Contrastive`.
      units: Positive integer. Size of the projection. Defaults to 128.
      hidden_units: Positive integer, or None for the size of the embedding.
        Size of the hidden layer of the projection. Defaults to None.
      temperature: Float above 0. Divides the cosine. Defaults to 0.1.
      **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
      ValueError: If an argument is out of range.

    Input shape:
      `(batch, 2, time)`.

    Output shape:
      `(batch, 2, 2 * batch)`. For both views, the first half of the candidates
      are the views of the other position, the second half those of their own. A
      view is no candidate for itself: its similarity is -1e9.

    Reference: arXiv:2002.05709, section 2.
    """

    queries = 2

    def __init__(
        self,
        classifier: AudioClassifier,
        units: int = 128,
        hidden_units: int | None = None,
        temperature: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(classifier, **kwargs)
        self.units = check_size("units", units)
        self.hidden_units = hidden_units
        if hidden_units is not None:
            check_size("hidden_units", hidden_units)
        self.temperature = check_positive("temperature", temperature)
        self._last = layers.Dense(
            units, use_bias=False, dtype=self._wide, name="projection"
        )

    def _build_projection(self, shape: Shape) -> None:
        hidden = self.hidden_units or shape[-1]
        self._hidden = layers.Dense(
            hidden, activation="relu", dtype=self._wide, name="hidden"
        )
        self._hidden.build(shape)
        self._last.build((shape[0], hidden))

    def _project(self, embeddings: Tensor) -> Tensor:
        return _unit(self._last(self._hidden(embeddings)))

    def _compare(self, pairs: Tensor, whole: Tensor, start: Any) -> Tensor:
        own = start + ops.arange(ops.shape(pairs)[0])
        itself = ops.equal(own[:, None], ops.arange(ops.shape(whole)[0])[None])

        def row(view: int) -> Tensor:
            views = pairs[:, view]
            others = views @ ops.transpose(whole[:, 1 - view])
            same = views @ ops.transpose(whole[:, view])
            others, same = others / self.temperature, same / self.temperature
            same = ops.where(itself, ops.cast(EXCLUDED, same.dtype), same)
            return ops.concatenate([others, same], axis=-1)

        return ops.stack([row(0), row(1)], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_units": self.hidden_units,
            "temperature": self.temperature,
        }


def _unit(vectors: Tensor) -> Tensor:
    """Brings vectors to the length 1. The gradient at 0 is finite."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(clip(squares, low=1e-12))
