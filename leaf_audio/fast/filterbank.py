"""Computes LEAF's filterbank by a plan: filters, energies and pooling at once.

GaborConv1D, the squared modulus and GaussianLowpass define what is computed.
The plan computes the same within its tolerance, at a fraction of the cost, as
long as the learned parameters stay within the plan's bounds. Outside them, the
layers themselves compute it at the full rate.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import pooling
from leaf_audio.common.framing import place_clips
from leaf_audio.common.lean_ops import reorder, split_by
from leaf_audio.common.portable import is_portable, keeps_plans
from leaf_audio.common.tracing import is_traced_for_xla
from leaf_audio.convolution import GaborConv1D
from leaf_audio.convolution.gabor import gabor_energies
from leaf_audio.fast.decimation import SparseEnergies
from leaf_audio.fast.frame_grid import make_grid
from leaf_audio.fast.plan import Geometry, Plan, SparseGroup, SpectralGroup
from leaf_audio.fast.plan_following import PlanFollower
from leaf_audio.fast.search import make_plan
from leaf_audio.fast.spectral import SpectralEnergies
from leaf_audio.impulse_responses import gaussian_windows
from leaf_audio.pooling import GaussianLowpass

Tensor = Any


def can_be_planned(convolve: Any, pool: Any) -> bool:
    """Returns whether plans can compute a convolution and a pooling.

    Args:
      convolve: Layer, the convolution.
      pool: Layer, the pooling.

    Returns:
      True for a GaborConv1D with a stride of 1 and "same" padding, and a
      GaussianLowpass; not for subclasses of them. The convolution must have no
      bias. That of the pooling is added to the pooled energies.
    """
    return (
        type(convolve) is GaborConv1D
        and type(pool) is GaussianLowpass
        and convolve.strides == 1
        and convolve.padding == "same"
        and not convolve.use_bias
    )


class PlannedFilterbank(PlanFollower):
    """Computes pooled energies by a plan where it holds, else at the full rate.

    A plan is made for three parameters of each filter: the standard deviation
    in samples, the pooling width as a share of half the window, and the centre
    frequency in rad/sample, all as the layers use them.

    Args:
      convolve: GaborConv1D for which `can_be_planned` is True.
      pool: GaussianLowpass, likewise.
      tolerance: Greatest predicted relative error; see `make_plan`.
    """

    num_parameters = 3

    def __init__(
        self, convolve: GaborConv1D, pool: GaussianLowpass, tolerance: float
    ):
        super().__init__([convolve, pool])
        self._convolve = convolve
        self._pool = pool
        self._tolerance = tolerance
        self._geometry = Geometry(
            convolve.kernel_size, pool.kernel_size, pool.strides
        )

    def _parameters(self) -> Tensor:
        centre, sigma = ops.unstack(self._convolve.constrained_kernel(), axis=1)
        return ops.stack([sigma, self._pool.widths(), centre], axis=-1)

    def _plan_for(self, parameters: np.ndarray) -> Plan | None:
        if not np.all(np.isfinite(parameters)):
            return None
        return make_plan(parameters, self._geometry, self._tolerance)

    def __call__(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Computes the pooled energies.

        Args:
          audio: `(batch, time, 1)`, with zeros after the end of each clip;
            `time` may be unknown.
          lengths: Int32 tensor of shape `(batch,)`, the lengths of the clips;
            or None if all are as long as the batch.

        Returns:
          An array `(batch, frames, filters)`.
        """
        energies = self._pooled(audio, lengths)
        bias = self._pool.bias
        return energies if bias is None else energies + bias

    def _pooled(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        holds = self._look_at_weights()
        arguments = (
            audio,
            self._convolve.impulse_responses(),
            self._pool.widths(),
        )
        plan = self._plan
        # Bound and not an argument: integers have no gradient.
        exact = functools.partial(self._exact, lengths=lengths)
        # The constants of a plan make an exported model several times as large
        # as its weights, so it is asked for.
        if plan is None or (is_portable() and not keeps_plans()):
            return exact(*arguments)

        planned = functools.partial(
            planned_energies,
            plan=plan,
            geometry=self._geometry,
            padding=self._pool.padding,
            lengths=lengths,
        )
        # The weights of an exported model do not change.
        if holds or keeps_plans():
            return planned(*arguments)
        # A compiled graph keeps what the gradients of both branches need. The
        # energies at the full rate need by far the most memory, so they are
        # not kept, but computed again for the gradient.
        exact = keras.remat(exact)
        if None in audio.shape and is_traced_for_xla(audio):
            # XLA cannot keep arrays of unknown shape for the gradient.
            planned = keras.remat(planned)
        return ops.cond(
            self.has_left_plan(),
            lambda: exact(*arguments),
            lambda: planned(*arguments),
        )

    def has_left_plan(self) -> Tensor:
        """Returns whether a parameter lies outside the plan: a boolean scalar.

        A compiled function computes it for the plan of the moment at which it
        is traced.
        """
        parameters = self._parameters()
        lowest, highest = (
            ops.cast(one, parameters.dtype) for one in self._plan.bounds()
        )
        inside = ops.logical_and(parameters >= lowest, parameters <= highest)
        return ops.logical_not(ops.all(inside))

    def _exact(
        self,
        audio: Tensor,
        filters: tuple[Tensor, Tensor],
        widths: Tensor,
        lengths: Tensor | None,
    ) -> Tensor:
        audio, inside = place_clips(
            audio,
            lengths,
            size=self._pool.kernel_size,
            strides=self._pool.strides,
            padding=self._pool.padding,
        )
        energies = gabor_energies(audio, *filters)
        if inside is not None:
            energies = ops.where(inside, energies, 0.0)
        windows = gaussian_windows(widths, self._pool.kernel_size)
        return pooling.pool(
            energies, windows, self._pool.strides, self._pool.padding
        )


def planned_energies(
    audio: Tensor,
    filters: tuple[Tensor, Tensor],
    widths: Tensor,
    plan: Plan,
    geometry: Geometry,
    padding: str,
    lengths: Tensor | None = None,
) -> Tensor:
    """Computes the pooled energies of complex filters by a plan.

    Args:
      audio: `(batch, time, 1)`; `time` may be unknown.
      filters: Real and imaginary parts, each `(kernel_size, n_filters)`.
      widths: Pooling widths as a share of half the window, `(n_filters,)`.
      plan: Plan for these filters and widths. Whether it holds for them is not
        checked.
      geometry: Sizes that the plan was made for.
      padding: Padding of the pooling, one of `framing.PADDINGS`.
      lengths: Lengths of the clips, `(batch,)`, or None; see
        `PlannedFilterbank`.

    Returns:
      An array `(batch, frames, n_filters)`.
    """
    audio = audio[..., 0]
    grid = make_grid(audio, geometry, padding, lengths)
    parts: list[SparseEnergies | SpectralEnergies] = []
    sparse = [one for one in plan.groups if isinstance(one, SparseGroup)]
    if sparse:
        parts.append(SparseEnergies(sparse, geometry, grid))
    spectral = [one for one in plan.groups if isinstance(one, SpectralGroup)]
    if spectral:
        parts.append(SpectralEnergies(spectral, geometry, grid))
    # A convolution with "same" padding centres this tap.
    middle = (geometry.kernel_size - 1) // 2
    reach = max(part.reach for part in parts)
    padded = grid.pad(audio, middle, reach - middle)

    # The filters of a group are put side by side.
    order = np.concatenate([part.filters for part in parts])
    widths = reorder(widths, order, axis=0)
    masks = grid.window_masks()

    sizes = [len(part.filters) for part in parts]
    frames, edges = [], []
    for part, some in zip(parts, split_by(widths, sizes, axis=0), strict=True):
        inner, near_edges = part(padded, filters, some, masks)
        frames.append(inner)
        edges.append(near_edges)

    outputs = ops.concatenate(frames, axis=-1)
    if grid.num_first:
        outputs = grid.join(outputs, ops.concatenate(edges, axis=-1))
    # A slice that takes all would still cost time in its gradient.
    known = isinstance(grid.num_frames, int)
    if not (known and grid.num_frames == grid.computed_frames):
        outputs = outputs[:, : grid.num_frames]
    return reorder(outputs, np.argsort(order), axis=-1)
