"""Operations without the costs that Keras or a backend adds to them.

TensorFlow's own gradients of squared slices, of slices and of gathers take
several passes over large arrays, some of them on one core. The gradients here
take one pass. On other backends, the backend's own gradients are used.

On PyTorch, Keras makes a tensor of each number that is an argument. A GPU gets
it by a copy from the host, for which both wait. `clip` and `split_by` pass
numbers on.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any

# Beyond so many complex channels, the product in `complex_energies` takes
# longer than the passes that it saves.
_MAX_CHANNELS_OF_PRODUCT = 24


def clip(
    x: Tensor, low: float | None = None, high: float | None = None
) -> Tensor:
    """Limits the values of an array to a range of which the limits are numbers.

    Args:
      x: Array of any shape.
      low: Least value, a Python number within the range of the dtype. Defaults
        to None, for no limit.
      high: Greatest value, likewise. At least one of the two must be given.

    Returns:
      An array of the shape of `x`.
    """
    if keras.backend.backend() == "torch":
        return ops.convert_to_tensor(x).clamp(low, high)
    if low is None:
        return ops.minimum(x, high)
    if high is None:
        return ops.maximum(x, low)
    return ops.clip(x, low, high)


def complex_energies(parts_apart: Tensor) -> Tensor:
    """Computes the squared modulus `re² + im²` of complex numbers.

    Args:
      parts_apart: `(..., 2 * channels)`, all real parts, then all imaginary
        parts.

    Returns:
      An array `(..., channels)`.
    """
    if on_tensorflow():
        return _complex_energies(parts_apart)
    return _sum_of_squares(parts_apart)


def with_ends(x: Tensor, head: int, tail: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Copies the beginning and the end of a signal.

    Args:
      x: `(batch, time, channels)`; `time` may be unknown.
      head: Length of the beginning, in samples.
      tail: First sample of the end, an integer or a tensor. The end may overlap
        the beginning.

    Returns:
      Three arrays: the whole signal, its beginning and its end. Use the whole
      signal from here on instead of `x`; the gradients of all three are then
      added up in one pass.
    """
    if not on_tensorflow():
        return x, x[:, :head], x[:, tail:]

    @ops.custom_gradient
    def cut(x: Tensor) -> Any:
        def gradient(*upstream: Tensor) -> Tensor:
            whole, of_head, of_tail = upstream
            begin = whole[:, :head] + of_head
            if isinstance(tail, int) and tail >= head:
                end = whole[:, tail:] + of_tail
                return ops.concatenate([begin, whole[:, head:tail], end], 1)
            whole = ops.concatenate([begin, whole[:, head:]], 1)
            end = whole[:, tail:] + of_tail
            return ops.concatenate([whole[:, :tail], end], 1)

        return (x, x[:, :head], x[:, tail:]), gradient

    return cut(x)


def reorder(x: Tensor, order: Sequence[int] | np.ndarray, axis: int) -> Tensor:
    """Reorders an array along an axis.

    Args:
      x: Array of any shape; the axis must have a known size.
      order: Permutation of the axis: position i of the result is position
        `order[i]` of `x`.
      axis: Axis to reorder.

    Returns:
      An array of the shape of `x`.
    """
    positions = np.asarray(order, "int32")
    if not on_tensorflow():
        return ops.take(x, positions, axis=axis)
    inverse = np.argsort(positions).astype("int32")

    @ops.custom_gradient
    def reordered(x: Tensor) -> Any:
        def gradient(upstream: Tensor) -> Tensor:
            return ops.take(upstream, inverse, axis=axis)

        return ops.take(x, positions, axis=axis), gradient

    return reordered(x)


def split_by(x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
    """Splits an array along an axis into parts of given sizes.

    Args:
      x: Array of any shape.
      sizes: Sizes of the parts; they add up to the size of the axis.
      axis: Axis to split.

    Returns:
      The parts, as many as there are sizes.
    """
    if len(sizes) == 1:
        return [x]
    if keras.backend.backend() == "torch":
        return list(ops.convert_to_tensor(x).split(list(sizes), dim=axis))
    ends = np.cumsum(sizes)[:-1].tolist()
    if not on_tensorflow():
        return ops.split(x, ends, axis=axis)

    @ops.custom_gradient
    def split(x: Tensor) -> Any:
        def gradient(*upstream: Tensor) -> Tensor:
            return ops.concatenate(upstream, axis=axis)

        return tuple(ops.split(x, ends, axis=axis)), gradient

    return list(split(x))


def on_tensorflow() -> bool:
    """Returns whether Keras runs on TensorFlow."""
    return keras.backend.backend() == "tensorflow"


def _sum_of_squares(parts_apart: Tensor) -> Tensor:
    real, imag = ops.split(parts_apart, 2, axis=-1)
    return ops.square(real) + ops.square(imag)


@ops.custom_gradient
def _complex_energies(parts_apart: Tensor) -> Any:
    count = parts_apart.shape[-1] // 2
    if count > _MAX_CHANNELS_OF_PRODUCT:

        def gradient(upstream: Tensor) -> Tensor:
            twice = upstream + upstream
            return parts_apart * ops.concatenate([twice, twice], axis=-1)

        return _sum_of_squares(parts_apart), gradient

    # On a CPU, a product with a small matrix takes less time than to split
    # large arrays, or to put them side by side.
    pairs = np.tile(np.eye(count), (2, 1))

    def gradient_by_product(upstream: Tensor) -> Tensor:
        twice = ops.cast(2 * pairs.T, upstream.dtype)
        return parts_apart * ops.matmul(upstream, twice)

    sums = ops.cast(pairs, parts_apart.dtype)
    return ops.matmul(ops.square(parts_apart), sums), gradient_by_product
