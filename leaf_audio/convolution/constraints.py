"""Constraints that keep learnable filters realisable."""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import check_positive_int


@keras.saving.register_keras_serializable("leaf_audio")
class GaborConstraint(keras.constraints.Constraint):
    """Keeps Gabor filters below Nyquist and their widths within the kernel.

    Centres are clipped to `[0, π]` rad/sample and standard deviations to
    `[min_size √(2 ln 2) / π, kernel_size √(2 ln 2) / π]` samples, so that the
    full width at half maximum of the response lies between the resolution of
    the kernel and, with a `min_size` of 4, a half of the band. LEAF,
    arXiv:2101.08596, section 3.1; EfficientLEAF has a `min_size` of 2.

    Args:
      kernel_size: length of the filters, in samples.
      min_size: length whose resolution is the greatest width, in samples.

    Raises:
      ValueError: an argument is not a positive integer.
    """

    def __init__(self, kernel_size: int, min_size: int = 4):
        self.kernel_size = check_positive_int("kernel_size", kernel_size)
        self.min_size = check_positive_int("min_size", min_size)

    def __call__(self, w: Any) -> Any:
        unit = math.sqrt(2 * math.log(2)) / math.pi
        centre = ops.clip(w[:, 0], 0.0, math.pi)
        # A kernel shorter than `min_size` is too short for both bounds.
        longest = max(self.kernel_size, self.min_size) * unit
        sigma = ops.clip(w[:, 1], self.min_size * unit, longest)
        return ops.stack([centre, sigma], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "min_size": self.min_size}
