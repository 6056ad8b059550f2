"""The loss of a classifier."""

from typing import Any

import keras
from keras import ops

from leaf_audio.models.chain import check_rate


@keras.saving.register_keras_serializable("leaf_audio")
class Crossentropy(keras.losses.Loss):
    """Computes the cross-entropy of logits, for labels or for shares of labels.

    The targets are integers, one label for each clip, or float targets with a
    share for each label, as mixup makes them.

    Args:
        label_smoothing: float, from 0 to below 1. This share of each target is
            spread evenly over all labels (arXiv:1512.00567, section 7).
            Defaults to 0.
        name: str. The name of the loss. Defaults to "crossentropy".
        **kwargs: Arguments of `keras.losses.Loss`, such as `reduction`.

    Raises:
        ValueError: If `label_smoothing` is out of range.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        name: str = "crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = check_rate("label_smoothing", label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        num_labels = y_pred.shape[-1]
        # Keras gives the integers a second axis of size 1.
        if y_true.shape[-1] != num_labels:
            labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
            y_true = ops.one_hot(labels, num_labels, dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            y_true,
            y_pred,
            from_logits=True,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
        }
