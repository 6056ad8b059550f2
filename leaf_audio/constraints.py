"""Constraints that keep learnable filters realisable."""

import math
from typing import Any

import keras
from keras import ops

from leaf_audio.settings import check_positive_int


@keras.saving.register_keras_serializable("leaf_audio")
class GaborConstraint(keras.constraints.Constraint):
    """Keeps Gabor filters below Nyquist and their widths within the kernel.

    Centres are clipped to `[0, π]` rad/sample and standard deviations to
    `[4 √(2 ln 2) / π, kernel_size √(2 ln 2) / π]` samples, so that the full
    width at half maximum of the response lies between the resolution of the
    kernel and a half of the band. LEAF, arXiv:2101.08596, section 3.1.

    Args:
      kernel_size: length of the filters, in samples.

    Raises:
      ValueError: `kernel_size` is not a positive integer.
    """

    def __init__(self, kernel_size: int):
        self.kernel_size = check_positive_int("kernel_size", kernel_size)

    def __call__(self, w: Any) -> Any:
        unit = math.sqrt(2 * math.log(2)) / math.pi
        centre = ops.clip(w[:, 0], 0.0, math.pi)
        # A kernel of under four samples is too short for both bounds.
        longest = max(self.kernel_size, 4) * unit
        sigma = ops.clip(w[:, 1], 4 * unit, longest)
        return ops.stack([centre, sigma], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size}
