"""The loss of a classifier, and the accuracy that is shown beside it."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import check_rate
from leaf_audio.common.keras_checks import is_function

# The model gives logits, and the targets are ones, zeros or shares.
_REFUSED = {
    keras.losses.CategoricalGeneralizedCrossEntropy: "probabilities",
    keras.losses.Circle: "embeddings",
    keras.losses.CTC: "sequences",
    keras.losses.Dice: "probabilities",
    keras.losses.KLDivergence: "probabilities",
    keras.losses.MeanAbsolutePercentageError: "targets other than 0",
    keras.losses.MeanSquaredLogarithmicError: "values from 0 on",
    keras.losses.Poisson: "probabilities",
    keras.losses.Tversky: "probabilities",
}
# The losses of Keras, by their names in lower case and without underscores.
_CLASSES = {
    name.lower(): value
    for name, value in vars(keras.losses).items()
    if inspect.isclass(value) and value is not keras.losses.Loss
}
_ALLOWED = (
    "the name of a loss of Keras such as 'binary_focal_crossentropy', a loss, "
    "a class or a function of this kind, or None"
)


def choose(
    loss: Any = None,
    label_smoothing: float = 0.0,
    has_shares: bool = False,
    is_multilabel: bool = False,
) -> Any:
    """Returns the loss to train with, for Keras' `compile`.

    Args:
        loss: What `make` takes, or None for the loss that fits the data: binary
            cross-entropy where a clip may have several labels, and
            cross-entropy otherwise. Defaults to None.
        label_smoothing: float, from 0 to below 1. Where a clip may have several
            labels, each target moves towards one half by this share. Otherwise
            this share of each target is spread evenly over all labels. Defaults
            to 0.
        has_shares: bool. Whether the targets are floats of shape
            `(batch, labels)`, instead of labels. Defaults to False.
        is_multilabel: bool. Whether a clip may have several labels. Defaults to
            False.

    Returns:
        A loss of the targets and of logits of shape `(batch, labels)`.

    Raises:
        ValueError: If `loss` cannot be used.
    """
    if loss is None and is_multilabel:
        return keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
    if loss is None and (has_shares or label_smoothing):
        return Crossentropy(label_smoothing=label_smoothing)
    if loss is None:
        # The saved model can be loaded with it where `leaf_audio.training` has
        # not been imported.
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made = make(loss, label_smoothing)
    if not isinstance(made, keras.losses.SparseCategoricalCrossentropy):
        return made if has_shares else OfShares(made)
    if has_shares:
        raise ValueError(
            "`loss` must take targets of shape (batch, labels), which mixup, "
            "a teacher and data with several labels have. "
            f"Received: loss={_shown(loss)}."
        )
    return made


def make(loss: Any, label_smoothing: float = 0.0) -> Any:
    """Makes a loss of logits from what a user may give.

    Args:
        loss: The name of a loss of Keras, such as "binary_focal_crossentropy",
            or Keras' function of this name; a class of losses; a
            `functools.partial` of such a function or class; a loss; or a
            function of targets and logits.
        label_smoothing: float. Is passed on to a name or a class, and must be 0
            for a loss, for a function of one's own, and for a partial with its
            own. Defaults to 0.

    Returns:
        A loss, or the function. A loss with the attribute `from_logits` has the
        value True there.

    Raises:
        ValueError: If `loss` is something else, or takes something else than
            logits, or takes no label smoothing where some is asked for.
    """
    maker = (
        _class_of(loss) if isinstance(loss, str) else _without_function(loss)
    )
    is_class = _is_loss_class(getattr(maker, "func", maker))
    made = _call(loss, maker, label_smoothing) if is_class else loss
    if not isinstance(made, keras.losses.Loss) and not is_function(made):
        raise _error(loss, _ALLOWED)
    if type(made) in _REFUSED:
        taken = _REFUSED[type(made)]
        raise _error(loss, "a loss of logits", f", which takes {taken}")
    if getattr(made, "from_logits", True) is not True:
        raise _error(loss, "a loss of logits, by from_logits=True")
    if label_smoothing and not is_class:
        raise ValueError(
            "`label_smoothing` must be 0 if `loss` is a loss or a function, "
            "which has its own. Received: "
            f"label_smoothing={label_smoothing!r}, loss={_shown(loss)}."
        )
    return made


def check_fits(loss: Any, targets: Any, logits: Any) -> None:
    """Raises a ValueError if a loss cannot be computed.

    Args:
        loss: What `choose` has returned.
        targets: Targets as the data has them.
        logits: Logits of shape `(batch, labels)`.
    """
    try:
        value = keras.losses.get(loss)(targets, logits)
    # A function of the user's own may raise anything.
    except Exception as error:
        # Without the names of TensorFlow's own functions.
        text = re.sub(r"\{\{.*?\}\}", "", str(error))
        lines = text.strip().splitlines() or [type(error).__name__]
        raise _error(
            loss.loss if isinstance(loss, OfShares) else loss,
            "computed from targets and logits of shape (batch, labels)",
            f", which failed: {lines[0].rstrip('.')}",
        ) from error
    if len(ops.shape(value)) > 1:
        raise _error(
            loss,
            "one number for each clip, or one in all",
            f", which has the shape {tuple(ops.shape(value))}",
        )


def _class_of(name: str) -> type[keras.losses.Loss]:
    """Returns the class of a loss of Keras from its name in either spelling."""
    try:
        # It knows abbreviations, such as "bce".
        found = keras.losses.get(name)
    except (TypeError, ValueError):
        found = None
    known = getattr(found, "__name__", name)
    plain = known.replace("_", "").lower()
    if isinstance(found, keras.losses.Loss):
        plain = type(found).__name__.lower()
    if plain in _CLASSES:
        return _CLASSES[plain]
    near = difflib.get_close_matches(plain, _CLASSES, n=1)
    hint = f" Did you mean {_CLASSES[near[0]].__name__!r}?" if near else ""
    raise ValueError(f"{_error(name, _ALLOWED)}{hint}")


def _without_function(loss: Any) -> Any:
    """Puts the class in the place of Keras' function, or of a partial of it.

    Such a function takes probabilities, and its class logits if it is asked to.
    """
    function = getattr(loss, "func", loss)
    name = getattr(function, "__name__", "")
    if getattr(keras.losses, name, None) is not function:
        return loss
    made: Any = _class_of(name)
    if isinstance(loss, functools.partial):
        return functools.partial(made, *loss.args, **loss.keywords)
    return made


def _is_loss_class(value: Any) -> bool:
    base = keras.losses.Loss
    return (
        inspect.isclass(value) and issubclass(value, base) and value is not base
    )


def _call(loss: Any, maker: Callable, label_smoothing: float) -> Any:
    """Makes a loss of logits by its class."""
    taken = inspect.signature(getattr(maker, "func", maker)).parameters
    own = getattr(maker, "keywords", {})
    settings: dict[str, Any] = {}
    if "from_logits" in {*taken} - {*own}:
        settings["from_logits"] = True
    if label_smoothing and "label_smoothing" in own:
        raise ValueError(
            "`label_smoothing` must be 0 for a loss that has its own. "
            f"Received: label_smoothing={label_smoothing!r}, "
            f"loss={_shown(loss)}."
        )
    if label_smoothing:
        if "label_smoothing" not in taken:
            raise ValueError(
                "`label_smoothing` must be 0 for a loss that does not take "
                f"it. Received: label_smoothing={label_smoothing!r}, "
                f"loss={_shown(loss)}."
            )
        settings["label_smoothing"] = label_smoothing
    try:
        return maker(**settings)
    except (TypeError, ValueError) as error:
        raise _error(
            loss, _ALLOWED, f", which failed: {str(error).rstrip('.')}"
        ) from error


def _shown(loss: Any) -> str:
    """Returns a loss as a message shows it, without an address in memory."""
    if isinstance(loss, keras.losses.Loss):
        return f"{type(loss).__name__}(...)"
    return loss.__name__ if inspect.isfunction(loss) else repr(loss)


def _error(loss: Any, allowed: str, problem: str = "") -> ValueError:
    return ValueError(
        f"`loss` must be {allowed}. Received: loss={_shown(loss)}{problem}."
    )


@keras.saving.register_keras_serializable("leaf_audio")
def label_accuracy(targets: Any, logits: Any) -> Any:
    """Returns the share of the labels of each clip that are told right.

    A label is told to be there if its probability is above one half.

    Args:
        targets: Float tensor of shape (batch, labels). A label is there if its
            target is above one half.
        logits: Tensor of the same shape.

    Returns:
        A float tensor of shape (batch,).
    """
    is_right = ops.equal(targets > 0.5, logits > 0)
    return ops.mean(ops.cast(is_right, "float32"), axis=-1)


@keras.saving.register_keras_serializable("leaf_audio")
class OfShares(keras.losses.Loss):
    """Gives labels to a loss that takes floats of shape (batch, labels).

    The label of a clip becomes a one, and the others are zeros.

    Args:
        loss: A `keras.losses.Loss`, or a function of targets and logits, both
            of shape (batch, labels).
        name: str. The name of the loss. Defaults to "of_shares".
        **kwargs: Arguments of `keras.losses.Loss`. `reduction` defaults to that
            of `loss`.
    """

    def __init__(self, loss: Any, name: str = "of_shares", **kwargs: Any):
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        if isinstance(loss, keras.losses.Loss):
            kwargs.setdefault("reduction", loss.reduction)
        super().__init__(name=name, **kwargs)
        self.loss = loss

    def call(self, y_true: Any, y_pred: Any) -> Any:
        call = getattr(self.loss, "call", self.loss)
        return call(_one_hot(y_true, y_pred), y_pred)

    def get_config(self) -> dict[str, Any]:
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}


def flat_labels(labels: Any) -> Any:
    """Returns labels as integers of shape (batch,).

    Args:
        labels: Numbers of shape (batch,) or (batch, 1): Keras may give them a
            second axis.
    """
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


def _one_hot(labels: Any, logits: Any) -> Any:
    return ops.one_hot(
        flat_labels(labels), logits.shape[-1], dtype=logits.dtype
    )


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
        if len(y_true.shape) < 2 or y_true.shape[-1] == 1:
            if not self.label_smoothing:
                return keras.losses.sparse_categorical_crossentropy(
                    flat_labels(y_true), y_pred, from_logits=True
                )
            y_true = _one_hot(y_true, y_pred)
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
