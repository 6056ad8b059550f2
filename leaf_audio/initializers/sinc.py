"""Initializer of the band-pass filters of SincConv1D.

Conventions: frequencies in Hz, also inside the weight. The mel scale is HTK's.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.checks import (
    check_not_negative,
    check_positive,
    check_unless_none,
)
from leaf_audio.initializers import mel
from leaf_audio.initializers.base import (
    DEFAULT_SAMPLE_RATE,
    FrontendInitializer,
)


@keras.saving.register_keras_serializable("leaf_audio")
class SincInit(FrontendInitializer):
    """Initializes band-pass filters of equal width on the mel scale.

    The weight has the shape `(n_filters, 2)`: the lower edge of each band and
    its width, both in Hz. The bands are neighbours: each starts where the one
    below it ends. The lowest starts at `min_low_hz`. The highest ends at
    `sample_rate / 2 − min_low_hz − min_band_hz`.

    SincConv1D adds `min_low_hz` to the lower edges and `min_band_hz` to the
    widths. Its filters therefore start `min_low_hz` above these edges, as in
    the original, and are `min_band_hz` wider. With the default settings they
    cover the band from 100 Hz to the Nyquist frequency. `min_freq` and
    `max_freq` set another band.

    Args:
      sample_rate: Sample rate in Hz. Defaults to None, which takes the value
        from the frontend, or 16000 if there is none.
      min_low_hz: Lower edge of the lowest band in Hz, at least 0. Defaults to
        50.
      min_band_hz: Smallest width that SincConv1D lets a band have in Hz, at
        least 0. Defaults to 50.
      min_freq: Lower cutoff frequency of the lowest filter of SincConv1D in Hz,
        at least `min_low_hz`. Defaults to None, which is twice `min_low_hz`.
      max_freq: Upper cutoff frequency of the highest filter of SincConv1D in
        Hz, at most the Nyquist frequency; or `"auto"` for 97.5 % of the Nyquist
        frequency. Defaults to None, which stands for the Nyquist frequency, as
        0 does.

    Raises:
      ValueError: An argument is out of range or unknown, the sample rate leaves
        no room for a band, or the weight has another shape.

    Example:

    ```python
    layer = convolution.SincConv1D(
        filters=80,
        kernel_size=401,
        kernel_initializer=initializers.SincInit(sample_rate=16000),
    )
    ```

    Reference:
      SincNet, arXiv:1808.00158, section 2.
    """

    def __init__(
        self,
        sample_rate: float | None = None,
        min_low_hz: float = 50.0,
        min_band_hz: float = 50.0,
        min_freq: float | None = None,
        max_freq: float | str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_unless_none(check_positive, sample_rate=sample_rate)
        self.sample_rate = sample_rate
        self.min_low_hz = check_not_negative("min_low_hz", min_low_hz)
        self.min_band_hz = check_not_negative("min_band_hz", min_band_hz)
        check_unless_none(check_not_negative, min_freq=min_freq)
        if min_freq is not None and min_freq < min_low_hz:
            raise ValueError(
                "`min_freq` must be at least `min_low_hz`, below which the "
                "filters of SincConv1D cannot begin. Received: "
                f"min_freq={min_freq}, min_low_hz={min_low_hz}."
            )
        mel.check_max_freq(max_freq)
        self.min_freq = min_freq
        self.max_freq = max_freq
        if sample_rate is not None:
            self._edges_of_band(sample_rate)

    def _edges_of_band(self, sample_rate: float) -> tuple[float, float]:
        """Returns the lowest and the highest edge of the bands, in Hz.

        Raises:
          ValueError: The band is empty or exceeds the Nyquist frequency.
        """
        max_freq = mel.resolve_max_freq(self.max_freq, sample_rate)
        mel.check_band(0.0, max_freq, sample_rate)
        if self.min_freq is None:
            low_hz = self.min_low_hz
        else:
            low_hz = self.min_freq - self.min_low_hz
        high_hz = max_freq - (self.min_low_hz + self.min_band_hz)
        if high_hz <= low_hz:
            raise ValueError(
                "`sample_rate` and `max_freq` must leave a band above "
                "`min_low_hz` and `min_freq`. Received: "
                f"sample_rate={sample_rate}, max_freq={self.max_freq}, "
                f"min_low_hz={self.min_low_hz}, min_freq={self.min_freq}, "
                f"min_band_hz={self.min_band_hz}."
            )
        return low_hz, high_hz

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        if len(shape) != 2 or shape[1] != 2:
            raise ValueError(
                "SincInit initializes weights of shape (n_filters, 2). "
                f"Received: shape={tuple(shape)}."
            )
        low_hz, high_hz = self._edges_of_band(
            self.sample_rate or DEFAULT_SAMPLE_RATE
        )
        edges = mel.mel_to_hz(
            np.linspace(
                mel.hz_to_mel(low_hz), mel.hz_to_mel(high_hz), shape[0] + 1
            )
        )
        bands = np.stack([edges[:-1], np.diff(edges)], axis=1)
        return ops.convert_to_tensor(bands, dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "min_low_hz": self.min_low_hz,
            "min_band_hz": self.min_band_hz,
            "min_freq": self.min_freq,
            "max_freq": self.max_freq,
        }
