"""Positions of the frames of some audio, and those that reach over its ends."""

from typing import Any

import numpy as np
from keras import ops

from leaf_audio.fast.plan import Geometry
from leaf_audio.pooling import at_least, frame_layout

Tensor = Any


class FrameGrid:
    """Positions of the frames of some audio.

    The grid's time is in samples, from the start of the first frame's window.

    Args:
      audio: `(batch, time)`; `time` may be unknown.
      geometry: Sizes.
      padding: Padding of the pooling, `"same"` or `"valid"`.

    Attributes:
      num_frames: Number of frames; a tensor if `time` is unknown.
      computed_frames: Number of frames that are computed. It is greater than
        `num_frames` for audio so short that a frame lies near both edges.
      num_edges: Number of frames at each end whose windows may reach past
        that end.
    """

    def __init__(self, audio: Tensor, geometry: Geometry, padding: str):
        self._stride = stride = geometry.stride
        self._window = window = geometry.window_size
        self._known = audio.shape[1] is not None
        self._time = time = (
            audio.shape[1] if self._known else ops.shape(audio)[1]
        )
        # `_begin` is the grid's time at which the audio begins.
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
        edge_frames = max(2 * self.num_edges, 1)
        padded = ops.pad(
            audio, [[0, 0], [left, (edge_frames + 1) * self._stride + beyond]]
        )
        return padded[:, self._latest_begin - self._begin :]

    def edge_frames(self) -> list[Any]:
        """Lists the frames near an edge, those at the beginning first."""
        return [
            *range(self.num_edges),
            *(self.computed_frames - k for k in range(self.num_edges, 0, -1)),
        ]

    def window_masks(self) -> Any:
        """Returns which samples of a window lie in the audio.

        Returns:
          A Boolean array `(window_size, 1 + edges)`. Column 0 is for frames
          inside the audio and all True; the other columns are for the frames of
          `edge_frames`.
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
        """Replaces the frames near the edges.

        Args:
          frames: `(batch, computed_frames, filters)`.
          edges: `(batch, 2 * num_edges, filters)`, in their place.

        Returns:
          An array `(batch, computed_frames, filters)`.
        """
        count = self.num_edges
        inner = frames[:, count : self.computed_frames - count]
        return ops.concatenate(
            [edges[:, :count], inner, edges[:, count:]], axis=1
        )
