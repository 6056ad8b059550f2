"""Spectrograms: a frontend with one output for each bin of the FFT."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from leaf_audio.common.checks import check_positive, check_size
from leaf_audio.common.sizes import told_rate, window_size
from leaf_audio.frontend.base import Tensor
from leaf_audio.frontend.stft import STFT_PRESETS, WINDOW_LEN_MS, StftFrontend


@keras.saving.register_keras_serializable("leaf_audio")
class Spectrogram(StftFrontend):
    """Spectrograms, `|STFT|**power` at every bin of the FFT.

    Waveform → STFT → `|STFT|**power` → compression (optional) → SpecAugment
    (optional, in training only).

    Args:
      sample_rate: Positive number. Sample rate of the waveforms, in Hz.
        Defaults to 16000.
      n_fft: Positive integer. Length of the FFT in samples, at least the length
        of the window. Defaults to None: the smallest power of two that is as
        long as the window, which is 512 for the other defaults.
      window_len: Positive number. Length of the window, in milliseconds.
        Defaults to 25.0.
      window_stride: Positive number. Hop between frames, in milliseconds.
        Defaults to 10.0.
      compression_fn: Layer or function that is applied to the energies, or one
        of the names `"log"`, `"db"` and `"pcen"`. A layer is copied. Defaults
        to None, which is no compression.
      spec_augment: Boolean or layer. True augments features in training by
        `SpecAugment()`. A layer is copied. Defaults to False.
      power: Positive number. Power of the magnitudes: 2 for energies, 1 for
        magnitudes. Defaults to 2.0.
      window: Name of a window or a list with its values, as in
        `MelFilterbanks`. Defaults to `"tf_hann"`.
      win_length: Positive integer. Length of the window in samples, in place
        of `window_len`. Defaults to None.
      hop_length: Positive integer. Hop between frames in samples, in place of
        `window_stride`. Defaults to None.
      center: Boolean. If True, frame m is `n_fft` samples long and centred on
        sample `stride * m`; `n_fft // 2` samples are padded before and after
        the input. If False, frame m begins at sample `stride * m`. Defaults to
        False.
      pad_mode: The samples that are padded with `center`: `"constant"` for
        zeros or `"reflect"` for the mirrored input. A clip with a mask is
        mirrored at its own end. Defaults to `"constant"`.
      pad_end: Boolean, used without `center`. If True, there is a frame for
        every hop within the input, and zeros follow the end; the window of
        frame m covers the samples from `stride * m` to `stride * m + window`.
        If False, frames of `n_fft` samples, with the window in the middle, lie
        within the input. Defaults to True.
      min_freq: Number that is not negative. Bins of lower frequencies are left
        out, in Hz. Defaults to 0.0.
      max_freq: Number up to half the sample rate. Bins of higher frequencies
        are left out, in Hz. None and 0 are half the sample rate; `"auto"` is
        97.5 % of that. Defaults to None.
      multichannel: Boolean. Whether waveforms may have any number of channels.
        Features then have an axis of channels. Defaults to False.
      name: String. Name of the model. Defaults to `"spectrogram"`.
      **kwargs: Arguments of `keras.Model`, such as `dtype`.

    Raises:
      ValueError: If an argument is out of range or unknown, if there is no bin
        from `min_freq` to `max_freq`, or if the inputs are not floating-point
        waveforms of one channel, or too short as `MelFilterbanks` describes.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, bins)`; with `multichannel`
      `(batch, frames, bins, channels)`. There are `n_fft // 2 + 1` bins, or
      those between `min_freq` and `max_freq`. The number of frames is that of
      `MelFilterbanks`: `ceil(time / stride)` by default.

    Example:

    ```python
    magnitudes = frontend.Spectrogram.from_preset("librosa", power=1.0)
    ```
    """

    _presets = STFT_PRESETS
    _computed = ("n_filters",)

    def __init__(
        self,
        sample_rate: float = 16000,
        n_fft: int | None = None,
        window_len: float = WINDOW_LEN_MS,
        window_stride: float = 10.0,
        compression_fn: Any = None,
        spec_augment: Any = False,
        power: float = 2.0,
        window: str | Sequence[float] = "tf_hann",
        win_length: int | None = None,
        hop_length: int | None = None,
        center: bool = False,
        pad_mode: str = "constant",
        pad_end: bool = True,
        multichannel: bool = False,
        min_freq: float | str = 0.0,
        max_freq: float | str | None = None,
        name: str = "spectrogram",
        **kwargs: Any,
    ):
        if "n_filters" in kwargs:
            raise ValueError(
                "`n_filters` of a Spectrogram follows from `n_fft`, `min_freq` "
                "and `max_freq`. Use MelFilterbanks to choose it. Received: "
                f"n_filters={kwargs['n_filters']!r}."
            )
        if n_fft is None:
            fft_length = _shortest_fft(sample_rate, window_len, win_length)
        else:
            fft_length = check_size("n_fft", n_fft)
        super().__init__(
            n_filters=fft_length // 2 + 1,
            sample_rate=sample_rate,
            n_fft=n_fft,
            window_len=window_len,
            window_stride=window_stride,
            win_length=win_length,
            hop_length=hop_length,
            window=window,
            power=power,
            center=center,
            pad_mode=pad_mode,
            pad_end=pad_end,
            compression_fn=compression_fn,
            spec_augment=spec_augment,
            multichannel=multichannel,
            min_freq=min_freq,
            max_freq=max_freq,
            name=name,
            **kwargs,
        )
        self._set_fft_length(fft_length)
        self._bins = self._bins_of_band()
        self.n_filters = self._bins.stop - self._bins.start

    def _bins_of_band(self) -> slice:
        lowest, highest = self._band()
        hz = self._all_bins_hz()
        first, last = (
            np.searchsorted(hz, lowest),
            np.searchsorted(hz, highest, side="right"),
        )
        if first == last:
            raise ValueError(
                "`min_freq` and `max_freq` must leave a bin of the FFT between "
                f"them. Received: min_freq={self.min_freq!r}, "
                f"max_freq={self.max_freq!r}, n_fft={self._fft_length}, "
                f"{told_rate(self.sample_rate)}"
            )
        return slice(int(first), int(last))

    def _all_bins_hz(self) -> np.ndarray:
        bins = np.arange(self._fft_length // 2 + 1)
        return bins * (self.sample_rate / self._fft_length)

    def fixed_centres_hz(self) -> np.ndarray:
        return self._all_bins_hz()[self._bins]

    def _compute_energies(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        return self._spectrogram(audio, mask)[..., self._bins]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # The number of bins follows from `n_fft`.
        del config["n_filters"]
        return config


def _shortest_fft(
    sample_rate: float, window_len: float, win_length: int | None
) -> int:
    """Returns the smallest power of two, from 2 on, that holds the window."""
    size = win_length
    if size is None:
        size = window_size(
            check_positive("sample_rate", sample_rate),
            check_positive("window_len", window_len),
        )
    size = check_size("win_length", size)
    return 1 << max(1, (size - 1).bit_length())
