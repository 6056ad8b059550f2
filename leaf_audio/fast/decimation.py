"""Computes the filters of sparse groups: energies at every hop-th sample.

A convolution with a stride of D, the hop, is computed in polyphase layout:
blocks of D samples become the channels of a convolution with stride 1. It adds
up the same products, and convolution libraries are many times faster at it than
at a strided convolution of one channel. The weighted sums of energies, which
pool them, have the same layout.

Energies count as 0 outside the audio. Frames whose window reaches over an end
of the audio therefore have weights of their own, made from the part of the
window that lies inside.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.blocks import cut_into_blocks, reshape_each
from leaf_audio.common.conv1d import valid_conv1d
from leaf_audio.common.lean_ops import complex_energies, split_by
from leaf_audio.fast.constants import CONSTANTS
from leaf_audio.fast.frame_grid import FrameGrid
from leaf_audio.fast.plan import Geometry, SparseGroup

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
      start: First sample of audio that is needed, in the grid's time.
      reach: Number of samples needed from the start of the last frame's window
        on, counted from `start`.
    """

    def __init__(
        self, groups: Sequence[SparseGroup], geometry: Geometry, grid: FrameGrid
    ):
        self._grid = grid
        self._members = [_Member(group, geometry, grid) for group in groups]
        self.filters = [n for group in groups for n in group.filters]
        self.start = min(member.start for member in self._members)
        self.reach = max(
            member.start + member.reach - self.start for member in self._members
        )

    def __call__(
        self, audio: Tensor, kernels: Tensor, windows: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Computes all frames, and the frames near an edge separately.

        Args:
          audio: `(batch, time)`, from `start` on.
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.
          windows: `(filters, window_size, 1 + edges)`; see
            `FrameGrid.window_masks`.

        Returns:
          Two arrays: `(batch, frames, filters)`, computed as if the audio had
          no edges, and `(batch, edges, filters)`, the frames near an edge; None
          if the grid has no such frames.
        """
        sizes = [len(member.group.filters) for member in self._members]
        pooled, edge_energies, edge_weights = [], [], []
        for member, kernel, window in zip(
            self._members,
            split_by(kernels, sizes, axis=2),
            split_by(windows, sizes, axis=0),
            strict=True,
        ):
            first = member.start - self.start
            energies = member.energies(audio, first, kernel)
            weights, near_edges = member.weights(window)
            if self._grid.num_first:
                energies, some = member.edge_energies(energies)
                edge_energies.append(some)
                edge_weights.append(near_edges)
            pooled.append(member.pool(energies, weights))
        frames = ops.concatenate(pooled, axis=-1)
        if not self._grid.num_first:
            return frames, None
        return frames, self._pool_edges(edge_energies, edge_weights)

    def _pool_edges(
        self, energies: list[Tensor], weights: list[Tensor]
    ) -> Tensor:
        """Pools the frames near an edge, of all groups.

        Args:
          energies: For each group `(batch, edges, energies * filters)`.
          weights: For each group `(batch or 1, edges, energies * filters)`.

        Returns:
          An array `(batch, edges, filters)`.
        """
        weighted = ops.concatenate(energies, axis=-1) * ops.concatenate(
            weights, axis=-1
        )
        # Groups differ in their number of energies, so the sums of all groups
        # are one product with a matrix of zeros and ones.
        owner = np.concatenate(
            [
                np.tile(member.group.filters, member.num_energies)
                for member in self._members
            ]
        )
        sums = np.equal(owner[:, None], self.filters)
        return _matmul(weighted, ops.cast(sums, weighted.dtype))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    # On PyTorch, Keras returns float32 for float64 arguments.
    return ops.cast(ops.matmul(a, b), b.dtype)


class _Member:
    """Computes the filters of one group.

    Attributes:
      group: The group.
      start: First sample of audio that is needed, in the grid's time.
      reach: Number of samples needed from the start of the last frame's window
        on, counted from `start`.
      num_energies: Number of energies that a frame uses.
    """

    def __init__(self, group: SparseGroup, geometry: Geometry, grid: FrameGrid):
        self.group = group
        self._grid = grid
        frames_per_block = group.frames_per_block
        self._per_block = frames_per_block * geometry.stride // group.hop
        self.num_energies = group.energies_per_frame
        # Number of blocks that the energies of one block's frames lie in.
        last = group.first_energies[-1] + self.num_energies
        self._overlap = -(-last // self._per_block)
        frames = grid.computed_frames
        self._blocks = (frames + frames_per_block - 1) // frames_per_block
        # Where the hop is short for the kernel, one step of the convolution
        # computes several energies: it then has more channels and fewer taps.
        taps = len(group.taper)
        self._together = -(-taps // (CONSTANTS.max_conv_taps * group.hop))
        self._step = self._together * group.hop
        self._conv_taps = -(-(taps + self._step - group.hop) // self._step)
        # A convolution with "same" padding centres tap (kernel_size - 1) // 2.
        self.start = group.first_tap - (geometry.kernel_size - 1) // 2
        block = self._per_block * group.hop
        self.reach = self._overlap * block + (self._conv_taps + 1) * self._step

    def energies(self, audio: Tensor, first: int, kernels: Tensor) -> Tensor:
        """Computes the energies at every hop-th sample.

        Args:
          audio: `(batch, time)`.
          first: Position of `start` in the audio.
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.

        Returns:
          An array `(batch, energies, filters)`.
        """
        together = self._together
        count = (self._blocks + self._overlap - 1) * self._per_block
        steps = (count + together - 1) // together
        rows = steps + self._conv_taps - 1
        polyphase = cut_into_blocks(audio, self._step, rows, start=first)
        kernel = self._polyphase_kernel(kernels)
        outputs = valid_conv1d(polyphase, kernel)
        # For an empty batch, TensorFlow's outputs have another shape.
        outputs = reshape_each(outputs, (steps, kernel.shape[2]))
        energies = reshape_each(
            complex_energies(outputs), (steps * together, kernels.shape[2])
        )
        # A slice that takes all would still cost time in its gradient.
        all_needed = self._per_block % together == 0
        return energies if all_needed else energies[:, :count]

    def _polyphase_kernel(self, kernels: Tensor) -> Tensor:
        """Lays out kernels for a convolution over blocks of samples.

        Args:
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.

        Returns:
          An array `(conv_taps, step, channels)`. Each channel is a part of a
          filter at one of the energies of a step: first all real parts, then
          all imaginary ones.
        """
        group = self.group
        size, filters = len(group.taper), kernels.shape[2]
        kernel = kernels[group.first_tap : group.first_tap + size]
        if np.any(group.taper != 1):
            kernel = kernel * ops.cast(group.taper[:, None, None], kernel.dtype)
        room = self._conv_taps * self._step - size
        shifted = ops.stack(
            [
                ops.pad(kernel, [[shift, room - shift], [0, 0], [0, 0]])
                for shift in range(0, self._step, group.hop)
            ],
            axis=2,
        )
        return ops.reshape(
            shifted, (self._conv_taps, self._step, 2 * self._together * filters)
        )

    def weights(self, windows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Computes the weights of the energies.

        Args:
          windows: `(filters, window_size, 1 + edges)`.

        Returns:
          Two arrays: `(frames_per_block, energies, filters)` for frames inside
          the audio, and `(batch or 1, edges, energies * filters)` for those
          near an edge; None if there are no such frames.
        """
        group = self.group
        filters, energies = windows.shape[0], self.num_energies
        per_block = group.frames_per_block
        weights = windows
        if group.weight_matrices is not None:
            matrices = group.weight_matrices.reshape(
                filters, per_block * energies, -1
            )
            weights = _matmul(ops.cast(matrices, windows.dtype), windows)
        weights = ops.reshape(
            ops.transpose(weights, (2, 1, 0)),
            (-1, per_block, energies, filters),
        )
        if not self._grid.num_first:
            return weights[0], None
        inside, edges = weights[0], weights[1:]
        if per_block > 1:
            # There are weights for each place of a frame in a block. A frame
            # near an edge has one place only; its number may be a tensor.
            place = self._grid.each_column(
                [frame % per_block for frame in self._grid.edge_frames()]
            )
            own = ops.equal(place[:, None], np.arange(per_block))
            edges = edges * ops.cast(own[..., None, None], edges.dtype)
            edges = ops.sum(edges, axis=1)
        edges = ops.reshape(edges, (-1, energies * filters))
        return inside, self._grid.by_example(edges)

    def pool(self, energies: Tensor, weights: Tensor) -> Tensor:
        """Pools all frames as if the audio had no edges.

        Args:
          energies: `(batch, energies, filters)`.
          weights: `(frames_per_block, energies of a frame, filters)`.

        Returns:
          An array `(batch, frames, filters)`.
        """
        per_block, size, count = weights.shape
        rows = self._overlap * self._per_block
        laid_out = ops.stack(
            [
                ops.pad(own, [[start, rows - size - start], [0, 0]])
                for own, start in zip(
                    ops.unstack(weights), self.group.first_energies, strict=True
                )
            ],
            axis=1,
        )
        blocks = self._blocks + self._overlap - 1
        energies = reshape_each(energies, (blocks, self._per_block, count))
        # The convolution has an input and an output for each channel, so its
        # cost grows with the square of their number.
        together = CONSTANTS.channels_pooled_together
        sizes = [
            min(together, count - first) for first in range(0, count, together)
        ]
        pooled = [
            self._pool_some(*some)
            for some in zip(
                split_by(energies, sizes, axis=-1),
                split_by(laid_out, sizes, axis=-1),
                strict=True,
            )
        ]
        pooled = reshape_each(
            ops.concatenate(pooled, axis=-1), (self._blocks * per_block, count)
        )
        if per_block == 1:
            return pooled
        return pooled[:, : self._grid.computed_frames]

    def _pool_some(self, energies: Tensor, weights: Tensor) -> Tensor:
        """Pools some channels, each with its own weights.

        Args:
          energies: `(batch, blocks, energies of a block, channels)`.
          weights: `(overlap * energies of a block, frames_per_block,
            channels)`.

        Returns:
          An array `(batch, blocks', frames_per_block, channels)`.
        """
        blocks = self._blocks + self._overlap - 1
        _, per_block, channels = weights.shape
        size = self._per_block * channels
        # Off the diagonal, weights are 0: no channel adds to another one.
        diagonal = ops.cast(np.eye(channels)[:, None], weights.dtype)
        pooled = valid_conv1d(
            reshape_each(energies, (blocks, size)),
            ops.reshape(
                ops.expand_dims(weights, 1) * diagonal,
                (self._overlap, size, per_block * channels),
            ),
        )
        return reshape_each(pooled, (self._blocks, per_block, channels))

    def edge_energies(self, energies: Tensor) -> tuple[Tensor, Tensor]:
        """Lays out the energies of the frames near an edge.

        Args:
          energies: `(batch, energies, filters)`.

        Returns:
          The energies themselves, which must be used from here on so that
          gradients are cheap (see `with_ends`), and an array `(batch, edges,
          energies of a frame * filters)`.
        """
        size, filters = self.num_energies, energies.shape[-1]
        frames = self._grid.edge_frames()
        energies, used = self._grid.cut_edges(
            energies, [self._first_energy(frame) for frame in frames], size
        )
        return energies, reshape_each(used, (len(frames), size * filters))

    def _first_energy(self, frame: Any) -> Any:
        """Returns the index of a frame's first energy, integer or tensor.

        A tensor of frames gives a tensor of its shape.
        """
        starts = np.array(self.group.first_energies, "int32")
        block, place = frame // len(starts), frame % len(starts)
        if len(starts) == 1:
            start = 0
        elif isinstance(place, int):
            start = int(starts[place])
        else:
            start = ops.take(starts, place)
        return start + block * self._per_block
