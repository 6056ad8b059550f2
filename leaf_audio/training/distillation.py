"""The loss of a student, and the accuracy that is shown beside it.

Targets of shape `(batch, labels + size)` hold shares of all labels, then what a
teacher says. Outputs hold logits of the labels, and where the teacher says
embeddings, predictions of these. See `leaf_audio.training.teachers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from leaf_audio.training.losses import label_accuracy
from leaf_audio.training.teachers import Teacher


class Distillation(keras.losses.Loss):
    """Computes a weighted mean of the loss of the labels and a teacher's.

    With the probabilities of a teacher, the second is the Kullback-Leibler
    divergence from them to those of the student at the same temperature, times
    the square of the temperature (arXiv:1503.02531, section 2). Where a clip
    may have several labels, each has a divergence of its own, and their mean
    counts. With embeddings, it is the mean of the squared differences, or one
    minus the cosine of the angle.

    Args:
        of_labels: A loss of shares of labels and of logits, or such a function.
        teacher: The teacher, for its weight, temperature and distance.
        num_labels: int. The number of labels.
        is_multilabel: bool. Whether a clip may have several labels.
    """

    def __init__(
        self,
        of_labels: Any,
        teacher: Teacher,
        num_labels: int,
        is_multilabel: bool,
    ):
        reduction = getattr(of_labels, "reduction", "sum_over_batch_size")
        super().__init__(name="distillation", reduction=reduction)
        self._of_labels = getattr(of_labels, "call", of_labels)
        self._weight = teacher.weight
        self._num_labels = num_labels
        self._divergence = _divergence(teacher, is_multilabel)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, said = _split(y_true, self._num_labels)
        logits, predicted = _split(y_pred, self._num_labels)
        if not predicted.shape[-1]:
            predicted = logits
        own = self._of_labels(labels, logits)
        taught = self._divergence(said, predicted)
        return (1 - self._weight) * own + self._weight * taught


def accuracy(num_labels: int, is_multilabel: bool) -> keras.metrics.Metric:
    """Returns the accuracy of a student: that of its labels.

    Args:
        num_labels: int. The number of labels.
        is_multilabel: bool. Whether a clip may have several labels.
    """
    measure = (
        label_accuracy if is_multilabel else keras.metrics.categorical_accuracy
    )

    def of_labels(targets: Any, outputs: Any) -> Any:
        return measure(targets[:, :num_labels], outputs[:, :num_labels])

    name = "label_accuracy" if is_multilabel else "accuracy"
    return keras.metrics.MeanMetricWrapper(of_labels, name=name)


def _split(values: Any, num_labels: int) -> tuple[Any, Any]:
    return values[:, :num_labels], values[:, num_labels:]


def _divergence(
    teacher: Teacher, is_multilabel: bool
) -> Callable[[Any, Any], Any]:
    """Returns a function of what a teacher says and of a student's outputs."""
    if teacher.outputs == "embeddings":
        return _cosine if teacher.distance == "cosine" else _squared
    of_logits = _of_several_labels if is_multilabel else _of_one_label
    temperature = teacher.temperature

    def softened(probabilities: Any, logits: Any) -> Any:
        # The gradient at a temperature T is about 1 / T² of that at 1.
        divergence = of_logits(probabilities, logits / temperature)
        return temperature**2 * divergence

    return softened


def _of_one_label(probabilities: Any, logits: Any) -> Any:
    given = _times_log(probabilities, probabilities)
    own = probabilities * ops.log_softmax(logits, axis=-1)
    return ops.sum(given - own, axis=-1)


def _of_several_labels(probabilities: Any, logits: Any) -> Any:
    rest = 1 - probabilities
    given = _times_log(probabilities, probabilities) + _times_log(rest, rest)
    own = -probabilities * ops.softplus(-logits) - rest * ops.softplus(logits)
    return ops.mean(given - own, axis=-1)


def _times_log(factor: Any, value: Any) -> Any:
    """Returns `factor * log(value)`, which is 0 where both are 0."""
    return factor * ops.log(ops.maximum(value, 1e-30))


def _squared(embeddings: Any, predicted: Any) -> Any:
    return ops.mean(ops.square(predicted - embeddings), axis=-1)


def _cosine(embeddings: Any, predicted: Any) -> Any:
    # Keras' similarity is that of two vectors of length 1, the negative cosine.
    return 1 + keras.losses.cosine_similarity(embeddings, predicted)
