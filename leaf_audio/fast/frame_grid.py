"""Positions of the frames of some audio, and those that reach over its ends.

`FrameGrid` is for audio whose examples are equally long. `ClipGrid` is for
clips of different lengths: the frames at their ends are others in each example.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.framing import (
    at_least,
    delayed,
    frame_layout,
    take_rows,
)
from leaf_audio.common.lean_ops import with_ends
from leaf_audio.fast.plan import Geometry

Tensor = Any


def make_grid(
    audio: Tensor, geometry: Geometry, padding: str, lengths: Tensor | None
) -> "FrameGrid":
    """Makes the grid for some audio.

    Args:
      audio: `(batch, time)`; `time` may be unknown.
      geometry: Sizes.
      padding: Padding of the pooling.
      lengths: Lengths of the clips in samples, `(batch,)`, or None if all are
        as long as the audio.
    """
    # Without padding, and with causal padding, no frame of a clip reaches over
    # its end.
    if lengths is None or padding in ("valid", "causal"):
        return FrameGrid(audio, geometry, padding)
    return ClipGrid(audio, geometry, padding, lengths)


class FrameGrid:
    """Positions of the frames of some audio.

    The grid's time is in samples, from the start of the first frame's window.

    Args:
      audio: `(batch, time)`; `time` may be unknown.
      geometry: Sizes.
      padding: Padding of the pooling, one of `framing.PADDINGS`.

    Attributes:
      num_frames: Number of frames; a tensor if `time` is unknown.
      computed_frames: Number of frames that are computed. It is greater than
        `num_frames` for audio so short that a frame lies near both edges.
      num_first: Number of frames at the beginning whose windows may reach over
        it.
      num_last: The same at the end; not greater than `num_first`.
      num_edges: Number of frames near an edge, at both ends.
    """

    def __init__(self, audio: Tensor, geometry: Geometry, padding: str):
        self._stride = stride = geometry.stride
        self._window = window = geometry.window_size
        self._padding = padding
        self._known = audio.shape[1] is not None
        self._time: Any = audio.shape[1] if self._known else ops.shape(audio)[1]
        # `_begin` is the grid's time at which the audio begins.
        self.num_frames, self._begin = frame_layout(
            self._time, window, stride, padding
        )
        most = self._most_padding()
        before, after = {
            "same": (most, most),
            "centred": (window // 2, window - 1 - window // 2),
            "causal": (window - 1, 0),
            "valid": (0, 0),
        }[padding]
        self._latest_begin = (window - 1) // 2
        if padding != "same":
            self._latest_begin = self._begin
        self.num_first = -(-before // stride)
        self.num_last = -(-after // stride)
        self.num_edges = self.num_first + self.num_last
        self._least = max(self.num_edges, 1)
        self.computed_frames = at_least(self.num_frames, self._least)
        # One more than the number of the last frame near the end.
        self._end_frame = self.computed_frames

    def _most_padding(self) -> int:
        """Returns how far "same" windows may reach over an end, in samples."""
        if not self._known:
            return self._window // 2
        last = self._begin + self._time - self._window
        return max((self.num_frames - 1) * self._stride - last, 0)

    def pad(self, audio: Tensor, ahead: int, beyond: int) -> Tensor:
        """Pads audio with zeros to cover the grid.

        Args:
          audio: `(batch, time)`.
          ahead: Number of samples by which the result begins before the
            grid's time 0.
          beyond: Number of samples needed after the start of the last frame.

        Returns:
          An array `(batch, time')`.
        """
        if self._known:
            left = ahead + self._begin
            end = ahead + self.computed_frames * self._stride + beyond
            return ops.pad(
                audio, [[0, 0], [left, max(end - left - self._time, 0)]]
            )
        left = ahead + self._latest_begin
        right = (self._least + 1) * self._stride + beyond
        padded = ops.pad(audio, [[0, 0], [left, right]])
        return padded[:, self._latest_begin - self._begin :]

    def edge_frames(self) -> list[Any]:
        """Lists the frames near an edge, those at the beginning first."""
        return [
            *range(self.num_first),
            *(self._end_frame - k for k in range(self.num_last, 0, -1)),
        ]

    def window_masks(self) -> Any:
        """Returns which samples of a window lie in the audio.

        Returns:
          A Boolean array `(window_size, 1 + edges)`. Column 0 is for frames
          inside the audio and all True; the other columns are for the frames of
          `edge_frames`. In a `ClipGrid` each of those has a column for each
          example.
        """
        xp = np if isinstance(self._end_frame, int) else ops
        positions: Any = xp.arange(self._window, dtype="int32")[:, None]
        inside = [np.ones((self._window, 1), bool)]
        for frame in self.edge_frames():
            time = positions + (frame * self._stride - self._begin)
            inside.append(xp.logical_and(time >= 0, time < self._time))
        return xp.concatenate(inside, axis=1)

    def by_example(self, edges: Tensor) -> Tensor:
        """Lays out what was computed for each column of `window_masks`.

        Args:
          edges: `(columns, values)`, without column 0.

        Returns:
          An array `(batch or 1, edges, values)`.
        """
        return ops.expand_dims(edges, 0)

    def edge_windows(self, windows: Tensor) -> list[Tensor]:
        """Lists the windows of the frames near an edge.

        Args:
          windows: `(filters, window_size, columns)`, without column 0.

        Returns:
          For each frame near an edge an array `(batch or 1, window_size,
          filters)`.
        """
        return [
            ops.transpose(window)[None]
            for window in ops.unstack(windows, axis=-1)
        ]

    def cut_edges(
        self, parts: Sequence[Tensor], size: int
    ) -> tuple[list[Tensor], Tensor]:
        """Cuts out what the frames near an edge are computed from.

        Args:
          parts: Signals `(batch, steps, channels)` that differ in their number
            of channels. They have a step for each frame.
          size: Number of steps that a frame needs, from its own on.

        Returns:
          The signals, which must be used from here on so that gradients are
          cheap (see `with_ends`), and an array `(batch, edges, size, all
          channels)`.
        """
        starts = self.edge_frames()
        first, last = starts[: self.num_first], starts[self.num_first :]
        # Only the beginning has such frames if there are none at the end.
        end = last[0] if last else first[-1] + size
        cut = [with_ends(x, first[-1] + size, end) for x in parts]
        whole, *ends = zip(*cut, strict=True)
        head, tail = (ops.concatenate(some, axis=-1) for some in ends)
        used = [
            *(head[:, k : k + size] for k in first),
            *(tail[:, k - end : k - end + size] for k in last),
        ]
        return list(whole), ops.stack(used, axis=1)

    def ends(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Cuts out the audio of the frames near an edge.

        Args:
          x: `(batch, time)`, from some time before the first frame on.
          length: Number of samples needed for a frame.

        Returns:
          The audio of the frames at the beginning, and of those at the end,
          each `(batch, time')`.
        """
        stride = self._stride
        first = (self.num_first - 1) * stride + length
        last = (self.num_last - 1) * stride + length
        start = (self._end_frame - self.num_last) * stride
        return x[:, :first], x[:, start : start + last]

    def join(self, frames: Tensor, edges: Tensor) -> Tensor:
        """Replaces the frames near the edges.

        Args:
          frames: `(batch, computed_frames, filters)`.
          edges: `(batch, edges, filters)`, in their place.

        Returns:
          An array `(batch, computed_frames, filters)`.
        """
        first = self.num_first
        end = self.computed_frames - self.num_last
        last = edges[:, first:]
        if isinstance(self._begin, int):
            # With "same" padding, one frame fewer may reach over the beginning
            # than over the end.
            first = min(first, -(-self._begin // self._stride))
        if self._padding == "centred" and self.num_last:
            last = ops.where(self._reach_over(), last, frames[:, end:])
        return ops.concatenate(
            [edges[:, :first], frames[:, first:end], last], axis=1
        )

    def _reach_over(self) -> Tensor:
        """Returns whether the last frames reach over the end of the audio.

        Those that do not are the same as in longer audio. They are computed
        like all the others, so that they are the same to the last digit.

        Returns:
          A Boolean array `(batch or 1, num_last, 1)`.
        """
        end = self._begin + self._time
        over = [
            ops.reshape(frame * self._stride + self._window > end, (-1, 1))
            for frame in self.edge_frames()[self.num_first :]
        ]
        return ops.stack(over, axis=1)


class ClipGrid(FrameGrid):
    """Positions of the frames of clips of different lengths.

    The frames of a clip are those that it has alone. What `FrameGrid` holds as
    a number is a tensor of shape `(batch,)` here: where a clip begins, how long
    it is, and which of its frames are near its end.

    Args:
      audio: `(batch, time)`, with zeros after the end of each clip.
      geometry: Sizes.
      padding: Padding of the pooling, `"same"` or `"centred"`.
      lengths: Lengths of the clips in samples, `(batch,)`.
    """

    def __init__(
        self, audio: Tensor, geometry: Geometry, padding: str, lengths: Tensor
    ):
        super().__init__(audio, geometry, padding)
        frames, begin = frame_layout(
            lengths, geometry.window_size, geometry.stride, padding
        )
        self._begin = begin + ops.zeros_like(lengths)
        self._time = lengths
        self._end_frame = at_least(frames, self._least)

    def _most_padding(self) -> int:
        return self._window // 2

    def pad(self, audio: Tensor, ahead: int, beyond: int) -> Tensor:
        count = ahead + self.computed_frames * self._stride + beyond
        return delayed(audio, ahead + self._begin, count)

    def by_example(self, edges: Tensor) -> Tensor:
        edges = ops.reshape(edges, (self.num_edges, -1, edges.shape[-1]))
        return ops.transpose(edges, (1, 0, 2))

    def edge_windows(self, windows: Tensor) -> list[Tensor]:
        shape = (*windows.shape[:2], self.num_edges, -1)
        windows = ops.reshape(windows, shape)
        return ops.unstack(ops.transpose(windows, (2, 3, 1, 0)))

    def cut_edges(
        self, parts: Sequence[Tensor], size: int
    ) -> tuple[list[Tensor], Tensor]:
        zero = ops.zeros_like(self._time)
        first = ops.stack([n + zero for n in self.edge_frames()], axis=1)
        positions = first[..., None] + ops.arange(size)
        used = [take_rows(x, positions) for x in parts]
        return list(parts), ops.concatenate(used, axis=-1)

    def ends(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        stride = self._stride
        first = (self.num_first - 1) * stride + length
        last = (self.num_last - 1) * stride + length
        start = (self._end_frame - self.num_last) * stride
        return x[:, :first], take_rows(x, start[:, None] + ops.arange(last))

    def join(self, frames: Tensor, edges: Tensor) -> Tensor:
        first = self.num_first
        numbers = ops.arange(self.computed_frames)[None]
        start = numbers * self._stride - self._begin[:, None]
        joined = ops.concatenate([edges[:, :first], frames[:, first:]], axis=1)
        frames = ops.where((start < 0)[..., None], joined, frames)
        if not self.num_last:
            return frames
        place = numbers - (self._end_frame - self.num_last)[:, None]
        is_last = ops.logical_and(place >= 0, place < self.num_last)
        over = start + self._window > self._time[:, None]
        return ops.where(
            ops.logical_and(is_last, over)[..., None],
            take_rows(edges[:, first:], place),
            frames,
        )
