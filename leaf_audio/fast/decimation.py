"""Pooled energies of complex filters, from samples some time apart.

What `planning` has planned for sparse groups is computed here. Convolutions at
a hop of D are done in polyphase layout: blocks of D samples become the channels
of a convolution at rate 1, which convolution libraries do many times faster
than one with a stride and a single channel. The weighted sum over samples is
laid out in the same way.

Frames whose window reaches over an end of the audio get weights of their own,
made from the part of the window that lies inside, where alone energies count.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.conv1d import valid_conv1d
from leaf_audio.common.lean_ops import complex_energies, split_by, with_ends
from leaf_audio.fast.frame_grid import FrameGrid
from leaf_audio.fast.planning import POOLED_TOGETHER, Geometry, SparseGroup

Tensor = Any

# Most taps of a convolution: more taps of fewer channels are slower; measured.
_MOST_TAPS = 13


class SparseEnergies:
    """Computes the pooled energies of the filters of sparse groups.

    Args:
      groups: of a plan.
      geometry: sizes, the plan's.
      grid: the frames.

    Attributes:
      filters: which ones, by position, in the order of the answers.
      start: the first sample of audio that is needed, in the grid's time.
      reach: samples needed after the start of the last frame's window.
    """

    def __init__(
        self, groups: Sequence[SparseGroup], geometry: Geometry, grid: FrameGrid
    ):
        self._grid = grid
        self._spans = [_Span(group, geometry, grid) for group in groups]
        self.filters = [n for group in groups for n in group.filters]
        self.start = min(span.start for span in self._spans)
        self.reach = max(
            span.start + span.reach - self.start for span in self._spans
        )

    def __call__(
        self, audio: Tensor, kernels: Tensor, windows: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Computes all frames, and those near an edge apart.

        Args:
          audio: `(batch, time)`, from `start` on.
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.
          windows: `(filters, window, 1 + edges)`; see `FrameGrid.windowing`.

        Returns:
          Two arrays, `(batch, frames, filters)` as if the audio had no edges,
          and `(batch, edges, filters)`, None where there are none.
        """
        sizes = [len(span.group.filters) for span in self._spans]
        pooled, samples, weights = [], [], []
        for span, kernel, window in zip(
            self._spans,
            split_by(kernels, sizes, axis=2),
            split_by(windows, sizes, axis=0),
            strict=True,
        ):
            energies = span.energies(audio, span.start - self.start, kernel)
            inner_weights, edge_weights = span.weights(window)
            if self._grid.num_edges:
                energies, near_edges = span.edge_samples(energies)
                samples.append(near_edges)
                weights.append(edge_weights)
            pooled.append(span.pool(energies, inner_weights))
        frames = ops.concatenate(pooled, axis=-1)
        if not self._grid.num_edges:
            return frames, None
        # One product for all groups, however many samples each has.
        owner = np.concatenate(
            [
                np.tile(span.group.filters, span.num_samples)
                for span in self._spans
            ]
        )
        sums = np.equal(owner[:, None], self.filters)
        weighted = ops.concatenate(samples, axis=-1) * ops.concatenate(
            weights, axis=-1
        )
        edges = _matmul(weighted, ops.cast(sums, frames.dtype))
        return frames, edges


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    # Keras' on PyTorch answers float32 to float64.
    return ops.cast(ops.matmul(a, b), b.dtype)


