"""Computes the filters of sparse groups: energies at every hop-th sample.

A convolution with a stride of D, the hop, is computed in polyphase layout:
blocks of D samples become the channels of a convolution with stride 1. It adds
up the same products, and convolution libraries are many times faster at it than
at a strided convolution of one channel.

The energies of all groups within one stride are then the channels of one
signal, with one step for each frame. One more convolution pools them all.

Energies count as 0 outside the audio. Frames whose window reaches over an end
of the audio therefore have weights of their own, made from the part of the
window that lies inside.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.blocks import (
    cut_into_blocks,
    frames_of_blocks,
    reshape_each,
)
from leaf_audio.common.conv1d import valid_conv1d
from leaf_audio.common.lean_ops import complex_energies, split_by
from leaf_audio.fast.constants import CONSTANTS
from leaf_audio.fast.frame_grid import FrameGrid
from leaf_audio.fast.plan import Geometry, SparseGroup, ownership
from leaf_audio.fast.window_weights import weights_of_energies

Tensor = Any


class SparseEnergies:
    """Computes the pooled energies of the filters of sparse groups.

    Args:
      groups: Sparse groups of a plan.
      geometry: Sizes that the plan was made for.
      grid: Positions of the frames.

    Attributes:
      filters: Positions of the filters in the filterbank, in the order of the
        outputs.
      reach: Number of samples needed from the first one for the last frame on.
    """

    def __init__(
        self, groups: Sequence[SparseGroup], geometry: Geometry, grid: FrameGrid
    ):
        self._groups = groups
        self._geometry = geometry
        self._grid = grid
        self._overlap = geometry.strides_per_window
        blocks = grid.computed_frames + self._overlap - 1
        self._members = [_Member(group, geometry, blocks) for group in groups]
        self.filters = [n for group in groups for n in group.filters]
        self.reach = self._overlap * geometry.stride + max(
            member.reach for member in self._members
        )
        self._owned = ownership(groups, geometry)

    def __call__(
        self,
        audio: Tensor,
        filters: tuple[Tensor, Tensor],
        widths: Tensor,
        masks: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Computes all frames, and the frames near an edge separately.

        Args:
          audio: `(batch, time)`, from the first sample that the first frame
            depends on.
          filters: Real and imaginary parts of the whole filterbank, each
            `(kernel_size, all filters)`.
          widths: Pooling widths of the filters, `(filters,)`.
          masks: Which samples of the windows lie in the audio; see
            `FrameGrid.window_masks`.

        Returns:
          Two arrays: `(batch, frames, filters)`, computed as if the audio had
          no edges, and `(batch, edges, filters)`, the frames near an edge; None
          if the grid has no such frames.
        """
        kernels = self._polyphase_kernels(filters)
        weights = weights_of_energies(
            self._groups, self._geometry, widths, masks
        )
        # On PyTorch, constants are copied to the device now. After the
        # energies, the copies would wait for them.
        pooling = self._pooling_kernels(weights[0])
        # Groups differ in their number of energies, so the sums of all groups
        # are one product with a matrix of zeros and ones.
        sums = ops.cast(np.tile(self._owned, (self._overlap, 1)), weights.dtype)
        energies = [
            member.energies(audio, kernel)
            for member, kernel in zip(self._members, kernels, strict=True)
        ]
        energies = [
            ops.concatenate(energies[slice(*run)], axis=-1)
            for run in self._pooled_together()
        ]
        edges = None
        if self._grid.num_first:
            energies, near = self._grid.cut_edges(energies, self._overlap)
            edges = self._pool_edges(near, weights[1:], sums)
        frames = map(valid_conv1d, energies, pooling)
        # For an empty batch, TensorFlow's outputs have another shape.
        shape = (self._grid.computed_frames, len(self.filters))
        return reshape_each(
            ops.concatenate(list(frames), axis=-1), shape
        ), edges

    def _pooling_kernels(self, weights: Tensor) -> list[Tensor]:
        """Computes kernels that pool all frames as if the audio had no edges.

        Args:
          weights: `(overlap, channels)`, those of all groups.

        Returns:
          For each run of groups an array `(overlap, channels, filters)`.
        """
        # No channel adds to a filter that it does not belong to.
        owned = [
            ownership(self._groups[slice(*run)], self._geometry)
            for run in self._pooled_together()
        ]
        parts = split_by(weights, [len(one) for one in owned], axis=-1)
        return [
            part[..., None] * ops.cast(one, weights.dtype)
            for part, one in zip(parts, owned, strict=True)
        ]

    def _pooled_together(self) -> list[tuple[int, int]]:
        """Lists runs of groups whose energies one convolution pools."""
        runs = []
        first, count = 0, 0
        for place, member in enumerate(self._members):
            count += len(member.group.filters)
            if place > first and count > CONSTANTS.channels_pooled_together:
                runs.append((first, place))
                first, count = place, len(member.group.filters)
        return [*runs, (first, len(self._members))]

    def _polyphase_kernels(
        self, filters: tuple[Tensor, Tensor]
    ) -> list[Tensor]:
        """Lays out the kernels of all groups, by one lookup of all taps."""
        parts = ops.stack(filters)
        _, taps, count = parts.shape
        laid_out = [member.layout(taps, count) for member in self._members]
        positions, factors = (
            np.concatenate([one.reshape(-1) for one in some])
            for some in zip(*laid_out, strict=True)
        )
        kernels = ops.take(ops.reshape(parts, (-1,)), positions)
        kernels = kernels * ops.cast(factors, kernels.dtype)
        sizes = [one.size for one, _ in laid_out]
        return [
            ops.reshape(kernel, one.shape)
            for kernel, (one, _) in zip(
                split_by(kernels, sizes, axis=0), laid_out, strict=True
            )
        ]

    def _pool_edges(
        self, energies: Tensor, weights: Tensor, sums: Tensor
    ) -> Tensor:
        """Pools the frames near an edge, of all groups.

        Args:
          energies: `(batch, edges, overlap, channels)`.
          weights: `(columns, overlap, channels)`, without column 0.
          sums: `(overlap * channels, filters)`, 1 where a channel belongs to a
            filter, or else 0.

        Returns:
          An array `(batch, edges, filters)`.
        """
        size = sums.shape[0]
        weighted = reshape_each(energies, (self._grid.num_edges, size))
        weighted *= self._grid.by_example(ops.reshape(weights, (-1, size)))
        return ops.cast(ops.matmul(weighted, sums), weighted.dtype)


