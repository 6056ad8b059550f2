"""Initializers of the filters of a frontend.

A setting left None follows the frontend that the initializer is given to, or
LEAF's own (16 kHz, 25 ms) where a layer uses the initializer by itself.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import impulse_responses, mel
from leaf_audio.settings import (
    check_choice,
    check_not_negative,
    check_positive,
    check_positive_int,
    window_size,
)

_SAMPLE_RATE = 16000
_WINDOW_LEN_MS = 25.0


class FrontendInitializer(keras.initializers.Initializer):
    """Base of the initializers whose settings can follow a frontend's."""

    def following(
        self, sample_rate: float, window_len: float
    ) -> "FrontendInitializer":
        """Returns a copy with settings left None taken from a frontend.

        Args:
          sample_rate: the frontend's sample rate, in Hz.
          window_len: the frontend's window, in ms.

        Raises:
          ValueError: the frontend's settings do not suit the others.
        """
        config = self.get_config()
        for name, value in (
            ("sample_rate", sample_rate),
            ("window_len", window_len),
        ):
            if name in config and config[name] is None:
                config[name] = value
        return type(self).from_config(config)


@keras.saving.register_keras_serializable("leaf_audio")
class PreempInit(keras.initializers.Initializer):
    """Initializes a pre-emphasis, `y(t) = x(t + 1) − alpha · x(t)`.

    Args:
      alpha: in [0, 1]; the higher, the more low frequencies are attenuated.

    Raises:
      ValueError: `alpha` is out of range, or the kernel's shape is not
        `(2, 1, 1)`.
    """

    def __init__(self, alpha: float = 0.97):
        if check_not_negative("alpha", alpha) > 1:
            raise ValueError(
                f"`alpha` must be at most 1. Received: alpha={alpha!r}."
            )
        self.alpha = alpha

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        if tuple(shape) != (2, 1, 1):
            raise ValueError(
                "A pre-emphasis must have a kernel of shape (2, 1, 1). "
                f"Received: shape={tuple(shape)}."
            )
        kernel = np.array([-self.alpha, 1.0]).reshape(shape)
        return ops.convert_to_tensor(kernel, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


@keras.saving.register_keras_serializable("leaf_audio")
class GaborInit(FrontendInitializer):
    """Initializes Gabor filters to match a mel filterbank.

    For a weight of shape `(n_filters, 2)` it gives centre frequencies in
    rad/sample and standard deviations in samples; for a full kernel of shape
    `(kernel_size, 1, 2 * n_filters)` the filters themselves, scaled to the
    energies of the mel filters, real and imaginary parts interleaved.

    `method` is `"mel"`, filters read off a mel matrix on the bins of an FFT, as
    LEAF does; or `"mel_analytic"`, centres f equally far apart in mel and
    standard deviations `(sample_rate / 2) / (f_{n+1} - f_{n-1})`, with f in Hz,
    as in EfficientLEAF, for weights of shape `(n_filters, 2)` alone.

    Differs from the original, which needs `sample_rate` and `n_fft` repeated
    for every frontend that is not LEAF's default, and answers NaN where the
    FFT is too short for a filter.

    Args:
      sample_rate: in Hz; None follows the frontend (16000 without one).
      min_freq: lower edge of the lowest mel filter, in Hz.
      max_freq: upper edge of the highest, in Hz; None is the Nyquist frequency,
        `"auto"` is 97.5 % of it (LEAF's 7800 Hz at 16 kHz).
      n_fft: length of the FFT on whose bins the mel filters are sampled; None
        takes the smallest power of two that holds the window and gives every
        filter a bin (512 for LEAF's default).
      normalize_energy: divide every mel filter by its area first; changes
        full kernels only.
      n_filters: None, or the number of filters that the weight must have.
      window_len: window of the frontend in ms, for the choice of `n_fft`; None
        follows the frontend (25 ms without one).
      method: as above; `"mel_analytic"` takes no `n_fft`.

    Raises:
      ValueError: the band is empty or above Nyquist, `n_fft` leaves a filter
        without a bin, an argument means nothing to the method, or the weight's
        shape is none that it has values for.

    Example:

    ```python
    leaf = frontend.Leaf(
        sample_rate=24000,
        complex_conv_init=initializers.GaborInit(min_freq=100.0),
    )
    ```

    Reference: LEAF, arXiv:2101.08596, section 3.1; time-domain filterbanks,
    arXiv:1711.01161, section 2.2; EfficientLEAF, arXiv:2207.05508.
    """

    def __init__(
        self,
        sample_rate: float | None = None,
        min_freq: float = 0.0,
        max_freq: float | str | None = None,
        n_fft: int | None = None,
        normalize_energy: bool = False,
        n_filters: int | None = None,
        window_len: float | None = None,
        method: str = "mel",
    ):
        self.method = check_choice("method", method, ("mel", "mel_analytic"))
        if n_fft is not None and self.method != "mel":
            raise ValueError(
                "`n_fft` must be None unless `method` is 'mel'. Received: "
                f"n_fft={n_fft}, method={method!r}."
            )
        _check_unless_none(
            check_positive, sample_rate=sample_rate, window_len=window_len
        )
        _check_unless_none(check_positive_int, n_fft=n_fft, n_filters=n_filters)
        if sample_rate is not None:
            highest = mel.resolve_max_freq(max_freq, sample_rate)
            mel.check_band(min_freq, highest, sample_rate)
        self.sample_rate = sample_rate
        self.min_freq = min_freq
        self.max_freq = max_freq
        self.n_fft = n_fft
        self.normalize_energy = normalize_energy
        self.n_filters = n_filters
        self.window_len = window_len

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        shape = tuple(shape)
        if len(shape) == 2 and shape[1] == 2:
            parameters = self._parameters(shape[0])
            return ops.convert_to_tensor(parameters, dtype)
        is_kernel = len(shape) == 3 and shape[1] == 1 and shape[2] % 2 == 0
        if is_kernel and self.method == "mel":
            weights, n_fft = self._mel_matrix(shape[2] // 2)
            kernels = mel.gabor_kernels(
                weights, n_fft, shape[0], self.normalize_energy
            )
            interleaved = np.stack([kernels.real, kernels.imag], axis=1)
            kernel = interleaved.reshape(shape[2], -1).T[:, None]
            return ops.convert_to_tensor(kernel, dtype)
        raise ValueError(
            "GaborInit initializes weights of shape (n_filters, 2) or "
            "(kernel_size, 1, 2 * n_filters), the latter with method='mel' "
            f"alone. Received: shape={shape}, method={self.method!r}."
        )

    def _parameters(self, n_filters: int) -> np.ndarray:
        if self.method == "mel":
            weights, n_fft = self._mel_matrix(n_filters)
            return mel.gabor_parameters(weights, n_fft, self.normalize_energy)
        self._check_n_filters(n_filters)
        sample_rate = self.sample_rate or _SAMPLE_RATE
        return mel.analytic_gabor_parameters(
            n_filters,
            sample_rate,
            self.min_freq,
            mel.resolve_max_freq(self.max_freq, sample_rate),
        )

    def _check_n_filters(self, n_filters: int) -> None:
        if self.n_filters not in (None, n_filters):
            raise ValueError(
                "`n_filters` of GaborInit must be the number of filters of the "
                f"layer. Received: n_filters={self.n_filters} for a layer of "
                f"{n_filters}."
            )

    def _mel_matrix(self, n_filters: int) -> tuple[np.ndarray, int]:
        self._check_n_filters(n_filters)
        sample_rate = self.sample_rate or _SAMPLE_RATE
        max_freq = mel.resolve_max_freq(self.max_freq, sample_rate)
        n_fft = self.n_fft or mel.smallest_n_fft(
            n_filters,
            window_size(sample_rate, self.window_len or _WINDOW_LEN_MS),
            sample_rate,
            self.min_freq,
            max_freq,
        )
        weights = mel.mel_matrix(
            n_filters, n_fft, sample_rate, self.min_freq, max_freq
        )
        mel.check_every_filter_has_a_bin(weights, n_fft)
        return weights, n_fft

    def get_config(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "min_freq": self.min_freq,
            "max_freq": self.max_freq,
            "n_fft": self.n_fft,
            "normalize_energy": self.normalize_energy,
            "n_filters": self.n_filters,
            "window_len": self.window_len,
            "method": self.method,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class SincInit(FrontendInitializer):
    """Initializes band-pass filters of equal width on the mel scale.

    Gives a weight of shape `(n_filters, 2)`: left edge and width in Hz of
    `n_filters` neighbouring bands from `min_low_hz` to the Nyquist frequency
    less `min_low_hz + min_band_hz`. SincConv1D adds its own minima to both, so
    that its filters start `min_low_hz` above these edges, as the original's do.

    Args:
      sample_rate: in Hz; None follows the frontend (16000 without one).
      min_low_hz: the lowest edge, in Hz.
      min_band_hz: the least width, in Hz.

    Raises:
      ValueError: an argument is out of range, no band is left, or the
        weight's shape is another.

    Reference: SincNet, arXiv:1808.00158, section 2.
    """

    def __init__(
        self,
        sample_rate: float | None = None,
        min_low_hz: float = 50.0,
        min_band_hz: float = 50.0,
    ):
        _check_unless_none(check_positive, sample_rate=sample_rate)
        self.sample_rate = sample_rate
        self.min_low_hz = check_not_negative("min_low_hz", min_low_hz)
        self.min_band_hz = check_not_negative("min_band_hz", min_band_hz)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        if len(shape) != 2 or shape[1] != 2:
            raise ValueError(
                "SincInit initializes weights of shape (n_filters, 2). "
                f"Received: shape={tuple(shape)}."
            )
        sample_rate = self.sample_rate or _SAMPLE_RATE
        high_hz = sample_rate / 2 - (self.min_low_hz + self.min_band_hz)
        if high_hz <= self.min_low_hz:
            raise ValueError(
                "`sample_rate` leaves no band above `min_low_hz`. Received: "
                f"sample_rate={sample_rate}, min_low_hz={self.min_low_hz}, "
                f"min_band_hz={self.min_band_hz}."
            )
        edges = mel.mel_to_hz(
            np.linspace(
                mel.hz_to_mel(self.min_low_hz),
                mel.hz_to_mel(high_hz),
                shape[0] + 1,
            )
        )
        bands = np.stack([edges[:-1], np.diff(edges)], axis=1)
        return ops.convert_to_tensor(bands, dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "min_low_hz": self.min_low_hz,
            "min_band_hz": self.min_band_hz,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class LowpassInit(FrontendInitializer):
    """Initializes a pooling kernel with a window, the same in every channel.

    The window is as long as the kernel: `(kernel_size, 1, channels)`, or
    `(1, kernel_size, channels, 1)`.

    Args:
      sample_rate: in Hz; with `window_len`, a check on the kernel's length.
      window_len: in ms; likewise.
      window_type: `"hamming"`, `"hanning"`, `"squared_hanning"` or
        `"tf_hann"`; see `impulse_responses.window`.

    Raises:
      ValueError: the window is unknown, the weight's shape is another, or its
        length is not what `sample_rate` and `window_len` make.

    Reference: time-domain filterbanks, arXiv:1711.01161, section 2.
    """

    def __init__(
        self,
        sample_rate: float | None = None,
        window_len: float | None = None,
        window_type: str = "squared_hanning",
    ):
        _check_unless_none(
            check_positive, sample_rate=sample_rate, window_len=window_len
        )
        if window_type not in impulse_responses.WINDOWS:
            raise ValueError(
                f"`window_type` must be one of {impulse_responses.WINDOWS}. "
                f"Received: window_type={window_type!r}."
            )
        self.sample_rate = sample_rate
        self.window_len = window_len
        self.window_type = window_type

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        shape = tuple(shape)
        if len(shape) == 3 and shape[1] == 1:
            size, along_time = shape[0], (-1, 1, 1)
        elif len(shape) == 4 and shape[0] == 1 and shape[3] == 1:
            size, along_time = shape[1], (1, -1, 1, 1)
        else:
            raise ValueError(
                "LowpassInit initializes weights of shape (kernel_size, 1, "
                "channels) or (1, kernel_size, channels, 1). Received: "
                f"shape={shape}."
            )
        if self.sample_rate is not None and self.window_len is not None:
            expected = window_size(self.sample_rate, self.window_len)
            if expected != size:
                raise ValueError(
                    "`sample_rate` and `window_len` of LowpassInit must make "
                    "the length of the kernel. Received: "
                    f"sample_rate={self.sample_rate}, "
                    f"window_len={self.window_len}, that is {expected} "
                    f"samples, for a kernel of {size}."
                )
        values = impulse_responses.window(self.window_type, size).reshape(
            along_time
        )
        kernel = np.ascontiguousarray(np.broadcast_to(values, shape))
        return ops.convert_to_tensor(kernel, dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "window_len": self.window_len,
            "window_type": self.window_type,
        }


def _check_unless_none(check: Callable, **arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            check(name, value)
