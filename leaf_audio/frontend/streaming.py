"""Streams: features of audio that arrives in chunks.

    stream = leaf.stream()
    for chunk in chunks:
        features = stream.push(chunk)
    last_features = stream.finish()

What `push` and `finish` return, joined, is what the frontend returns for the
whole signal. A frame is returned as soon as the audio that it depends on has
arrived: frame m once the stream has received `m * stride + latency` samples.

A stream keeps the end of the audio, from the first sample that a later frame
depends on. New frames are computed from an excerpt of it. The excerpts have one
of two lengths, so that compiled functions are compiled once for each. Behind
the audio that has arrived, an excerpt holds zeros, and the frames that depend
on them are dropped. The first excerpts begin with the signal and the last one
ends with it, so the frontend treats the ends as it treats those of a whole
signal. Of PCEN, the stream keeps the smoothed energy of each filter.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from leaf_audio.common.checks import check_positive_int, check_unless_none
from leaf_audio.frontend.stream_steps import (
    StreamStep,
    StreamSteps,
    check_can_stream,
    initial_smoother,
)

Tensor = Any


class Reach(NamedTuple):
    """The audio that a frame depends on.

    Attributes:
      before: Number of samples by which it begins before sample `m * stride`,
        for frame m. May be negative.
      after: Number of samples from `m * stride` on that belong to it, at least
        1.
    """

    before: int
    after: int


@dataclasses.dataclass(frozen=True)
class StreamState:
    """All that a stream has to remember. It is not changed, but replaced.

    Attributes:
      samples: The audio that later frames depend on, an array `(batch, time)`.
      start: Number of samples of the signal before `samples`.
      frames: Number of frames that have been returned.
      smoother: PCEN's smoothed energy, an array `(batch, n_filters)`; negative
        before the first frame. None for other compressions.
      finished: Whether the signal has ended.
    """

    samples: np.ndarray
    start: int
    frames: int
    smoother: np.ndarray | None
    finished: bool = False

    @property
    def received(self) -> int:
        """Number of samples that the stream has received."""
        return self.start + self.samples.shape[1]


class FrontendStream:
    """Computes the features of signals that arrive in chunks.

    `Frontend.stream` makes it, and says more.

    Args:
      frontend: A built frontend.
      batch_size: Number of signals that arrive together.
      length: Number of samples of the whole signals, or None.

    Attributes:
      state: The `StreamState`. It may be kept and assigned again, also to
        another stream of the same frontend, which then continues from there.
      latency: Number of samples. Frame m is returned once the stream has
        received `m * stride + latency` samples.
    """

    def __init__(
        self, frontend: Any, batch_size: int = 1, length: int | None = None
    ):
        check_positive_int("batch_size", batch_size)
        check_unless_none(check_positive_int, length=length)
        check_can_stream(frontend)
        self._frontend = frontend
        self._length = length
        self._stride = frontend._stride
        self._reach = frontend._reach(length)
        self._steps = frontend._stream_steps
        # Frames of an excerpt that lack audio on the left, if it does not
        # begin with the signal. One at least: where a window is shorter than
        # the hop, the audio of the next frame may not have begun.
        self._lead = max(-(-self._reach.before // self._stride), 1)
        dtype = frontend._internal_dtype
        self.state = StreamState(
            samples=np.zeros((batch_size, 0), dtype),
            start=0,
            frames=0,
            smoother=initial_smoother(frontend, batch_size),
        )

    @property
    def latency(self) -> int:
        """Samples from `m * stride` on that must arrive before frame m."""
        return self._reach.after

    def push(self, samples: Any) -> np.ndarray:
        """Takes the next samples, and returns the frames that are complete.

        Args:
          samples: Waveforms of shape `(batch, time)` or `(batch, time, 1)`, of
            a floating-point dtype. `time` may differ from call to call.

        Returns:
          The features of the new frames, an array `(batch, frames, n_filters)`.
          There may be none.

        Raises:
          ValueError: If the stream is finished, the samples are not those of
            `batch_size` waveforms, are not finite, or are more than `length`.
        """
        state = self._extended(samples)
        complete = (state.received - self.latency) // self._stride + 1
        outputs = [self._no_frames()]
        while state.frames < complete:
            missing = complete - state.frames
            step, frames = self._steps.for_frames(missing)
            size = self._excerpt_size(frames)
            count = min(frames, missing)
            audio = state.samples[:, :size]
            short = size - audio.shape[1]
            audio = np.pad(audio, [(0, 0), (0, max(short, 0))])
            found, state = self._advance(
                state, step.predict_on_batch, audio, count
            )
            outputs.append(found)
        self.state = state
        return np.concatenate(outputs, axis=1)

    def finish(self) -> np.ndarray:
        """Ends the signals, and returns the frames that are left.

        Returns:
          The features, an array `(batch, frames, n_filters)`.

        Raises:
          ValueError: If the stream is finished, or has not received `length`
            samples, or fewer than the frontend takes.
        """
        self._check_open()
        state = self.state
        audio, received = state.samples, state.received
        if self._length not in (None, received):
            raise ValueError(
                "`length` must be the number of samples that the stream "
                f"receives. Received: length={self._length}, and {received} "
                "samples."
            )
        found = self._no_frames()
        if received:
            batch = len(audio)
            self._frontend._check_inputs((batch, received))
            if self._length is None and self._depends_on_length():
                beyond = -received % self._stride
                audio = np.pad(audio, [(0, 0), (0, beyond)])
                received += beyond
            total = self._frontend._energies_shape(batch, received)[1]
            count = total - state.frames
            if count > 0:
                step = StreamStep(self._frontend, count)
                found, state = self._advance(state, step, audio, count)
        self.state = dataclasses.replace(
            state, samples=audio[:, :0], start=received, finished=True
        )
        return found

    def _depends_on_length(self) -> bool:
        """Whether the position of all frames depends on the signal's length."""
        of_lengths = (self._frontend._reach(n) for n in (1, None))
        return len(set(of_lengths)) > 1

    def _extended(self, samples: Any) -> StreamState:
        self._check_open()
        # A chunk may be shorter than the signals that the frontend takes.
        shape = tuple(samples.shape)
        self._frontend._check_inputs(
            (*shape[:1], None, *shape[2:]) if len(shape) > 1 else shape,
            samples.dtype,
        )
        chunk = ops.convert_to_numpy(samples)
        if chunk.ndim == 3:
            chunk = chunk[..., 0]
        if not np.isfinite(chunk).all():
            # One alone would spoil all later frames.
            raise ValueError(
                "`samples` must be finite. Received: samples that are not."
            )
        kept = self.state.samples
        if len(chunk) != len(kept):
            raise ValueError(
                f"`samples` must be those of {len(kept)} waveforms, as "
                "`batch_size` of the stream says. Received: samples of shape "
                f"{tuple(samples.shape)}."
            )
        chunk = chunk.astype(kept.dtype)
        state = dataclasses.replace(
            self.state, samples=np.concatenate([kept, chunk], axis=1)
        )
        if self._length is not None and state.received > self._length:
            raise ValueError(
                "`length` must be the number of samples that the stream "
                f"receives. Received: length={self._length}, and "
                f"{state.received} samples so far."
            )
        return state

    def _check_open(self) -> None:
        if self.state.finished:
            raise ValueError(
                "A stream takes no samples after `finish`. Make a new one, or "
                "assign an earlier `state`. Received: a stream that has ended "
                f"after {self.state.received} samples."
            )

    def _excerpt_size(self, frames: int) -> int:
        """Returns the length of excerpts that so many new frames need."""
        size = (self._lead + frames - 1) * self._stride + self._reach.after
        # With "same" padding, frames lie as in the whole signal only if the
        # lengths leave the same remainder.
        remainder = (self._length or 0) % self._stride
        return size + (remainder - size) % self._stride

    def _start_for(self, frames: int) -> int:
        """Returns where the excerpt begins after a number of frames."""
        return max(frames - self._lead, 0) * self._stride

    def _advance(
        self, state: StreamState, step: Any, audio: np.ndarray, count: int
    ) -> tuple[np.ndarray, StreamState]:
        """Computes frames, and forgets the audio that is not needed any more.

        Args:
          state: The state, whose audio begins where the excerpt does.
          step: Function of the inputs of a `StreamStep`.
          audio: Excerpt of the signal, an array `(batch, time)`.
          count: Number of new frames that the excerpt is enough for.

        Returns:
          The features, and the state after them.
        """
        first = state.frames - state.start // self._stride
        inputs = [audio, np.array(first, "int32")]
        if state.smoother is not None:
            inputs.append(state.smoother)
        features, *smoothed = map(ops.convert_to_numpy, step(inputs))
        frames = state.frames + count
        start = self._start_for(frames)
        return features[:, :count], StreamState(
            samples=state.samples[:, start - state.start :],
            start=start,
            frames=frames,
            smoother=smoothed[0][:, count - 1] if smoothed else None,
        )

    def _no_frames(self) -> np.ndarray:
        frontend = self._frontend
        batch = len(self.state.samples)
        _, _, *axes = frontend._features_shape(batch, None)
        empty = ops.zeros((batch, 0, *axes), dtype=frontend.compute_dtype)
        return ops.convert_to_numpy(empty)


