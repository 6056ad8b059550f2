"""Where the frames of some audio lie, and those that reach over its ends."""

from typing import Any

import numpy as np
from keras import ops

from leaf_audio.fast.planning import Geometry
from leaf_audio.pooling import at_least, frame_layout

Tensor = Any


class FrameGrid:
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
