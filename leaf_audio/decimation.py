"""Pooled energies of complex filters, from as few samples as a plan asks for.

What `planning` has planned is computed here, on `keras.ops`. Convolutions at a
hop of D are done in polyphase layout: blocks of D samples become the channels
of a convolution at rate 1, which convolution libraries do many times faster
than one with a stride and a single channel. The weighted sum over samples is
laid out in the same way.

Frames whose window reaches over an end of the audio get weights of their own,
made from the part of the window that lies inside, where alone energies count.
"""

from typing import Any

import numpy as np
from keras import ops

from leaf_audio.planning import POOLED_TOGETHER, Geometry, Group, Plan
from leaf_audio.pooling import at_least, frame_layout

Tensor = Any

# Most taps of a convolution, beyond which its gradient gets slow; measured.
_MOST_TAPS = 13


def pooled_energies(
    audio: Tensor,
    filters: tuple[Tensor, Tensor],
    windows: Tensor,
    plan: Plan,
    geometry: Geometry,
    padding: str,
) -> Tensor:
    """Computes the pooled energies of complex filters.

    Args:
      audio: `(batch, time)`; `time` may be unknown.
      filters: real and imaginary parts, each `(kernel_size, n_filters)`.
      windows: `(window_size, n_filters)`.
      plan: made for these filters.
      geometry: sizes, the plan's.
      padding: of the pooling, `"same"` or `"valid"`.

    Returns:
      An array `(batch, frames, n_filters)`.
    """
    grid = _FrameGrid(audio, geometry, padding)
    spans = [_Span(group, geometry, grid) for group in plan.groups]
    ahead = max(0, *(-span.start for span in spans))
    beyond = max(span.start + span.reach for span in spans)
    padded = grid.pad(audio, ahead, beyond)

    # Filters of a group side by side, so that each operation is done once.
    order = np.concatenate([group.filters for group in plan.groups])
    kernels = ops.take(ops.stack(filters, axis=1), order, axis=2)
    windows = ops.take(ops.transpose(windows), order, axis=0)
    windows = windows[..., None] * ops.cast(grid.windowing(), windows.dtype)

    pooled, samples, weights = [], [], []
    done = 0
    for span in spans:
        some = slice(done, done + len(span.group.filters))
        done = some.stop
        energies = span.energies(
            padded[:, ahead + span.start :], kernels[:, :, some]
        )
        inner_weights, edge_weights = span.weights(windows[some])
        pooled.append(span.pool(energies, inner_weights))
        if grid.num_edges:
            samples.append(span.edge_samples(energies))
            weights.append(edge_weights)
    frames = ops.take(_joined(pooled), np.argsort(order), axis=-1)
    if grid.num_edges:
        owner = np.concatenate(
            [np.tile(span.group.filters, span.num_samples) for span in spans]
        )
        sums = np.equal(owner[:, None], np.arange(len(order)))
        edges = _matmul(
            _joined(samples) * _joined(weights),
            ops.cast(sums, frames.dtype),
        )
        frames = grid.join(frames, edges)
    return frames[:, : grid.num_frames]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    # Keras' on PyTorch answers float32 to float64.
    return ops.cast(ops.matmul(a, b), b.dtype)