class _Span:
    """A group's share of the computation.

    Attributes:
      group: which one.
      start: the first sample of audio that is needed, in the grid's time.
      reach: samples needed after the start of the last frame's window.
      num_samples: of energy in a frame.
    """

    def __init__(self, group: SparseGroup, geometry: Geometry, grid: FrameGrid):
        self.group = group
        self._grid = grid
        # Samples of energy in a block of frames, and blocks that a frame needs.
        self._per_block = group.phases * geometry.stride // group.hop
        last_start = group.starts[-1]
        self.num_samples = group.num_samples
        self._overlap = -(-(last_start + self.num_samples) // self._per_block)
        frames = grid.computed_frames
        self._blocks = (frames + group.phases - 1) // group.phases
        # A step of the convolution gives several samples where the hop is
        # short for the filter: convolution libraries want channels, not taps.
        self._together = -(-len(group.fade) // (_MOST_TAPS * group.hop))
        self._step = self._together * group.hop
        self._taps = -(
            -(len(group.fade) + self._step - group.hop) // self._step
        )
        # A "same" convolution puts tap (kernel_size - 1) // 2 on the sample.
        self.start = group.first - (geometry.kernel_size - 1) // 2
        block = self._per_block * group.hop
        self.reach = self._overlap * block + (self._taps + 1) * self._step

    def energies(self, audio: Tensor, first: int, kernels: Tensor) -> Tensor:
        """Computes the samples of energy.

        Args:
          audio: `(batch, time)`.
          first: where `start` is in it.
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.

        Returns:
          An array `(batch, samples, filters)`.
        """
        group, together = self.group, self._together
        samples = (self._blocks + self._overlap - 1) * self._per_block
        steps = (samples + together - 1) // together
        rows = steps + self._taps - 1
        batch = ops.shape(audio)[0]
        polyphase = ops.reshape(
            audio[:, first : first + rows * self._step],
            (batch, rows, self._step),
        )
        size, filters = len(group.fade), kernels.shape[2]
        kernel = kernels[group.first : group.first + size]
        if np.any(group.fade != 1):
            kernel = kernel * ops.cast(group.fade[:, None, None], kernel.dtype)
        room = self._taps * self._step - size
        shifted = ops.stack(
            [
                ops.pad(kernel, [[shift, room - shift], [0, 0], [0, 0]])
                for shift in range(0, self._step, group.hop)
            ],
            axis=2,
        )
        channels = 2 * together * filters
        outputs = valid_conv1d(
            polyphase,
            ops.reshape(shifted, (self._taps, self._step, channels)),
        )
        # TensorFlow gives outputs of an empty batch another shape.
        outputs = ops.reshape(outputs, (batch, steps, channels))
        energies = ops.reshape(
            complex_energies(outputs), (batch, steps * together, filters)
        )
        # Where all steps count, there is no need of a slice and its gradient.
        all_count = self._per_block % together == 0
        return energies if all_count else energies[:, :samples]

    def weights(self, windows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Computes the weights of the samples.

        Args:
          windows: `(filters, window, 1 + edges)`.

        Returns:
          Two arrays, `(phases, samples, filters)` for frames inside, and
          `(edges, samples * filters)`, None where there are no edges.
        """
        group = self.group
        count, phases, samples = (
            windows.shape[0],
            group.phases,
            self.num_samples,
        )
        weights = windows
        if group.weights is not None:
            prediction = group.weights.reshape(count, phases * samples, -1)
            weights = _matmul(ops.cast(prediction, windows.dtype), windows)
        weights = ops.reshape(
            ops.transpose(weights, (2, 1, 0)), (-1, phases, samples, count)
        )
        if not self._grid.num_edges:
            return weights[0], None
        inside, edges = ops.split(weights, [1], axis=0)
        if phases > 1:
            # Of each frame, the weights of its phase.
            phase = [frame % phases for frame in self._grid.edge_frames()]
            own = ops.equal(ops.stack(phase)[:, None], np.arange(phases))
            edges = edges * ops.cast(own[..., None, None], edges.dtype)
        edges = ops.reshape(ops.sum(edges, axis=1), (-1, samples * count))
        return inside[0], edges

    def pool(self, energies: Tensor, weights: Tensor) -> Tensor:
        """Pools the frames, as if the audio had no edges.

        Args:
          energies: `(batch, samples, filters)`.
          weights: `(phases, samples, filters)`.

        Returns:
          An array `(batch, frames, filters)`.
        """
        phases, samples, count = weights.shape
        rows = self._overlap * self._per_block
        laid_out = ops.stack(
            [
                ops.pad(own, [[start, rows - samples - start], [0, 0]])
                for own, start in zip(
                    ops.unstack(weights), self.group.starts, strict=True
                )
            ],
            axis=1,
        )
        blocks = self._blocks + self._overlap - 1
        energies = ops.reshape(
            energies, (ops.shape(energies)[0], blocks, self._per_block, count)
        )
        # A convolution of all with all costs the square of their number.
        sizes = [
            min(POOLED_TOGETHER, count - first)
            for first in range(0, count, POOLED_TOGETHER)
        ]
        pooled = [
            self._pool_some(*some)
            for some in zip(
                split_by(energies, sizes, axis=-1),
                split_by(laid_out, sizes, axis=-1),
                strict=True,
            )
        ]
        pooled = ops.reshape(
            ops.concatenate(pooled, axis=-1),
            (ops.shape(energies)[0], self._blocks * phases, count),
        )
        return pooled[:, : self._grid.computed_frames]

    def _pool_some(self, energies: Tensor, weights: Tensor) -> Tensor:
        """Pools some channels.

        Args:
          energies: `(batch, blocks, samples, channels)`.
          weights: `(overlap * samples, phases, channels)`.

        Returns:
          An array `(batch, blocks', phases, channels)`.
        """
        batch, blocks = ops.shape(energies)[:2]
        _, phases, channels = weights.shape
        size = self._per_block * channels
        # Each channel by itself.
        each = ops.eye(channels, dtype=weights.dtype)[:, None]
        pooled = valid_conv1d(
            ops.reshape(energies, (batch, blocks, size)),
            ops.reshape(
                weights[:, None] * each,
                (self._overlap, size, phases * channels),
            ),
        )
        return ops.reshape(pooled, (batch, self._blocks, phases, channels))

    def edge_samples(self, energies: Tensor) -> tuple[Tensor, Tensor]:
        """Lays out the samples of frames near an edge.

        Args:
          energies: `(batch, samples, filters)`.

        Returns:
          The energies, to go on with, and an array
          `(batch, edges, samples * filters)`.
        """
        size, filters = self.num_samples, energies.shape[-1]
        frames = self._grid.edge_frames()
        starts = [self._first_sample(frame) for frame in frames]
        begin = starts[: self._grid.num_edges]
        end = starts[self._grid.num_edges :]
        energies, head, tail = with_ends(energies, begin[-1] + size, end[0])
        samples = [
            *(head[:, k : k + size] for k in begin),
            *(tail[:, k - end[0] : k - end[0] + size] for k in end),
        ]
        laid_out = ops.reshape(
            ops.stack(samples, axis=1),
            (ops.shape(energies)[0], len(samples), size * filters),
        )
        return energies, laid_out

    def _first_sample(self, frame: Any) -> Any:
        """Returns the first sample of a frame, an integer or a tensor."""
        starts = np.array(self.group.starts, "int32")
        block, phase = frame // len(starts), frame % len(starts)
        if len(starts) == 1:
            start = 0
        elif isinstance(phase, int):
            start = int(starts[phase])
        else:
            start = ops.take(starts, phase)
        return start + block * self._per_block
