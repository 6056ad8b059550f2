"""Weights of energies: what takes the place of the pooling window.

The matrices of a group times a window give the weights of its energies; see
`SparseGroup`. A window depends on one parameter, its width. So the weights are
functions of the width. Within the margins of a plan, they are close to
polynomials of its logarithm. A polynomial is many times cheaper than the window
and its product with a matrix.

The coefficients depend on where the audio ends within a window. Where this is
not known until a graph runs, as in clips of different lengths, the weights are
computed by the matrices.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.lean_ops import clip, split_by
from leaf_audio.fast.constants import CONSTANTS
from leaf_audio.fast.plan import Geometry, SparseGroup, ownership
from leaf_audio.impulse_responses import gaussian_windows

Tensor = Any

# The polynomials differ from the weights by about a millionth, and their
# derivatives by less than a ten-thousandth.
_NUM_COEFFICIENTS = 14
# The widths within the margins of a plan lie within this share of the range of
# the polynomials. At its ends, the derivative of the arc cosine is infinite.
_USED_SHARE = 0.97
_RANGE = math.log(CONSTANTS.width_margin) / _USED_SHARE


def masked_windows(widths: Tensor, masks: Any) -> Tensor:
    """Computes windows, with zeros where they lie outside the audio.

    Args:
      widths: Pooling widths as a share of half the window, `(filters,)`.
      masks: `(window_size, columns)`; see `FrameGrid.window_masks`.

    Returns:
      An array `(filters, window_size, columns)`.
    """
    windows = ops.transpose(gaussian_windows(widths, masks.shape[0]))
    return windows[..., None] * ops.cast(masks, windows.dtype)


def weights_of_energies(
    groups: Sequence[SparseGroup],
    geometry: Geometry,
    widths: Tensor,
    masks: Any,
) -> Tensor:
    """Computes the weights of the energies of all groups.

    Args:
      groups: The groups, one after the other.
      geometry: Sizes that they were made for.
      widths: Pooling widths of their filters, `(filters,)`.
      masks: `(window_size, columns)`; see `FrameGrid.window_masks`.

    Returns:
      An array `(columns, strides of a window, channels)`. The channels of a
      group are its energies within a stride, each for all filters.
    """
    if isinstance(masks, np.ndarray):
        return _by_polynomials(groups, geometry, widths, masks)
    windows = masked_windows(widths, masks)
    sizes = [len(group.filters) for group in groups]
    weights = []
    for group, own in zip(
        groups, split_by(windows, sizes, axis=0), strict=True
    ):
        if group.weight_matrices is not None:
            own = ops.matmul(ops.cast(group.weight_matrices, own.dtype), own)
        weights.append(
            _laid_out(ops.transpose(own, (2, 1, 0)), group, geometry)
        )
    # On PyTorch, Keras returns float32 for float64 arguments of a product.
    return ops.cast(ops.concatenate(weights, axis=-1), widths.dtype)


def _laid_out(weights: Any, group: SparseGroup, geometry: Geometry) -> Any:
    """Puts the weights of a stride side by side.

    Args:
      weights: `(columns, energies of a frame, filters)`.
      group: The group.
      geometry: Sizes.

    Returns:
      An array `(columns, strides of a window, channels)`.
    """
    xp = np if isinstance(weights, np.ndarray) else ops
    per_stride = geometry.energies_per_stride(group.hop)
    # The last stride may reach beyond the window.
    beyond = geometry.strides_per_window * per_stride - weights.shape[1]
    weights = xp.pad(weights, [[0, 0], [0, beyond], [0, 0]])
    channels = per_stride * len(group.filters)
    return xp.reshape(weights, (-1, geometry.strides_per_window, channels))


def _by_polynomials(
    groups: Sequence[SparseGroup],
    geometry: Geometry,
    widths: Tensor,
    masks: np.ndarray,
) -> Tensor:
    packed = masks.tobytes()
    coefficients = np.concatenate(
        [_coefficients(group, geometry, packed) for group in groups], axis=-1
    )
    planned = np.concatenate([group.widths for group in groups])
    owned = ownership(groups, geometry)
    dtype = widths.dtype
    moved = ops.log(widths / ops.cast(planned, dtype)) / _RANGE
    # Chebyshev polynomials, T_k(x) = cos(k arccos x). Beyond the margins, the
    # weights are not used.
    angles = ops.arccos(clip(moved, -0.999, 0.999))
    degrees = ops.cast(np.arange(_NUM_COEFFICIENTS), dtype)
    values = ops.cos(degrees[:, None] * angles)
    values = ops.matmul(values, ops.cast(owned.T, dtype))
    values = ops.cast(values[:, None, None], dtype)
    return ops.sum(ops.cast(coefficients, dtype) * values, axis=0)


# For the groups of a few plans, with the windows of a few lengths of audio.
@functools.lru_cache(maxsize=128)
def _coefficients(
    group: SparseGroup, geometry: Geometry, packed_masks: bytes
) -> np.ndarray:
    """Computes the coefficients of the polynomials of a group.

    Args:
      group: The group.
      geometry: Sizes.
      packed_masks: The bytes of a Boolean array `(window_size, columns)`.

    Returns:
      An array `(coefficients, columns, strides of a window, channels)`.
    """
    size, count = geometry.window_size, _NUM_COEFFICIENTS
    masks = np.frombuffer(packed_masks, bool).reshape(size, -1)
    angles = np.pi * (np.arange(count) + 0.5) / count
    nodes = np.exp(_RANGE * np.cos(angles))
    widths = np.outer(group.widths, nodes)
    windows = gaussian_windows(widths.reshape(-1), size).T
    windows = windows.reshape(*widths.shape, size)
    transform = np.cos(np.outer(np.arange(count), angles)) * 2 / count
    transform[0] /= 2
    # The coefficients of the windows, (filters, window_size, coefficients).
    windows = (transform @ windows).swapaxes(1, 2)
    found = windows[..., None] * masks[:, None]
    if group.weight_matrices is not None:
        found = group.weight_matrices @ found.reshape(*windows.shape[:2], -1)
    found = found.reshape(len(widths), -1, count, masks.shape[1])
    return np.stack(
        [_laid_out(one, group, geometry) for one in found.transpose(2, 3, 1, 0)]
    )
