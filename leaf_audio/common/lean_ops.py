"""Operations whose gradients cost no more than they do themselves.

A training step costs what its passes over large arrays cost. TensorFlow's own
gradients of slices and their squares, and of gathers, take several passes where
one will do, some of them on one core; those here do not. Other backends
keep their own.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


def complex_energies(parts_apart: Tensor) -> Tensor:
    """Computes `re² + im²`.

    Args:
      parts_apart: `(..., 2 * channels)`, all real parts before all imaginary
        ones.

    Returns:
      An array `(..., channels)`.
    """
    if on_tensorflow():
        return _complex_energies(parts_apart)
    real, imag = ops.split(parts_apart, 2, axis=-1)
    return ops.square(real) + ops.square(imag)


def with_ends(x: Tensor, head: int, tail: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts pieces off at both ends of the time axis; they may overlap.

    Args:
      x: `(batch, time, channels)`; `time` may be unknown.
      head: length of the first piece.
      tail: where the second begins, an integer or a tensor.

    Returns:
      `x` itself, which the pieces' gradients are added to, and the pieces.
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


def reorder(x: Tensor, order: Sequence[int], axis: int) -> Tensor:
    """Takes all positions along an axis in another order.

    Args:
      x: of any shape; the axis has a known size.
      order: each position once.
      axis: which one.
    """
    order = np.asarray(order, "int32")
    if not on_tensorflow():
        return ops.take(x, order, axis=axis)
    inverse = np.argsort(order).astype("int32")

    @ops.custom_gradient
    def reordered(x: Tensor) -> Any:
        def gradient(upstream: Tensor) -> Tensor:
            return ops.take(upstream, inverse, axis=axis)

        return ops.take(x, order, axis=axis), gradient

    return reordered(x)


def split_by(x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
    """Splits an axis into parts of these sizes, which make up all of it."""
    if len(sizes) == 1:
        return [x]
    return ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis)


def on_tensorflow() -> bool:
    """Tells whether gradients are to be those written here."""
    return keras.backend.backend() == "tensorflow"


@ops.custom_gradient
def _complex_energies(parts_apart: Tensor) -> Any:
    channels = parts_apart.shape[-1] // 2

    def gradient(upstream: Tensor) -> Tensor:
        twice = upstream + upstream
        return parts_apart * ops.concatenate([twice, twice], axis=-1)

    real, imag = parts_apart[..., :channels], parts_apart[..., channels:]
    return ops.square(real) + ops.square(imag), gradient