class Streamable:
    """What makes a frontend able to stream.

    A frontend that can stream defines `_reach`.
    """

    def stream(
        self, batch_size: int = 1, length: int | None = None
    ) -> FrontendStream:
        """Makes a stream: features of audio that arrives in chunks.

        The frames that the stream returns are those of the whole signal, up to
        rounding, and with a plan up to its tolerance. The frontend computes as
        in inference. Its weights must not change while a stream is in use.

        Leaf's `pooling_padding="same"` puts the frames elsewhere if the signal
        has another length, which a stream cannot know. Without `length`, they
        lie as in a signal of a whole number of hops: at the end, the stream
        fills up the last hop with zeros.

        Args:
          batch_size: Positive integer. Number of signals that arrive together.
            Defaults to 1.
          length: Positive integer, or None if it is unknown. Number of samples
            of the whole signals. It matters with `pooling_padding="same"`
            alone. Defaults to None.

        Returns:
          A `streaming.FrontendStream`, with the methods `push` and `finish`,
          and the attributes `state` and `latency`.

        Raises:
          ValueError: If an argument is out of range, or if the frontend cannot
            stream: a part of it needs the whole signal, or it is unknown
            whether it does.

        Example:

        ```python
        stream = leaf.stream()
        for start in range(0, 16000, 1000):
            features = stream.push(waveforms[:1, start : start + 1000])
        last_features = stream.finish()
        ```
        """
        self._prepare_stream()
        return FrontendStream(self, batch_size, length)

    def _prepare_stream(self: Any) -> None:
        """Builds the frontend, and renews a plan that weights have left."""
        check_can_stream(self)
        # An eager call does both.
        samples = max(self._window_size, getattr(self, "_fft_length", 0)) + 1
        self(np.zeros((1, samples), self._internal_dtype))
        self._stream_steps.follow_plan()

    def _make_stream_steps(self) -> StreamSteps:
        return StreamSteps(self)

    def _reach(self, length: int | None) -> Reach:
        """Returns the audio that a frame depends on.

        Args:
          length: Number of samples of the whole signal, or None if it is
            unknown.

        Raises:
          ValueError: If the frontend cannot stream.
        """
        raise ValueError(
            f"{type(self).__name__} cannot stream: it does not say which audio "
            "a frame depends on, by `_reach`."
        )
