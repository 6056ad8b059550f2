"""A classifier in the time when it learns from a teacher."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from leaf_audio.common.sizes import wide_dtype
from leaf_audio.models.chain import Shape, Tensor
from leaf_audio.models.classifier import AudioClassifier


class Student(keras.Model):
    """Trains a classifier whose targets hold more than labels.

    It is never saved: `classifier` is, which shares its weights.

    Args:
      classifier: The model from waveforms to logits that is to learn.
      units: Positive integer, or None. The size of the embeddings of a teacher.
        A linear layer then predicts them from the embedding of `classifier`,
        which must be an `AudioClassifier`. Defaults to None.

    Raises:
      ValueError: If `units` is given for another kind of model.

    Input shape:
      That of `classifier`.

    Output shape:
      `(batch, num_outputs)`, the logits. With `units`,
      `(batch, num_outputs + units)`: the predicted embedding follows them.
    """

    def __init__(self, classifier: keras.Model, units: int | None = None):
        # As in AudioClassifier, the frontend gets the waveform as it is.
        super().__init__(autocast=False, name="student")
        if units is not None and not isinstance(classifier, AudioClassifier):
            raise ValueError(
                "`model` must be a models.AudioClassifier to learn the "
                "embeddings of a teacher. Received: a "
                f"{type(classifier).__name__}."
            )
        self.classifier = classifier
        self._projection = None
        if units is not None:
            self._projection = layers.Dense(
                units, dtype=wide_dtype(self.variable_dtype), name="projection"
            )

    @property
    def frontend(self) -> layers.Layer | None:
        """The frontend of the classifier."""
        return getattr(self.classifier, "frontend", None)

    def build(self, input_shape: Shape) -> None:
        if not self.classifier.built:
            self.classifier.build(input_shape)
        if self._projection is not None:
            self._projection.build((None, self.classifier.head.kernel.shape[0]))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if self._projection is None:
            return self.classifier(inputs, training=training)
        embedding = self.classifier.embed(inputs, training)
        outputs = [self.classifier.head(embedding), self._projection(embedding)]
        return ops.concatenate(outputs, axis=-1)

    def predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Computes the logits of recordings; see `keras.Model.predict`.

        Returns:
          An array of shape `(clips, num_outputs)`.
        """
        outputs = super().predict(*args, **kwargs)
        if self._projection is None:
            return outputs
        return outputs[:, : self.classifier.num_outputs]


def kept_part(model: Any) -> Any:
    """Returns what is saved of a model that is trained."""
    return model.classifier if isinstance(model, Student) else model
