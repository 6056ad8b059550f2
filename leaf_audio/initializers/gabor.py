"""Initializer of Gabor filters.

Conventions: arguments give frequencies in Hz and lengths of windows in
milliseconds. A weight of shape `(n_filters, 2)` holds centre frequencies in
rad/sample and standard deviations in samples.
"""

import numbers
import random
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
    check_seed,
    check_size,
    check_unless_none,
)
from leaf_audio.common.sizes import window_size
from leaf_audio.initializers import mel, spacing
from leaf_audio.initializers.base import (
    DEFAULT_SAMPLE_RATE,
    DEFAULT_WINDOW_LEN_MS,
    FrontendInitializer,
)


@keras.saving.register_keras_serializable("leaf_audio")
class GaborInit(FrontendInitializer):
    """Initializes Gabor filters, by default along the mel scale.

    The shape of the weight determines what the initializer returns:

    - `(n_filters, 2)`, the weight of GaborConv1D: the centre frequency η of
      each filter in rad/sample and the standard deviation σ of its Gaussian
      envelope in samples.
    - `(kernel_size, 1, 2 * n_filters)`, the kernel of a plain convolution: the
      samples of the filters. Channel 2n is the real part of filter n and
      channel 2n + 1 its imaginary part. The energy of each filter is the area
      under the mel filter that it replaces, or under a triangle of the same
      width where `method` is not `"mel"`.

    `method` chooses the centre frequencies and the widths:

    - `"mel"`: read from a mel matrix on the bins of an FFT, as in LEAF.
    - `"mel_analytic"`: the same filters by a formula, as in EfficientLEAF.
    - `"linear"`, `"bark"`, `"erb"`: centre frequencies equally spaced in Hz, on
      the Bark scale or on the ERB-rate scale. The width of a filter follows
      from the distance between its two neighbours.
    - `"constant"`: all filters are the same. They lie at the geometric mean of
      `min_freq` and `max_freq`.
    - `"uniform"`, `"truncated_normal"`: random centre frequencies and widths,
      sorted by centre frequency.

    Differs from the original, which has the method `"mel"` only. There,
    `sample_rate` is 16000 unless it is given to the initializer too, `max_freq`
    is 8000 and not the Nyquist frequency, and `n_fft` is 512. A filter without
    a bin is NaN there. Here the FFT is made longer, or, if `n_fft` is given, an
    error is raised. Wherever the original gives filters, GaborInit gives the
    same for the same `sample_rate`, `min_freq` and `max_freq`.

    Args:
      sample_rate: Sample rate in Hz. Defaults to None, which takes the value
        from the frontend, or 16000 if there is none.
      min_freq: Lower edge of the lowest filter in Hz, at least 0. It must be
        positive for `"constant"`. Defaults to 0.
      max_freq: Upper edge of the highest filter in Hz, or `"auto"` for 97.5 %
        of the Nyquist frequency, which is 7800 Hz at 16 kHz as in LEAF.
        Defaults to None, which stands for the Nyquist frequency, as 0 does.
      n_fft: Length in samples of the FFT whose bins the mel matrix has. Only
        for `"mel"`. A positive integer; `"auto"` for 512, as in LEAF, doubled
        until each filter has a bin; or None for the smallest power of two that
        is not shorter than the window and gives each filter a bin. None is for
        models that were saved with it. Defaults to `"auto"`.
      normalize_energy: Boolean. Whether to divide each mel filter or triangle
        by its area before the parameters are read off. Only the kernel of a
        plain convolution depends on it. Defaults to False.
      n_filters: Integer. Number of filters that the weight must have. Defaults
        to None, which allows any number.
      window_len: Length of the frontend's window in milliseconds. It affects
        the smallest width of a random filter, and the length of the FFT if
        `n_fft` is None. Defaults to None, which takes the value from the
        frontend, or 25 if there is none.
      method: One of the strings above. Defaults to `"mel"`.
      bandwidth_hz: Full width at half maximum of the magnitude response of all
        filters, in Hz. Not for `"mel"`. Defaults to None, which lets the method
        choose the widths.
      seed: Integer from 0 to less than 2**32. Seed of the random methods. The
        same seed always gives the same filters. Defaults to None, which draws a
        seed when the initializer is created. `keras.utils.set_random_seed`
        makes that draw reproducible.

    Raises:
      ValueError: The band is empty or exceeds the Nyquist frequency, `n_fft`
        leaves a filter without a bin, an argument does not apply to the method
        or is unknown, or the weight has another shape.

    Example:

    ```python
    leaf = frontend.Leaf(
        sample_rate=24000,
        complex_conv_init=initializers.GaborInit(min_freq=100.0, method="erb"),
    )
    ```

    Reference:
      LEAF, arXiv:2101.08596, section 3.1; time-domain filterbanks,
      arXiv:1711.01161, section 2.2; EfficientLEAF, arXiv:2207.05508. Linear,
      Bark, constant and random filters are compared in arXiv:2302.10014 and
      doi:10.1038/s41598-026-49403-4. `"constant"` uses the formula of the
      latter.
    """

    def __init__(
        self,
        sample_rate: float | None = None,
        min_freq: float = 0.0,
        max_freq: float | str | None = None,
        n_fft: int | str | None = "auto",
        normalize_energy: bool = False,
        n_filters: int | None = None,
        window_len: float | None = None,
        method: str = "mel",
        bandwidth_hz: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_unless_none(
            check_positive,
            sample_rate=sample_rate,
            window_len=window_len,
            bandwidth_hz=bandwidth_hz,
        )
        check_unless_none(check_size, n_filters=n_filters)
        check_unless_none(check_seed, seed=seed)
        check_not_negative("min_freq", min_freq)
        mel.check_max_freq(max_freq)
        mel.check_n_fft(n_fft)
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
            # The seed is drawn once and kept, because a layer may ask for its
            # initial values twice. It comes from Python's generator because
            # `keras.utils.set_random_seed` sets that one, too.
            self.seed = random.randrange(2**31)

    def _check_method(self) -> None:
        for name, methods in (
            ("n_fft", ("mel",)),
            ("bandwidth_hz", spacing.METHODS),
            ("seed", spacing.RANDOM),
        ):
            value = getattr(self, name)
            if value not in (None, "auto") and self.method not in methods:
                raise ValueError(
                    f"`{name}` must be left out unless `method` is one of "
                    f"{methods}. Received: {name}={value!r}, "
                    f"method={self.method!r}."
                )
        if self.method == "constant" and self.min_freq == 0:
            raise ValueError(
                "`min_freq` must be positive for method='constant', whose "
                "filters lie at the geometric mean of the band's edges. "
                f"Received: min_freq={self.min_freq!r}."
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
        sample_rate, max_freq = self._resolve_band(n_filters)
        window_len = self.window_len or DEFAULT_WINDOW_LEN_MS
        centres, bases = spacing.bands(
            method=self.method,
            n_filters=n_filters,
            min_freq=self.min_freq,
            max_freq=max_freq,
            # The frequency resolution of the window, in Hz. GaborConstraint
            # allows no narrower filters.
            narrowest=sample_rate / window_size(sample_rate, window_len),
            seed=self.seed,
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
        # Area of a triangle with a peak of 1 and a base of π / σ rad/sample.
        area = np.pi / (2 * parameters[:, 1:])
        if self.normalize_energy:
            area = np.ones_like(area)
        return impulse_responses.scaled_gabor_filters(
            parameters, area, kernel_size
        )

    def _resolve_band(self, n_filters: int) -> tuple[float, float]:
        """Returns the sample rate and the upper edge of the band, in Hz.

        Raises:
          ValueError: The band is empty or exceeds the Nyquist frequency, or the
            layer has another number of filters than `n_filters`.
        """
        if self.n_filters not in (None, n_filters):
            raise ValueError(
                "`n_filters` of GaborInit must be the number of filters of the "
                f"layer. Received: n_filters={self.n_filters} for a layer of "
                f"{n_filters}."
            )
        sample_rate = self.sample_rate or DEFAULT_SAMPLE_RATE
        max_freq = mel.resolve_max_freq(self.max_freq, sample_rate)
        mel.check_band(self.min_freq, max_freq, sample_rate)
        return sample_rate, max_freq

    def _mel_matrix(self, n_filters: int) -> tuple[np.ndarray, int]:
        sample_rate, max_freq = self._resolve_band(n_filters)
        n_fft = self._n_fft(n_filters, sample_rate, max_freq)
        weights = mel.mel_matrix(
            n_filters, n_fft, sample_rate, self.min_freq, max_freq
        )
        mel.check_every_filter_has_a_bin(weights, n_fft)
        return weights, n_fft

    def _n_fft(
        self, n_filters: int, sample_rate: float, max_freq: float
    ) -> int:
        if isinstance(self.n_fft, numbers.Integral):
            return int(self.n_fft)
        shortest = mel.LEAF_N_FFT
        if self.n_fft is None:
            window_len = self.window_len or DEFAULT_WINDOW_LEN_MS
            shortest = window_size(sample_rate, window_len)
        return mel.smallest_n_fft(
            n_filters, shortest, sample_rate, self.min_freq, max_freq
        )

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
