"""Judges audio while it comes in, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soxr

from leaf_audio.common.checks import check_unless_none
from leaf_audio.data.decoding import at_rate, check_sample_rate
from leaf_audio.serving.window_sizes import in_samples

if TYPE_CHECKING:
    from leaf_audio.serving.trained import TrainedClassifier

# The most windows that the model gets at once.
_BATCH = 16


class Judgement(NamedTuple):
    """What a classifier says about one window.

    Attributes:
        start: float, in seconds. Where the window begins in the audio.
        end: float, in seconds. Where it ends: the audio that was needed.
        probabilities: The probability of each label.
    """

    start: float
    end: float
    probabilities: dict[str, float]


class ClassifierStream:
    """Judges audio that arrives in chunks. `TrainedClassifier.stream` makes it.

    The audio is cut into windows as `TrainedClassifier.windows` cuts a whole
    recording, and each window is prepared as the evaluation prepares a clip. So
    the window is computed anew from its audio: its loudness, and the frontend's
    state at its beginning, must not depend on what was before.

    Args:
        classifier: The classifier.
        sample_rate: int, in Hz. The sample rate of the chunks. None is that of
            the model. Defaults to None.
        window: float, in seconds. The length of a window, at most that of a
            clip of the model. None is that of a clip. Defaults to None.
        hop: float, in seconds, at most `window`. The distance between the
            beginnings of windows. None is half a window. Defaults to None.

    Attributes:
        latency: int. The number of samples, at the rate of the model, that must
            arrive before the first judgement: a window.
    """

    def __init__(
        self,
        classifier: TrainedClassifier,
        sample_rate: int | None = None,
        window: float | None = None,
        hop: float | None = None,
    ):
        check_unless_none(check_sample_rate, sample_rate=sample_rate)
        self._classifier = classifier
        rate = classifier.sample_rate
        self._rate = sample_rate or rate
        self._resampler = None
        if self._rate != rate:
            self._resampler = soxr.ResampleStream(self._rate, rate, 1)
        length, step = in_samples(rate, classifier.window, window, hop)
        length = classifier.window if length is None else length
        if length is None:
            raise ValueError(
                "`window` must be given, in seconds: the model takes clips of "
                "any length. Received: window=None."
            )
        self.latency = length
        self._hop = (length + 1) // 2 if step is None else step
        # The audio from the beginning of the next window on.
        self._samples = np.zeros(0, np.float32)
        self._start = 0
        self._judged_until = 0
        self._finished = False

    def push(self, samples: Any) -> list[Judgement]:
        """Takes the next samples, and judges the windows that are complete.

        Args:
            samples: Array of shape (time,), of floats from -1 to 1 or of 16-bit
                integers, with at least one sample.

        Returns:
            The judgements, the earliest window first. There may be none.

        Raises:
            ValueError: If `samples` cannot be used, or the stream is finished.
        """
        self._check_open()
        return list(self._take(at_rate(samples, self._rate, self._rate)))

    def finish(self) -> list[Judgement]:
        """Ends the audio, and judges what no window has covered.

        Returns:
            The judgement of the window that ends with the audio. It is shorter
            if all of the audio is. The list is empty if every sample has been
            in a window, or there was no audio.

        Raises:
            ValueError: If the stream is finished.
        """
        self._check_open()
        self._finished = True
        found: list[Judgement] = []
        if self._resampler is not None:
            found += self._take(np.zeros(0, np.float32), last=True)
        end = self._start + len(self._samples)
        if end > self._judged_until:
            start = max(end - self.latency, 0)
            found += self._judge([self._window_at(start)], start)
        return found

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError(
                "A stream takes no samples after `finish`: make a new one. "
                "Received: a stream that has ended."
            )

    def _take(
        self, samples: np.ndarray, last: bool = False
    ) -> Iterator[Judgement]:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        self._samples = np.concatenate([self._samples, samples])
        while (count := self._num_complete()) > 0:
            first = self._next_start()
            starts = [first + self._hop * k for k in range(min(count, _BATCH))]
            windows = [self._window_at(start) for start in starts]
            yield from self._judge(windows, first)
            # Audio of the last window is kept: the audio may end soon.
            self._forget(starts[-1])

    def _next_start(self) -> int:
        """Returns where the next window begins, in samples."""
        if not self._judged_until:
            return 0
        return self._judged_until - self.latency + self._hop

    def _num_complete(self) -> int:
        end = self._start + len(self._samples)
        left = end - self._next_start() - self.latency
        return left // self._hop + 1

    def _window_at(self, start: int) -> np.ndarray:
        begin = start - self._start
        return self._samples[begin : begin + self.latency]

    def _forget(self, start: int) -> None:
        self._samples = self._samples[start - self._start :]
        self._start = start

    def _judge(
        self, windows: list[np.ndarray], first: int
    ) -> Iterator[Judgement]:
        classifier = self._classifier
        rate = classifier.sample_rate
        clips = [classifier.prepare(window, rate) for window in windows]
        rows = classifier.probabilities(np.stack(clips))
        for number, (window, row) in enumerate(zip(windows, rows, strict=True)):
            start = first + number * self._hop
            end = start + len(window)
            self._judged_until = end
            named = dict(zip(classifier.labels, row.tolist(), strict=True))
            yield Judgement(start / rate, end / rate, named)
