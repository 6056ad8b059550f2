"""What the frontends on the short-time Fourier transform (STFT) share.

Bin k of the transform has the frequency `k * sample_rate / n_fft` Hz. Libraries
differ in where the frames lie and which window they use. The default is that of
the release of LEAF; `from_preset` offers those of librosa and torchaudio.

`mel_filterbanks` and `spectrogram` hold the frontends themselves.
"""

import functools
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.blocks import cut_into_blocks, frames_of_blocks
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_numbers,
    check_positive,
    check_positive_int,
    check_size,
    check_unless_none,
)
from leaf_audio.common.fourier import rfft
from leaf_audio.common.framing import clip_lengths, take_rows
from leaf_audio.common.portable import is_portable
from leaf_audio.common.sizes import frame_sizes, output_length, window_size
from leaf_audio.frontend.base import Frontend, Shape, Tensor
from leaf_audio.frontend.channels import folded_shape
from leaf_audio.frontend.layer_calls import build_chain
from leaf_audio.frontend.streaming import Reach
from leaf_audio.postprocessing import db_compression

# Default length of the window, in milliseconds.
WINDOW_LEN_MS = 25.0

_PAD_MODES = ("constant", "reflect")

# The arguments that differ from the defaults. `from_preset` adds the lengths
# that follow from other arguments.
STFT_PRESETS = {
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


class StftFrontend(Frontend):
    """Base class of the frontends on the STFT: computes `|STFT|**power`.

    A subclass calls `_set_fft_length` at the end of its constructor, and
    computes its features from `_spectrogram`.

    Args:
      n_filters: Positive integer. Number of output channels.
      sample_rate: Positive number. Sample rate, in Hz.
      n_fft: Positive integer, None or `"auto"`. Length of the FFT as given.
      window_len: Positive number. Length of the window, in milliseconds.
      window_stride: Positive number. Hop between frames, in milliseconds.
      win_length: Positive integer. Length of the window in samples, in place of
        `window_len`; or None.
      hop_length: Positive integer. Hop in samples, in place of `window_stride`;
        or None.
      window: Name of a window, or its values.
      power: Positive number. Power of the magnitudes.
      center: Boolean. Whether frame m is centred on sample `stride * m`.
      pad_mode: `"constant"` or `"reflect"`. Padding of centred frames.
      pad_end: Boolean. Whether frames may reach past the end.
      compression_fn: See `Frontend`.
      spec_augment: See `Frontend`.
      **kwargs: Other arguments of `Frontend`.
    """

    _presets: dict[str, dict[str, Any]]

    def __init__(
        self,
        n_filters: int,
        sample_rate: float,
        n_fft: int | str | None,
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
            compression_fn = _with_power(compression_fn, power)
        check_unless_none(
            check_size, win_length=win_length, hop_length=hop_length
        )
        # The base class asks for the sizes of frames.
        self.win_length = win_length
        self.hop_length = hop_length
        super().__init__(
            n_filters=n_filters,
            sample_rate=sample_rate,
            window_len=window_len,
            window_stride=window_stride,
            compression_fn=compression_fn,
            spec_augment=spec_augment,
            **kwargs,
        )
        self.n_fft = n_fft
        self.window = (
            window
            if isinstance(window, str)
            else check_numbers("window", window)
        )
        self.power = power
        self.center = check_bool("center", center)
        self.pad_mode = check_choice("pad_mode", pad_mode, _PAD_MODES)
        self.pad_end = check_bool("pad_end", pad_end)
        self._window = _window_values(window, self._window_size).astype(
            self._internal_dtype
        )

    def _frame_sizes(self) -> tuple[int, int]:
        return frame_sizes(
            self.sample_rate,
            self.window_len,
            self.window_stride,
            self.win_length,
            self.hop_length,
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
    def _covers_end(self) -> bool:
        """Whether the last frames reach past the end, into zeros."""
        return self.pad_end and not self.center

    @classmethod
    def from_preset(cls, preset: str, **settings: Any) -> Any:
        """Creates a frontend that follows the conventions of a library.

        Args:
          preset: `"librosa"` for `librosa.feature.melspectrogram`, or for the
            squared magnitude of `librosa.stft`; `"torchaudio"` for its
            `MelSpectrogram` or `Spectrogram`; `"leaf"` for the defaults of the
            constructor.
          **settings: Arguments of the constructor. They take precedence over
            the preset. Unless it is given, the window is as long as `n_fft`,
            and with `"torchaudio"` the hop is half of the window, as in these
            libraries.

        Returns:
          A frontend.

        Raises:
          ValueError: If there is no such preset, or if a setting is out of
            range.
        """
        preset = check_choice("preset", preset, tuple(cls._presets))
        merged = {**cls._presets[preset], **settings}
        if preset != "leaf":
            if "window_len" not in settings:
                n_fft = merged["n_fft"]
                merged.setdefault(
                    "win_length", None if n_fft == "auto" else n_fft
                )
            if "window_stride" in settings:
                merged["hop_length"] = settings.get("hop_length")
        if preset == "torchaudio" and "hop_length" not in merged:
            length = merged.get("win_length")
            if length is None:
                length = window_size(
                    merged["sample_rate"],
                    merged.get("window_len", WINDOW_LEN_MS),
                )
            merged["hop_length"] = check_positive_int("win_length", length) // 2
        return cls(**merged)

    def _check_inputs(self, shape: Shape, dtype: Any = None) -> None:
        super()._check_inputs(shape, dtype)
        min_samples = 1
        if self.center and self.pad_mode == "reflect":
            min_samples = self._centre_pad + 1
        elif not self.center and not self.pad_end:
            min_samples = self._fft_length
        if shape[1] is not None and shape[1] < min_samples:
            raise ValueError(
                f"{self.name} needs {min_samples} samples at least, with "
                f"center={self.center}, pad_mode={self.pad_mode!r} and "
                f"pad_end={self.pad_end}. Received: inputs of shape "
                f"{tuple(shape)}."
            )

    def build(self, input_shape: Shape) -> None:
        self._check_inputs(input_shape)
        shape = self._energies_shape(*folded_shape(input_shape)[:2])
        build_chain([self._compression], shape)
        self._finish_build(input_shape)

    def _spectrogram(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        """Computes `|STFT|**power`.

        Args:
          audio: Waveforms of shape `(batch, time, 1)`, with zeros where the
            mask is False.
          mask: Boolean tensor of shape `(batch, time)`, or None.

        Returns:
          A tensor of shape `(batch, frames, n_fft // 2 + 1)`.
        """
        audio = audio[..., 0]
        if self._covers_end:
            frames = (ops.shape(audio)[1] + self._stride - 1) // self._stride
            # `ops.stft` puts a window that is shorter than the FFT in the
            # middle of it, and returns only the frames whose FFT lies within
            # the input.
            before = (self._fft_length - self._window_size) // 2
            after = self._fft_length + self._stride - before
            audio = ops.pad(audio, [[0, 0], [before, after]])
        elif self.center and self.pad_mode == "reflect" and mask is not None:
            audio = _reflect(audio, clip_lengths(mask), self._centre_pad)
        elif self.center:
            pad = self._centre_pad
            audio = ops.pad(audio, [[0, 0], [pad, pad]], mode=self.pad_mode)
        real, imag = self._stft(audio)
        energy = ops.square(real) + ops.square(imag)
        if self._covers_end:
            energy = energy[:, :frames]
        return energy if self.power == 2 else _power(energy, self.power / 2)

    def _reach(self, length: int | None) -> Reach:
        if self._covers_end:
            return Reach(0, self._window_size)
        if not self.center:
            # There is no frame whose FFT reaches over the end.
            return Reach(0, self._fft_length)
        if self.pad_mode == "reflect":
            return Reach(self._centre_pad + 1, self._centre_pad + 1)
        before = self._centre_pad - (self._fft_length - self._window_size) // 2
        return Reach(before, max(self._window_size - before, 1))

    def _stft(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the STFT of `(batch, time)`, without any padding.

        Returns:
          The real and the imaginary parts, `(batch, frames, n_fft // 2 + 1)`.
        """
        if not is_portable():
            return ops.stft(
                audio,
                sequence_length=self._window_size,
                sequence_stride=self._stride,
                fft_length=self._fft_length,
                window=self._window,
                center=False,
            )
        length, stride = self._fft_length, self._stride
        count = (ops.shape(audio)[1] - length + stride) // stride
        # A frame reaches over the blocks after it.
        reach = -(-length // stride)
        blocks = cut_into_blocks(
            audio, stride, count + reach - 1, max_padding=(0, reach * stride)
        )
        frames = ops.concatenate(
            frames_of_blocks(blocks, count, 0, length), axis=-1
        )
        before = (length - self._window_size) // 2
        window = np.pad(
            self._window, (before, length - self._window_size - before)
        )
        return rfft(frames * window, length)

    def _num_frames(self, time: int | None) -> int | None:
        if self._covers_end or time is None:
            return output_length(time, self._window_size, self._stride, "same")
        padded = time + 2 * self._centre_pad
        return output_length(padded, self._fft_length, self._stride, "valid")

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        return (batch, self._num_frames(time), self.n_filters)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if previous_mask is None or self._covers_end:
            return super().compute_mask(inputs, previous_mask)
        # The valid samples alone would give as many frames.
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


def _with_power(compression_fn: Any, power: float) -> Any:
    """Sets the argument `power` of `db_compression` where it is not set.

    Args:
      compression_fn: Argument of a frontend.
      power: Power of the magnitudes that are compressed.

    Returns:
      A partial of `db_compression` with `power`. Another compression is
      returned as it is.
    """
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
            f"many values as the window has samples, {size}. Received: "
            f"window={reprlib.repr(window)}, of shape {values.shape}."
        )
    return values


def _reflect(audio: Tensor, lengths: Tensor, pad: int) -> Tensor:
    """Mirrors clips at both ends, each at its own.

    Args:
      audio: `(batch, time)`.
      lengths: Lengths of the clips in samples, `(batch,)`. Clips that are not
        longer than `pad` are mirrored again and again, as NumPy does it.
      pad: Number of samples to add at both ends.

    Returns:
      An array `(batch, pad + time + pad)`. Its samples from `pad` more than the
      length of a clip on, after its start, are of no meaning.
    """
    count = ops.shape(audio)[1] + 2 * pad
    positions = ops.arange(count, dtype="int32")[None] - pad
    last = ops.maximum(lengths - 1, 0)[:, None]
    # The mirrored signal repeats after there and back.
    phase = positions % ops.maximum(2 * last, 1)
    return take_rows(audio, ops.minimum(phase, 2 * last - phase))


def _power(x: Tensor, exponent: float) -> Tensor:
    """Computes `x**exponent` for x >= 0, with a gradient of 0 at x = 0."""
    is_zero = ops.equal(x, 0)
    safe = ops.where(is_zero, ops.ones_like(x), x)
    powered = ops.sqrt(safe) if exponent == 0.5 else ops.power(safe, exponent)
    return ops.where(is_zero, ops.zeros_like(x), powered)
