"""Mel filterbanks, the fixed frontend that learned ones are compared with."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_size,
)
from leaf_audio.frontend.base import Tensor
from leaf_audio.frontend.stft import STFT_PRESETS, WINDOW_LEN_MS, StftFrontend
from leaf_audio.initializers import mel

# What librosa and torchaudio have in common.
_LIBRARY_MEL = {
    "n_filters": 128,
    "min_freq": 0.0,
    "max_freq": None,
    "triangles": "hz",
    "allow_empty_filters": True,
}
_MEL_PRESETS = {
    "leaf": {},
    "librosa": {
        **STFT_PRESETS["librosa"],
        **_LIBRARY_MEL,
        "mel_scale": "slaney",
        "norm": "slaney",
    },
    "torchaudio": {**STFT_PRESETS["torchaudio"], **_LIBRARY_MEL},
}


@keras.saving.register_keras_serializable("leaf_audio")
class MelFilterbanks(StftFrontend):
    """Log mel filterbanks, a frontend without learned weights.

    Waveform → STFT → `|STFT|**power` → mel filters → compression →
    SpecAugment (optional, in training only).

    The defaults are those of the release of LEAF. `from_preset` has the
    conventions of librosa and torchaudio.

    Args:
      n_filters: Positive integer. Number of mel filters. Defaults to 40.
      sample_rate: Positive number. Sample rate of the waveforms, in Hz.
        Defaults to 16000.
      n_fft: Length of the FFT in samples, at least the length of the window. A
        positive integer; `"auto"` for 512, as in LEAF, doubled until it is as
        long as the window and gives every filter a bin; or None for the
        smallest power of two that is and does so. None is for models that were
        saved with it. Defaults to `"auto"`.
      window_len: Positive number. Length of the window, in milliseconds.
        Defaults to 25.0.
      window_stride: Positive number. Hop between frames, in milliseconds.
        Defaults to 10.0.
      compression_fn: Layer or function that is applied to the energies, or one
        of the names `"log"`, `"db"` and `"pcen"`, or None for no compression. A
        layer is copied. For other settings of a function, give a partial, such
        as `functools.partial(frontend.log_compression, log_offset=1e-3)`.
        Defaults to `"log"`.
      min_freq: Number in [0, `max_freq`). Lower edge of the lowest filter, in
        Hz. `"auto"` is 60 Hz. Defaults to 60.0.
      max_freq: Number up to half the sample rate. Upper edge of the highest
        filter, in Hz. None and 0 are half the sample rate; `"auto"` is 97.5 %
        of that, which is 7800 Hz at 16 kHz. Defaults to `"auto"`.
      spec_augment: Boolean or layer. True augments features in training by
        `SpecAugment()`. A layer is copied. Defaults to False.
      mel_scale: `"htk"` or `"slaney"`. Defaults to `"htk"`.
      norm: None for filters with a peak of 1; `"slaney"` to divide each filter
        by half its width in Hz. Defaults to None.
      triangles: Axis on which the sides of the filters are straight lines:
        `"mel"` as in HTK and TensorFlow, `"hz"` as in librosa and torchaudio.
        Defaults to `"mel"`.
      power: Positive number. Power of the magnitudes that the filters sum: 2
        for energies, 1 for magnitudes. Defaults to 2.0.
      window: `"hann"`, `"hamming"`, `"blackman"` or `"boxcar"`, all periodic;
        `"tf_hann"`, the Hann window of TensorFlow, which is symmetric if its
        length is odd; or a list with the values of the window. Defaults to
        `"tf_hann"`.
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
      allow_empty_filters: Boolean. Whether a filter may be so narrow that it
        covers no bin of the FFT. Its energy is then always 0, as in librosa and
        torchaudio. Defaults to False, which raises an error.
      multichannel: Boolean. Whether waveforms may have any number of channels.
        Features then have an axis of channels. Defaults to False.
      name: String. Name of the model. Defaults to `"mel_filterbanks"`.
      **kwargs: Arguments of `keras.Model`, such as `dtype`.

    Raises:
      ValueError: If an argument is out of range, if a filter covers no bin of
        the FFT, or if the inputs are not floating-point waveforms of one
        channel. Also if they are too short: reflection needs `n_fft // 2 + 1`
        samples, frames without padding need `n_fft`. In a graph for inputs of
        unknown length, TensorFlow raises its own error in the former case, and
        there is no frame in the latter.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, n_filters)`; with `multichannel`
      `(batch, frames, n_filters, channels)`. The number of frames is
      `ceil(time / stride)`. With `center` it is
      `1 + (time + 2 * (n_fft // 2) - n_fft) // stride`, which is
      `1 + time // stride` for an even `n_fft`. With neither `center` nor
      `pad_end` it is `1 + (time - n_fft) // stride`.

    Example:

    ```python
    energies = frontend.MelFilterbanks.from_preset("librosa", n_filters=80)
    decibels = frontend.MelFilterbanks.from_preset(
        "torchaudio", n_fft=1024, compression_fn="db"
    )
    ```
    """

    _presets = _MEL_PRESETS

    def __init__(
        self,
        n_filters: int = 40,
        sample_rate: float = 16000,
        n_fft: int | str | None = "auto",
        window_len: float = WINDOW_LEN_MS,
        window_stride: float = 10.0,
        compression_fn: Any = "log",
        min_freq: float | str = mel.DEFAULT_MIN_FREQ,
        max_freq: float | str | None = "auto",
        spec_augment: Any = False,
        mel_scale: str = "htk",
        norm: str | None = None,
        triangles: str = "mel",
        power: float = 2.0,
        window: str | Sequence[float] = "tf_hann",
        win_length: int | None = None,
        hop_length: int | None = None,
        center: bool = False,
        pad_mode: str = "constant",
        pad_end: bool = True,
        allow_empty_filters: bool = False,
        multichannel: bool = False,
        name: str = "mel_filterbanks",
        **kwargs: Any,
    ):
        super().__init__(
            n_filters=n_filters,
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
        self.mel_scale = check_choice("mel_scale", mel_scale, mel.MEL_SCALES)
        self.norm = norm
        if norm is not None:
            self.norm = check_choice("norm", norm, ("slaney",))
        self.triangles = check_choice("triangles", triangles, ("mel", "hz"))
        self.allow_empty_filters = check_bool(
            "allow_empty_filters", allow_empty_filters
        )
        lowest, highest = self._band()
        mel.check_n_fft(n_fft)
        if n_fft is None or isinstance(n_fft, str):
            shortest = mel.LEAF_N_FFT if n_fft == "auto" else 1
            n_fft = mel.smallest_n_fft(
                n_filters=n_filters,
                window_size=max(self._window_size, shortest),
                sample_rate=sample_rate,
                min_freq=lowest,
                max_freq=highest,
                mel_scale=self.mel_scale,
            )
        self._set_fft_length(check_size("n_fft", n_fft))
        weights = mel.mel_matrix(
            n_filters=n_filters,
            n_fft=n_fft,
            sample_rate=sample_rate,
            min_freq=lowest,
            max_freq=highest,
            mel_scale=self.mel_scale,
            norm=self.norm,
            triangles=self.triangles,
        )
        if not allow_empty_filters:
            mel.check_every_filter_has_a_bin(weights, n_fft)
        self._mel_matrix = weights.T.astype(self._internal_dtype)

    def fixed_centres_hz(self) -> np.ndarray:
        lowest, highest = self._band()
        return mel.centres_hz(self.n_filters, lowest, highest, self.mel_scale)

    def filter_responses(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the weights of the mel filters.

        Returns:
          Two arrays: the frequencies of the bins of the FFT in Hz, of shape
          `(bins,)`, and the weight of each bin in each filter, of shape
          `(bins, n_filters)`. The filters weight `|STFT|**power`.
        """
        bins = np.arange(len(self._mel_matrix))
        hz = bins * (self.sample_rate / self._fft_length)
        return hz, np.asarray(self._mel_matrix)

    def _compute_energies(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        return ops.matmul(self._spectrogram(audio, mask), self._mel_matrix)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mel_scale": self.mel_scale,
            "norm": self.norm,
            "triangles": self.triangles,
            "allow_empty_filters": self.allow_empty_filters,
        }
