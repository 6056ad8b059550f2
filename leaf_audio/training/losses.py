"""The loss of a classifier."""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import check_rate


@keras.saving.register_keras_serializable("leaf_audio")
class Crossentropy(keras.losses.Loss):
    """Computes the cross-entropy of logits, for labels or for shares of labels.

    The targets are labels, integers of shape (batch,) or (batch, 1), or shares
    of all labels, floats of shape (batch, labels), as mixup makes them. The
    outputs are logits of shape (batch, labels).

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
        # Keras may give the integers a second axis of size 1.
        if len(y_true.shape) < 2 or y_true.shape[-1] == 1:
            labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
            if not self.label_smoothing:
                return keras.losses.sparse_categorical_crossentropy(
                    labels, y_pred, from_logits=True
                )
            y_true = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
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