class _Member:
    """Computes the energies of one group.

    Args:
      group: The group.
      geometry: Sizes that the plan was made for.
      blocks: Number of strides to compute energies for; may be a tensor.

    Attributes:
      group: The group.
      reach: Number of samples needed after the strides themselves.
    """

    def __init__(self, group: SparseGroup, geometry: Geometry, blocks: Any):
        self.group = group
        self._stride = geometry.stride
        self._blocks = blocks
        self._per_stride = geometry.energies_per_stride(group.hop)
        # Where the hop is short for the kernel, or filters are few, one step of
        # the convolution computes several energies: it then has more channels
        # and fewer taps.
        taps = len(group.taper)
        channels = 2 * len(group.filters)
        together = max(
            -(-taps // (CONSTANTS.max_conv_taps * group.hop)),
            -(-CONSTANTS.min_conv_channels // channels),
        )
        self._together = min(together, self._per_stride)
        self._step = self._together * group.hop
        self._conv_taps = -(-(taps + self._step - group.hop) // self._step)
        # The first sample of audio that the first energy depends on.
        self._first = group.first_tap + geometry.first_energy(group.hop)
        self.reach = self._first + (self._conv_taps + 1) * self._step

    def layout(self, taps: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Says where the taps of the convolution come from.

        Args:
          taps: Number of taps of the filterbank's kernels.
          count: Number of filters of the filterbank.

        Returns:
          Two arrays `(conv_taps, step, 2 * energies of a step * filters)`:
          positions in an array `(2, taps, count)` of real and imaginary parts,
          and factors. The channels are all real parts, then all imaginary ones.
        """
        group = self.group
        tap = np.arange(self._conv_taps * self._step)[:, None, None, None]
        tap = tap - group.hop * np.arange(self._together)[:, None]
        used = (tap >= 0) & (tap < len(group.taper))
        tap = np.where(used, tap, 0)
        factors = np.where(used, group.taper[tap], 0.0)
        part = np.arange(2)[:, None, None]
        positions = part * taps + group.first_tap + tap
        positions = positions * count + np.array(group.filters)
        shape = (self._conv_taps, self._step, -1)
        factors = np.broadcast_to(factors, positions.shape)
        return positions.astype("int32").reshape(shape), factors.reshape(shape)

    def energies(self, audio: Tensor, kernel: Tensor) -> Tensor:
        """Computes the energies at every hop-th sample.

        Args:
          audio: `(batch, time)`; see `SparseEnergies.__call__`.
          kernel: `(conv_taps, step, channels)`; see `layout`.

        Returns:
          An array `(batch, blocks, energies of a stride * filters)`.
        """
        per_stride, together = self._per_stride, self._together
        divides = per_stride * self.group.hop == self._stride
        count = self._blocks * per_stride if divides else per_stride
        steps = (count + together - 1) // together
        rows = steps + self._conv_taps - 1
        first = self._first
        if divides:
            polyphase = cut_into_blocks(audio, self._step, rows, start=first)
        else:
            polyphase = self._each_stride(audio, first, rows)
        outputs = valid_conv1d(polyphase, kernel)
        # For an empty batch, TensorFlow's outputs have another shape.
        outputs = reshape_each(outputs, (steps, kernel.shape[2]))
        filters = len(self.group.filters)
        energies = reshape_each(
            complex_energies(outputs), (steps * together, filters)
        )
        # A slice that takes all would still cost time in its gradient.
        if per_stride % together:
            energies = energies[:, :count]
        return ops.reshape(energies, (-1, self._blocks, per_stride * filters))

    def _each_stride(self, audio: Tensor, first: int, rows: int) -> Tensor:
        """Cuts audio so that energies begin anew with each stride.

        Args:
          audio: `(batch, time)`.
          first: Its first sample that is needed.
          rows: Number of steps needed for the energies of a stride.

        Returns:
          An array `(batch * blocks, rows, step)`.
        """
        length = rows * self._step
        more = -(-length // self._stride) - 1
        strides = cut_into_blocks(
            audio, self._stride, self._blocks + more, start=first
        )
        pieces = frames_of_blocks(strides, self._blocks, 0, length)
        return ops.reshape(
            ops.concatenate(pieces, axis=2), (-1, rows, self._step)
        )