class _FrameGrid:
    """Where the frames of some audio lie.

    Time is counted from the start of frame 0's window.

    Attributes:
      num_frames: that are asked for; unknown lengths make it a tensor.
      computed_frames: the same, but at least those near an edge.
      num_edges: frames at each end whose windows may reach over it.
    """

    def __init__(self, audio: Tensor, geometry: Geometry, padding: str):
        self._stride = stride = geometry.stride
        self._window = window = geometry.window_size
        self._known = audio.shape[1] is not None
        self._time = time = (
            audio.shape[1] if self._known else ops.shape(audio)[1]
        )
        # The audio begins at this time of the grid.
        self.num_frames, self._begin = frame_layout(
            time, window, stride, padding
        )
        self._latest_begin = self.num_edges = 0
        if padding == "same":
            self._latest_begin = (window - 1) // 2
            self.num_edges = -(-(window // 2) // stride)
        self.computed_frames = at_least(
            self.num_frames, max(2 * self.num_edges, 1)
        )

    def pad(self, audio: Tensor, ahead: int, beyond: int) -> Tensor:
        """Pads audio to begin `ahead` samples ahead of the grid.

        Args:
          audio: `(batch, time)`.
          ahead: in samples.
          beyond: samples needed after the start of the last frame.
        """
        if self._known:
            left = ahead + self._begin
            end = ahead + self.computed_frames * self._stride + beyond
            return ops.pad(
                audio, [[0, 0], [left, max(end - left - self._time, 0)]]
            )
        left = ahead + self._latest_begin
        edge_frames = max(2 * self.num_edges, 1)
        padded = ops.pad(
            audio, [[0, 0], [left, (edge_frames + 1) * self._stride + beyond]]
        )
        return padded[:, self._latest_begin - self._begin :]

    def edge_frames(self) -> list[Any]:
        """Lists the frames near the edges, first those of the beginning."""
        return [
            *range(self.num_edges),
            *(self.computed_frames - k for k in range(self.num_edges, 0, -1)),
        ]

    def windowing(self) -> Any:
        """Computes what windows are multiplied by, `(window, 1 + edges)`.

        Column 0 is for a frame inside; the others, for those near an edge, are
        1 where a sample lies in the audio.
        """
        positions = np.arange(self._window)
        inside = [
            ops.logical_and(
                positions + frame * self._stride >= self._begin,
                positions + frame * self._stride < self._begin + self._time,
            )
            for frame in self.edge_frames()
        ]
        everywhere = np.ones(self._window, bool)
        return ops.stack([everywhere, *inside], axis=-1)

    def join(self, frames: Tensor, edges: Tensor) -> Tensor:
        """Puts the frames near the edges in the place of others."""
        count = self.num_edges
        inner = frames[:, count : self.computed_frames - count]
        return ops.concatenate(
            [edges[:, :count], inner, edges[:, count:]], axis=1
        )


class _Span:
    """A group's share of the computation.

    Attributes:
      group: which one.
      start: the first sample of audio that is needed, in the grid's time.
      reach: samples needed after the start of the last frame's window.
      num_samples: of energy in a frame.
    """

    def __init__(self, group: Group, geometry: Geometry, grid: _FrameGrid):
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

    def energies(self, audio: Tensor, kernels: Tensor) -> Tensor:
        """Computes the samples of energy.

        Args:
          audio: `(batch, time)`, from `start` on.
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.

        Returns:
          An array `(batch, samples, filters)`.
        """
        group, together = self.group, self._together
        samples = (self._blocks + self._overlap - 1) * self._per_block
        steps = (samples + together - 1) // together
        rows = steps + self._taps - 1
        polyphase = ops.reshape(
            audio[:, : rows * self._step],
            (ops.shape(audio)[0], rows, self._step),
        )
        size, channels = len(group.fade), 2 * kernels.shape[2]
        kernel = kernels[group.first : group.first + size]
        kernel = ops.reshape(kernel, (size, channels))
        if np.any(group.fade != 1):
            kernel = kernel * ops.cast(group.fade[:, None], kernel.dtype)
        room = self._taps * self._step - size
        shifted = ops.stack(
            [
                ops.pad(kernel, [[shift, room - shift], [0, 0]])
                for shift in range(0, self._step, group.hop)
            ],
            axis=1,
        )
        outputs = ops.conv(
            polyphase,
            ops.reshape(shifted, (self._taps, self._step, together * channels)),
            padding="valid",
            data_format="channels_last",
        )
        outputs = ops.reshape(
            outputs, (ops.shape(audio)[0], steps * together, channels)
        )[:, :samples]
        real, imag = ops.split(outputs, 2, axis=-1)
        return ops.square(real) + ops.square(imag)

    def weights(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the weights of the samples.

        Args:
          windows: `(filters, window, 1 + edges)`.

        Returns:
          Two arrays, `(filters, phases, samples)` for frames inside, and
          `(edges, samples * filters)`.
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
        weights = ops.reshape(weights, (count, phases, samples, -1))
        edges = weights[..., 1:]
        if phases > 1:
            # Of each frame, the weights of its phase.
            phase = [frame % phases for frame in self._grid.edge_frames()]
            own = ops.equal(ops.stack(phase), np.arange(phases)[:, None])
            edges = edges * ops.cast(own[:, None], edges.dtype)
        edges = ops.transpose(ops.sum(edges, axis=1), (2, 1, 0))
        return weights[..., 0], ops.reshape(edges, (-1, samples * count))

    def pool(self, energies: Tensor, weights: Tensor) -> Tensor:
        """Pools the frames, as if the audio had no edges."""
        group = self.group
        count, phases, samples = weights.shape
        rows = self._overlap * self._per_block
        laid_out = ops.stack(
            [
                ops.pad(
                    ops.transpose(weights[:, phase]),
                    [[start, rows - samples - start], [0, 0]],
                )
                for phase, start in enumerate(group.starts)
            ],
            axis=1,
        )
        blocks = self._blocks + self._overlap - 1
        energies = ops.reshape(
            energies, (ops.shape(energies)[0], blocks, self._per_block, count)
        )
        # A convolution of all with all costs the square of their number.
        parts = [
            self._pool_some(
                energies[..., k : k + POOLED_TOGETHER],
                laid_out[..., k : k + POOLED_TOGETHER],
            )
            for k in range(0, count, POOLED_TOGETHER)
        ]
        pooled = parts[0] if len(parts) == 1 else ops.concatenate(parts, -1)
        pooled = ops.reshape(
            pooled, (ops.shape(pooled)[0], self._blocks * phases, count)
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
        kernel = ops.transpose(weights, (0, 2, 1))[..., None]
        kernel = kernel * ops.eye(channels, dtype=weights.dtype)[:, None, :]
        pooled = ops.conv(
            ops.reshape(energies, (batch, blocks, size)),
            ops.reshape(kernel, (self._overlap, size, phases * channels)),
            padding="valid",
            data_format="channels_last",
        )
        return ops.reshape(pooled, (batch, -1, phases, channels))

    def edge_samples(self, energies: Tensor) -> Tensor:
        """Lays out the samples of frames near an edge.

        Args:
          energies: `(batch, samples, filters)`.

        Returns:
          An array `(batch, edges, samples * filters)`.
        """
        starts = np.array(self.group.starts, "int32")
        phases, filters = len(starts), energies.shape[-1]
        samples = []
        for frame in self._grid.edge_frames():
            block, phase = frame // phases, frame % phases
            if phases == 1:
                start = 0
            elif isinstance(phase, int):
                start = int(starts[phase])
            else:
                start = ops.take(starts, phase)
            start = start + block * self._per_block
            samples.append(energies[:, start : start + self.num_samples])
        return ops.reshape(
            ops.stack(samples, axis=1),
            (-1, len(samples), self.num_samples * filters),
        )
