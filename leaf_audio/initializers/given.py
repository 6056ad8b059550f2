"""Initializers that hold given values, such as those of a trained model."""

import os
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import check_text
from leaf_audio.common.serialization import load_model


@keras.saving.register_keras_serializable("leaf_audio")
class ArrayInit(KnownArguments, keras.initializers.Initializer):
    """Initializes a weight with given values.

    The values must have the shape of the weight, except that axes of length 1
    may be added or left out. For example, the filters of a Leaf take values of
    shape `(n_filters, 2)`, and the widths of its pooling take values of shape
    `(n_filters,)`.

    Args:
      values: Finite numbers: a nested list, an array or a tensor.

    Raises:
      ValueError: The values are not finite numbers, or the weight has another
        shape.

    Example:

    ```python
    leaf = frontend.Leaf(
        n_filters=2,
        complex_conv_init=initializers.ArrayInit([[0.1, 40.0], [0.9, 20.0]]),
        pooling_init=initializers.ArrayInit([0.4, 0.3]),
    )
    ```
    """

    def __init__(self, values: Any, **kwargs: Any):
        super().__init__(**kwargs)
        try:
            array = np.asarray(ops.convert_to_numpy(values))
            is_real = array.size > 0 and array.dtype.kind in "iuf"
            array = array.astype("float64")
        except (TypeError, ValueError):
            is_real = False
        if not is_real or not np.isfinite(array).all():
            raise ValueError(
                "`values` must be finite numbers, nested as the weight's axes "
                f"are. Received: values={values!r}."
            )
        self.values = array.tolist()

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        values = np.array(self.values)
        if _without_ones(values.shape) != _without_ones(shape):
            raise ValueError(
                "`values` of ArrayInit must have the weight's shape, but for "
                f"axes of length 1. Received: values of shape {values.shape} "
                f"for a weight of shape {tuple(shape)}."
            )
        return ops.convert_to_tensor(values.reshape(shape), dtype)

    def get_config(self) -> dict[str, Any]:
        return {"values": self.values}


def from_trained(source: Any, weight: str = "complex_conv/kernel") -> ArrayInit:
    """Returns an initializer with the values of a trained weight.

    Use it to start a new model from the filters that another model has learned.
    Gabor filters are stored in rad/sample and samples. They therefore keep
    their frequencies in Hz only if both models have the same sample rate.

    Args:
      source: A built layer or model that contains the weight, for example a
        trained Leaf, or an AudioClassifier with a Leaf. Or the path of a
        `.keras` file with such a layer or model.
      weight: End of the weight's path, which must belong to exactly one weight.
        Defaults to `"complex_conv/kernel"`, the filters of a Leaf. Other
        examples are `"learnable_pooling/kernel"` for the widths of its pooling
        and `"PCEN/alpha"` for a parameter of its compression.

    Returns:
      An ArrayInit that holds a copy of the values.

    Raises:
      ValueError: `source` is neither a layer nor the path of a file that can
        be loaded, or it has no weight or several weights whose path ends like
        this.

    Example:

    ```python
    trained = frontend.Leaf()
    trained.build((None, 16000))
    leaf = frontend.Leaf(complex_conv_init=initializers.from_trained(trained))
    ```
    """
    check_text("weight", weight)
    if isinstance(source, (str, os.PathLike)):
        if not os.path.exists(source):
            raise ValueError(
                "`source` must be a layer, a model or the path of a .keras "
                f"file. Received: source={source!r}, which is not there."
            )
        source = load_model(source)
    if not isinstance(source, keras.layers.Layer):
        raise ValueError(
            "`source` must be a layer, a model or the path of a .keras file. "
            f"Received: source={source!r}."
        )
    end = weight.split("/")
    found = [w for w in source.weights if w.path.split("/")[-len(end) :] == end]
    if len(found) != 1:
        paths = [w.path for w in found or source.weights]
        raise ValueError(
            "`weight` must be the end of the path of exactly one weight of "
            f"`source`. Received: weight={weight!r}, which matches "
            f"{len(found)} weights of {source.name}. "
            f"{'Matching' if found else 'All'} weights: {paths}."
        )
    return ArrayInit(found[0])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
