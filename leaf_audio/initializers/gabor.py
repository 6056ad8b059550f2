"""Initializers of the filters of a frontend.

A setting left None follows the frontend that the initializer is given to, or
LEAF's own (16 kHz, 25 ms) where a layer uses the initializer by itself.
"""

import numbers
import os
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_not_negative,
    check_positive,
    check_positive_int,
)
from leaf_audio.common.sizes import window_size
from leaf_audio.initializers import mel, spacing

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
    """Initializes Gabor filters: a mel filterbank's, or others.

    For a weight of shape `(n_filters, 2)` it gives centre frequencies in
    rad/sample and standard deviations in samples; for a full kernel of shape
    `(kernel_size, 1, 2 * n_filters)` the filters themselves, scaled to the
    energies of the mel filters, or of the triangles of other methods, real and
    imaginary parts interleaved.

    `method` chooses among

    - `"mel"`: read off a mel matrix on the bins of an FFT, as LEAF does;
    - `"mel_analytic"`: the same filters by formula, as in EfficientLEAF;
    - `"linear"`: equally spaced in Hz, hence of one bandwidth; `"bark"`,
      `"erb"`: equally spaced on these scales (`spacing` has the formulas);
    - `"constant"`: all filters alike, in the middle of the band;
    - `"uniform"`, `"truncated_normal"`: centres and widths at random, sorted
      by centre.

    Differs from the original, which has `"mel"` alone, needs `sample_rate` and
    `n_fft` repeated for every frontend that is not LEAF's default, and answers
    NaN where the FFT is too short for a filter.

    Args:
      sample_rate: in Hz; None follows the frontend (16000 without one).
      min_freq: lower edge of the band, and of the lowest mel filter, in Hz;
        above 0 for `"constant"`.
      max_freq: upper edge of the band, in Hz; None is the Nyquist frequency,
        `"auto"` is 97.5 % of it (LEAF's 7800 Hz at 16 kHz).
      n_fft: for `"mel"`, length of the FFT on whose bins the filters are
        sampled; None takes the smallest power of two that holds the window and
        gives every filter a bin (512 for LEAF's default).
      normalize_energy: divide every mel filter, or triangle, by its area first;
        changes full kernels only.
      n_filters: None, or the number of filters that the weight must have.
      window_len: window of the frontend in ms, for the choice of `n_fft` and
        of the narrowest random filter; None follows the frontend (25 ms
        without one).
      method: as above.
      bandwidth_hz: full width at half maximum of every filter's magnitude
        response, in Hz, whatever its centre; None has the method choose. Not
        for `"mel"`.
      seed: of the random methods, which draw the same for the same seed; None
        draws one, which `keras.utils.set_random_seed` determines.

    Raises:
      ValueError: the band is empty or above Nyquist, `n_fft` leaves a filter
        without a bin, an argument means nothing to the method, or the weight's
        shape is neither of the two.

    Example:

    ```python
    leaf = frontend.Leaf(
        sample_rate=24000,
        complex_conv_init=initializers.GaborInit(min_freq=100.0, method="erb"),
    )
    ```

    Reference: LEAF, arXiv:2101.08596, section 3.1; time-domain filterbanks,
    arXiv:1711.01161, section 2.2; EfficientLEAF, arXiv:2207.05508. Linear,
    Bark, constant and random filters are compared in arXiv:2302.10014 and in
    doi:10.1038/s41598-026-49403-4, whose formula `"constant"` is.
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
        bandwidth_hz: float | None = None,
        seed: int | None = None,
    ):
        _check_unless_none(
            check_positive,
            sample_rate=sample_rate,
            window_len=window_len,
            bandwidth_hz=bandwidth_hz,
        )
        _check_unless_none(check_positive_int, n_fft=n_fft, n_filters=n_filters)
        if sample_rate is not None:
            highest = mel.resolve_max_freq(max_freq, sample_rate)
            mel.check_band(min_freq, highest, sample_rate)
        self.sample_rate = sample_rate
        self.min_freq = min_freq
        self.max_freq = max_freq
        self.n_fft = n_fft
        self.normalize_energy = check_bool("normalize_energy", normalize_energy)
        self.n_filters = n_filters
        self.window_len = window_len
        self.method = check_choice("method", method, ("mel", *spacing.METHODS))
        self.bandwidth_hz = bandwidth_hz
        self.seed = seed
        self._check_method()
        if seed is None and self.method in spacing.RANDOM:
            # Kept, since a layer may ask for its initial values twice; and
            # from Python's generator, which keras.utils.set_random_seed sets.
            self.seed = random.randrange(2**31)

    def _check_method(self) -> None:
        for name, methods in (
            ("n_fft", ("mel",)),
            ("bandwidth_hz", spacing.METHODS),
            ("seed", spacing.RANDOM),
        ):
            value = getattr(self, name)
            if value is not None and self.method not in methods:
                raise ValueError(
                    f"`{name}` must be None unless `method` is one of "
                    f"{methods}. Received: {name}={value!r}, "
                    f"method={self.method!r}."
                )
        if self.method == "constant" and self.min_freq == 0:
            raise ValueError(
                "`min_freq` must be positive for method='constant', whose "
                "filters lie at the geometric mean of the band's edges. "
                f"Received: min_freq={self.min_freq!r}."
            )
        if self.seed is not None:
            check_not_negative("seed", self.seed)
            if not isinstance(self.seed, numbers.Integral):
                raise ValueError(
                    "`seed` must be an integer that is not negative. "
                    f"Received: seed={self.seed!r}."
                )

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        shape = tuple(shape)
        if len(shape) == 2 and shape[1] == 2:
            parameters = self._parameters(shape[0])
            return ops.convert_to_tensor(parameters, dtype)
        if len(shape) == 3 and shape[1] == 1 and shape[2] % 2 == 0:
            kernels = self._kernels(shape[2] // 2, shape[0])
            interleaved = np.stack([kernels.real, kernels.imag], axis=1)
            kernel = interleaved.reshape(shape[2], -1).T[:, None]
            return ops.convert_to_tensor(kernel, dtype)
        raise ValueError(
            "GaborInit initializes weights of shape (n_filters, 2) or "
            f"(kernel_size, 1, 2 * n_filters). Received: shape={shape}."
        )

    def _parameters(self, n_filters: int) -> np.ndarray:
        if self.method == "mel":
            weights, n_fft = self._mel_matrix(n_filters)
            return mel.gabor_parameters(weights, n_fft, self.normalize_energy)
        sample_rate, max_freq = self._check_band(n_filters)
        window_len = self.window_len or _WINDOW_LEN_MS
        centres, bases = spacing.bands(
            self.method,
            n_filters,
            self.min_freq,
            max_freq,
            # What a window resolves, and GaborConstraint lets through.
            sample_rate / window_size(sample_rate, window_len),
            self.seed,
        )
        if self.bandwidth_hz is not None:
            bases = np.full(n_filters, spacing.base_of(self.bandwidth_hz))
        return spacing.gabor_parameters(centres, bases, sample_rate)

    def _kernels(self, n_filters: int, kernel_size: int) -> np.ndarray:
        if self.method == "mel":
            weights, n_fft = self._mel_matrix(n_filters)
            return mel.gabor_kernels(
                weights, n_fft, kernel_size, self.normalize_energy
            )
        parameters = self._parameters(n_filters)
        # A triangle with a peak of 1, whose base is π / σ rad/sample.
        area = np.pi / (2 * parameters[:, 1:])
        if self.normalize_energy:
            area = np.ones_like(area)
        return impulse_responses.scaled_gabor_filters(
            parameters, area, kernel_size
        )

    def _check_band(self, n_filters: int) -> tuple[float, float]:
        """Returns the sample rate and the upper edge, both in Hz."""
        if self.n_filters not in (None, n_filters):
            raise ValueError(
                "`n_filters` of GaborInit must be the number of filters of the "
                f"layer. Received: n_filters={self.n_filters} for a layer of "
                f"{n_filters}."
            )
        sample_rate = self.sample_rate or _SAMPLE_RATE
        max_freq = mel.resolve_max_freq(self.max_freq, sample_rate)
        mel.check_band(self.min_freq, max_freq, sample_rate)
        return sample_rate, max_freq

    def _mel_matrix(self, n_filters: int) -> tuple[np.ndarray, int]:
        sample_rate, max_freq = self._check_band(n_filters)
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
            "bandwidth_hz": self.bandwidth_hz,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("leaf_audio")
class ArrayInit(keras.initializers.Initializer):
    """Initializes a weight with given values.

    The values have the weight's shape, where axes of length 1 may be left out
    or added: `(n_filters, 2)` for the filters of a Leaf, `(n_filters,)` for the
    widths of its pooling.

    Args:
      values: numbers, nested as the weight's axes are; an array or a tensor.

    Raises:
      ValueError: `values` are not finite numbers, or the weight's shape is
        another.

    Example:

    ```python
    leaf = frontend.Leaf(
        n_filters=2,
        complex_conv_init=initializers.ArrayInit([[0.1, 40.0], [0.9, 20.0]]),
        pooling_init=initializers.ArrayInit([0.4, 0.3]),
    )
    ```
    """

    def __init__(self, values: Any):
        try:
            array = np.asarray(ops.convert_to_numpy(values), "float64")
        except (TypeError, ValueError):
            array = np.array(np.nan)
        if not np.isfinite(array).all():
            raise ValueError(
                "`values` must be finite numbers, nested as the weight's axes "
                f"are. Received: values={values!r}."
            )
        self.values = array.tolist()

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        values = np.array(self.values)
        if _without_ones(values.shape) != _without_ones(shape):
            raise ValueError(
                "`values` of ArrayInit must have the weight's shape, but for "
                f"axes of length 1. Received: values of shape {values.shape} "
                f"for a weight of shape {tuple(shape)}."
            )
        return ops.convert_to_tensor(values.reshape(shape), dtype)

    def get_config(self) -> dict[str, Any]:
        return {"values": self.values}


def from_trained(source: Any, weight: str = "complex_conv/kernel") -> ArrayInit:
    """Makes an initializer of what a model has learned.

    Filters are in samples, so that they are the same ones only at the sample
    rate that the model had.

    Args:
      source: a layer or a model with weights, such as a trained Leaf or a
        classifier with one; or the path of a `.keras` file.
      weight: the end of the weight's path: `"complex_conv/kernel"` for a
        Leaf's filters, `"learnable_pooling/kernel"` for its pooling,
        `"PCEN/alpha"` and the like for its compression.

    Returns:
      An initializer that holds the values themselves.

    Raises:
      ValueError: `source` is neither, or has no such weight, or several.

    Example:

    ```python
    trained = frontend.Leaf()
    trained.build((None, 16000))
    leaf = frontend.Leaf(complex_conv_init=initializers.from_trained(trained))
    ```
    """
    if isinstance(source, (str, os.PathLike)):
        source = keras.models.load_model(source, compile=False)
    if not isinstance(source, keras.layers.Layer):
        raise ValueError(
            "`source` must be a layer, a model or the path of a .keras file. "
            f"Received: source={source!r}."
        )
    end = weight.split("/")
    found = [w for w in source.weights if w.path.split("/")[-len(end) :] == end]
    if len(found) != 1:
        raise ValueError(
            "`weight` must be the end of the path of one weight of `source`. "
            f"Received: weight={weight!r}, which is that of {len(found)}, for "
            f"{source.name} with the weights "
            f"{[w.path for w in found or source.weights]}."
        )
    return ArrayInit(found[0])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


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
