"""Fixed frontends on the short-time Fourier transform.

What all frontends have in common is told in `base_frontend`. Bin k of a
spectrogram lies at `k * sample_rate / n_fft` Hz. Where the frames lie is a
matter of convention, and so are the mel scale, its filters and the window:
LEAF's are the default, `from_preset` gives librosa's and torchaudio's.
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_positive,
    check_positive_int,
)
from leaf_audio.common.sizes import output_length, window_size
from leaf_audio.frontend.base import Frontend, build_in_turn
from leaf_audio.frontend.channels import folded_shape
from leaf_audio.initializers import mel
from leaf_audio.postprocessing import db_compression

Tensor = Any
Shape = tuple[int | None, ...]

# In ms.
_WINDOW_LEN = 25.0

_PAD_MODES = ("constant", "reflect")

# What differs from LEAF's settings. Lengths that follow from others are left
# to `from_preset`.
_STFT_PRESETS = {
    "leaf": {},
    "librosa": {
        "sample_rate": 22050,
        "n_fft": 2048,
        "hop_length": 512,
        "window": "hann",
        "center": True,
        "pad_mode": "constant",
        "pad_end": False,
        "compression_fn": None,
    },
    "torchaudio": {
        "sample_rate": 16000,
        "n_fft": 400,
        "window": "hann",
        "center": True,
        "pad_mode": "reflect",
        "pad_end": False,
        "compression_fn": None,
    },
}
_PEERS_MEL = {
    "n_filters": 128,
    "min_freq": 0.0,
    "max_freq": None,
    "triangles": "hz",
    "allow_empty_filters": True,
}
_MEL_PRESETS = {
    "leaf": {},
    "librosa": {
        **_STFT_PRESETS["librosa"],
        **_PEERS_MEL,
        "mel_scale": "slaney",
        "norm": "slaney",
    },
    "torchaudio": {**_STFT_PRESETS["torchaudio"], **_PEERS_MEL},
}


class _StftFrontend(Frontend):
    """Computes `|STFT|**power`; a subclass makes features of it.

    A subclass says how long the FFT is, by `_set_fft_length`, when its
    constructor ends.
    """

    _presets: dict[str, dict[str, Any]]

    def __init__(
        self,
        n_filters: int,
        sample_rate: float,
        n_fft: int | None,
        window_len: float,
        window_stride: float,
        win_length: int | None,
        hop_length: int | None,
        window: str | Sequence[float],
        power: float,
        center: bool,
        pad_mode: str,
        pad_end: bool,
        compression_fn: Any,
        spec_augment: Any,
        **kwargs: Any,
    ):
        check_positive("power", power)
        if power != 2:
            compression_fn = _of_power(compression_fn, power)
        super().__init__(
            n_filters,
            sample_rate,
            window_len,
            window_stride,
            compression_fn,
            spec_augment,
            **kwargs,
        )
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.window = window if isinstance(window, str) else list(window)
        self.power = power
        self.center = check_bool("center", center)
        self.pad_mode = check_choice("pad_mode", pad_mode, _PAD_MODES)
        self.pad_end = check_bool("pad_end", pad_end)
        if win_length is not None:
            self._window_size = check_positive_int("win_length", win_length)
        if hop_length is not None:
            self._stride = check_positive_int("hop_length", hop_length)
        self._window = _window_values(window, self._window_size).astype(
            self._wide
        )

    def _set_fft_length(self, fft_length: int) -> None:
        if fft_length < self._window_size:
            raise ValueError(
                "`n_fft` must be at least the window's length. Received: "
                f"n_fft={fft_length} for a window of {self._window_size} "
                "samples."
            )
        self._fft_length = fft_length
        self._centre_pad = fft_length // 2 if self.center else 0

    @property
    def _pads_end(self) -> bool:
        return self.pad_end and not self.center

    @classmethod
    def from_preset(cls, preset: str, **settings: Any):
        """Creates the frontend that follows a library's conventions.

        Args:
          preset: `"librosa"` (`librosa.feature.melspectrogram`, or the squared
            magnitude of `librosa.stft`), `"torchaudio"` (its `MelSpectrogram`
            and `Spectrogram`) or `"leaf"`, the defaults here.
          **settings: of the constructor; they go before the preset's. Unless
            given, the window is as long as `n_fft`, and torchaudio's step half
            of the window, as there.

        Returns:
          A frontend.

        Raises:
          ValueError: there is no such preset, or a setting is out of range.
        """
        preset = check_choice("preset", preset, tuple(cls._presets))
        merged = {**cls._presets[preset], **settings}
        if preset != "leaf":
            if "window_len" not in settings:
                merged.setdefault("win_length", merged["n_fft"])
            if "window_stride" in settings:
                merged["hop_length"] = settings.get("hop_length")
        if preset == "torchaudio" and "hop_length" not in merged:
            length = merged.get("win_length")
            if length is None:
                length = window_size(
                    merged["sample_rate"],
                    merged.get("window_len", _WINDOW_LEN),
                )
            merged["hop_length"] = check_positive_int("win_length", length) // 2
        return cls(**merged)

    def _check_inputs(self, shape: Shape, dtype: Any = None) -> None:
        super()._check_inputs(shape, dtype)
        least = 1
        if self.center and self.pad_mode == "reflect":
            least = self._centre_pad + 1
        elif not self.center and not self.pad_end:
            least = self._fft_length
        if shape[1] is not None and shape[1] < least:
            raise ValueError(
                f"{self.name} needs {least} samples at least, with "
                f"center={self.center}, pad_mode={self.pad_mode!r} and "
                f"pad_end={self.pad_end}. Received: inputs of shape "
                f"{tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_inputs(input_shape)
        shape = self._energies_shape(*folded_shape(input_shape)[:2])
        build_in_turn([self._compression], shape)
        self._end_build(input_shape)

    def _spectrogram(self, audio: Tensor) -> Tensor:
        """Computes `(batch, frames, n_fft // 2 + 1)`."""
        audio = audio[..., 0]
        if self._pads_end:
            frames = (ops.shape(audio)[1] + self._stride - 1) // self._stride
            # ops.stft centres a short window in its FFT and keeps whole FFTs
            # only.
            before = (self._fft_length - self._window_size) // 2
            after = self._fft_length + self._stride - before
            audio = ops.pad(audio, [[0, 0], [before, after]])
        elif self.center:
            pad = self._centre_pad
            audio = ops.pad(audio, [[0, 0], [pad, pad]], mode=self.pad_mode)
        real, imag = ops.stft(
            audio,
            sequence_length=self._window_size,
            sequence_stride=self._stride,
            fft_length=self._fft_length,
            window=self._window,
            center=False,
        )
        energy = ops.square(real) + ops.square(imag)
        if self._pads_end:
            energy = energy[:, :frames]
        return energy if self.power == 2 else _power(energy, self.power / 2)

    def _num_frames(self, time: int | None) -> int | None:
        if self._pads_end or time is None:
            return output_length(time, self._window_size, self._stride, "same")
        padded = time + 2 * self._centre_pad
        return output_length(padded, self._fft_length, self._stride, "valid")

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        return (batch, self._num_frames(time), self.n_filters)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if previous_mask is None or self._pads_end:
            return super().compute_mask(inputs, previous_mask)
        # Valid frames are those that the valid samples alone would have.
        first = self._fft_length - 2 * self._centre_pad - 1
        if first < 0:
            previous_mask = ops.concatenate(
                [previous_mask[:, :1], previous_mask], axis=1
            )
            first = 0
        return previous_mask[:, first :: self._stride]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_fft": self.n_fft,
            "win_length": self.win_length,
            "hop_length": self.hop_length,
            "window": (
                self.window
                if isinstance(self.window, str)
                else [float(value) for value in self.window]
            ),
            "power": self.power,
            "center": self.center,
            "pad_mode": self.pad_mode,
            "pad_end": self.pad_end,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class MelFilterbanks(_StftFrontend):
    """Mel filterbanks, the fixed baseline: STFT, squared magnitude, mel, log.

    By default as LEAF's release; `MelFilterbanks.from_preset` has the
    conventions of librosa and torchaudio.

    Args:
      n_filters: number of mel filters.
      sample_rate: of the waveforms, in Hz.
      n_fft: length of the FFT, in samples, at least the window's; None is the
        smallest power of two that holds the window and gives each filter a
        bin, 512 for the other defaults.
      window_len: in ms.
      window_stride: in ms.
      compression_fn: a layer or a function on energies; a name, `"log"`,
        `"db"` or `"pcen"`; None for none. For other settings than their
        defaults, functools.partial of `log_compression` or `db_compression`. A
        layer is copied.
      min_freq: lower edge of the lowest filter, in Hz.
      max_freq: upper edge of the highest, in Hz; None or 0 is the Nyquist
        frequency, `"auto"` 97.5 % of it, 7800 Hz at 16 kHz.
      spec_augment: True, or a layer such as SpecAugment(), which is copied.
      mel_scale: `"htk"` or `"slaney"`.
      norm: None for filters with a peak of 1; `"slaney"` divides each by half
        its width in Hz.
      triangles: the axis on which the filters' sides are straight, `"mel"` as
        in HTK and TensorFlow, or `"hz"` as in librosa and torchaudio.
      power: of the magnitudes that the filters sum, positive: 2 for energies, 1
        for magnitudes.
      window: `"hann"`, `"hamming"`, `"blackman"` or `"boxcar"`, periodic;
        `"tf_hann"`, TensorFlow's Hann window, which is symmetric where its
        length is odd; or the window's values.
      win_length: length of the window in samples, in place of `window_len`.
      hop_length: samples from frame to frame, in place of `window_stride`.
      center: whether the middle of frame m, `n_fft` samples long, is sample
        `stride * m`, `n_fft // 2` samples being put before and after the input.
        Else frame m begins there.
      pad_mode: what those are where `center`: `"constant"` for zeros, or
        `"reflect"`. A mask does not move the end at which they are.
      pad_end: where not `center`: True for a frame wherever the input has a
        sample, the window's samples `stride * m` to `stride * m + window`, with
        zeros past the end; False for frames of `n_fft` samples, the window in
        their middle, that lie wholly within the input.
      allow_empty_filters: whether a filter may be too narrow to have a bin of
        the FFT, so that its energy is always 0, as in librosa and torchaudio.
      multichannel: whether to take waveforms of any number of channels, and to
        give features a channel axis.
      name: of the model.
      **kwargs: of keras.Model, such as `dtype`.

    Raises:
      ValueError: an argument is out of range; a filter gets no bin of the FFT;
        inputs are not floating-point waveforms of one channel, or too short:
        `n_fft // 2 + 1` samples are needed to reflect, `n_fft` where nothing is
        padded. In a graph for inputs of unknown length, it is TensorFlow that
        says so in the former case, and the latter gives no frame.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, n_filters)`, with `multichannel` `(batch, frames,
      n_filters, channels)`. There are `ceil(time / stride)` frames; with
      `center` `1 + (time + 2 * (n_fft // 2) - n_fft) // stride`, which for an
      even `n_fft` is `1 + time // stride`; with neither `center` nor `pad_end`
      `1 + (time - n_fft) // stride`.

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
        n_fft: int | None = None,
        window_len: float = _WINDOW_LEN,
        window_stride: float = 10.0,
        compression_fn: Any = "log",
        min_freq: float = mel.DEFAULT_MIN_FREQ,
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
            n_filters,
            sample_rate,
            n_fft,
            window_len,
            window_stride,
            win_length,
            hop_length,
            window,
            power,
            center,
            pad_mode,
            pad_end,
            compression_fn,
            spec_augment,
            multichannel=multichannel,
            name=name,
            **kwargs,
        )
        self.min_freq = min_freq
        self.max_freq = max_freq
        self.mel_scale = check_choice("mel_scale", mel_scale, mel.MEL_SCALES)
        self.norm = norm
        if norm is not None:
            self.norm = check_choice("norm", norm, ("slaney",))
        self.triangles = check_choice("triangles", triangles, ("mel", "hz"))
        self.allow_empty_filters = check_bool(
            "allow_empty_filters", allow_empty_filters
        )
        highest = mel.resolve_max_freq(max_freq, sample_rate)
        if n_fft is None:
            n_fft = mel.smallest_n_fft(
                n_filters,
                self._window_size,
                sample_rate,
                min_freq,
                highest,
                self.mel_scale,
            )
        self._set_fft_length(check_positive_int("n_fft", n_fft))
        weights = mel.mel_matrix(
            n_filters,
            n_fft,
            sample_rate,
            min_freq,
            highest,
            self.mel_scale,
            self.norm,
            self.triangles,
        )
        if not allow_empty_filters:
            mel.check_every_filter_has_a_bin(weights, n_fft)
        self._mel_matrix = weights.T.astype(self._wide)

    def _features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        energies = ops.matmul(self._spectrogram(audio), self._mel_matrix)
        return self._compress(
            energies, self.compute_mask(audio, mask), training
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "min_freq": self.min_freq,
            "max_freq": self.max_freq,
            "mel_scale": self.mel_scale,
            "norm": self.norm,
            "triangles": self.triangles,
            "allow_empty_filters": self.allow_empty_filters,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class Spectrogram(_StftFrontend):
    """Plain spectrograms, `|STFT|**power`, at every bin of the FFT.

    Args:
      sample_rate: of the waveforms, in Hz.
      n_fft: length of the FFT, in samples, at least the window's; None is the
        smallest power of two that holds the window, 512 for the other defaults.
      window_len: as in MelFilterbanks, and so all others.
      window_stride: in ms.
      compression_fn: None for none, by default.
      spec_augment: True, or a layer such as SpecAugment(), which is copied.
      power: 2 for energies, 1 for magnitudes.
      window: a name, or the window's values.
      win_length: in samples, in place of `window_len`.
      hop_length: in samples, in place of `window_stride`.
      center: whether frames lie about, not after, multiples of the stride.
      pad_mode: `"constant"` or `"reflect"`, where `center`.
      pad_end: whether frames reach past the end, where not `center`.
      multichannel: whether to take waveforms of any number of channels.
      name: of the model.
      **kwargs: of keras.Model, such as `dtype`.

    Raises:
      ValueError: an argument is out of range, or inputs are not floating-point
        waveforms of one channel, or too short; see MelFilterbanks.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, frames, n_fft // 2 + 1)`, with `multichannel` `(batch, frames,
      n_fft // 2 + 1, channels)`; as many frames as MelFilterbanks has.

    Example:

    ```python
    magnitudes = frontend.Spectrogram.from_preset("librosa", power=1.0)
    ```
    """

    _presets = _STFT_PRESETS

    def __init__(
        self,
        sample_rate: float = 16000,
        n_fft: int | None = None,
        window_len: float = _WINDOW_LEN,
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
        name: str = "spectrogram",
        **kwargs: Any,
    ):
        if n_fft is None:
            size = win_length
            if size is None:
                size = window_size(
                    check_positive("sample_rate", sample_rate),
                    check_positive("window_len", window_len),
                )
            size = check_positive_int("win_length", size)
            fft_length = 1 << max(1, (size - 1).bit_length())
        else:
            fft_length = check_positive_int("n_fft", n_fft)
        super().__init__(
            fft_length // 2 + 1,
            sample_rate,
            n_fft,
            window_len,
            window_stride,
            win_length,
            hop_length,
            window,
            power,
            center,
            pad_mode,
            pad_end,
            compression_fn,
            spec_augment,
            multichannel=multichannel,
            name=name,
            **kwargs,
        )
        self._set_fft_length(fft_length)

    def _features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        energies = self._spectrogram(audio)
        return self._compress(
            energies, self.compute_mask(audio, mask), training
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # It follows from `n_fft`.
        del config["n_filters"]
        return config


def _of_power(compression_fn: Any, power: float) -> Any:
    """Tells decibels what they are of, unless that has been said."""
    name = compression_fn.lower() if isinstance(compression_fn, str) else None
    function = db_compression if name == "db" else compression_fn
    target = getattr(function, "func", function)
    bound = getattr(function, "keywords", {})
    if target is db_compression and "power" not in bound:
        return functools.partial(function, power=power)
    return compression_fn


def _window_values(window: Any, size: int) -> np.ndarray:
    if isinstance(window, str):
        name = check_choice("window", window, impulse_responses.STFT_WINDOWS)
        return impulse_responses.stft_window(name, size)
    values = np.asarray(window, dtype="float64")
    if values.shape != (size,):
        raise ValueError(
            f"`window` must be one of {impulse_responses.STFT_WINDOWS} or as "
            f"many values as the window has samples, {size}. Received: values "
            f"of shape {values.shape}."
        )
    return values


def _power(x: Tensor, exponent: float) -> Tensor:
    """Computes `x ** exponent` for x >= 0, with a gradient of 0 at 0."""
    is_zero = ops.equal(x, 0)
    safe = ops.where(is_zero, ops.ones_like(x), x)
    powered = ops.sqrt(safe) if exponent == 0.5 else ops.power(safe, exponent)
    return ops.where(is_zero, ops.zeros_like(x), powered)
