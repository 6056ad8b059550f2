"""Initializers of pooling windows and of pre-emphasis.

Conventions: lengths of kernels in samples, lengths of windows in milliseconds.
Windows are not normalised: `leaf_audio.impulse_responses.window` has their
formulas.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    check_choice,
    check_positive,
    check_share,
    check_unless_none,
)
from leaf_audio.common.sizes import window_size
from leaf_audio.initializers.base import FrontendInitializer


@keras.saving.register_keras_serializable("leaf_audio")
class LowpassInit(FrontendInitializer):
    """Initializes a pooling kernel with the same window in each channel.

    The window is as long as the kernel. The kernel's shape is
    `(kernel_size, 1, channels)` or `(1, kernel_size, channels, 1)`.

    Args:
      sample_rate: Sample rate in Hz. Defaults to None, which takes the value
        from the frontend if there is one. `sample_rate` and `window_len` do not
        change the window: if both are set, the initializer checks that they fit
        the length of the kernel.
      window_len: Length of the window in milliseconds. Defaults to None, which
        takes the value from the frontend if there is one.
      window_type: `"hamming"`, `"hanning"`, `"squared_hanning"` or `"tf_hann"`;
        `leaf_audio.impulse_responses.window` describes them. Defaults to
        `"squared_hanning"`.

    Raises:
      ValueError: There is no window of that name, the kernel has another shape,
        or its length is not the one that follows from `sample_rate` and
        `window_len`.

    Example:

    ```python
    pool = pooling.LearnablePooling1D(
        kernel_size=401,
        strides=160,
        kernel_initializer=initializers.LowpassInit(window_type="hamming"),
    )
    ```

    Reference:
      Time-domain filterbanks, arXiv:1711.01161, section 2.
    """

    def __init__(
        self,
        sample_rate: float | None = None,
        window_len: float | None = None,
        window_type: str = "squared_hanning",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_unless_none(
            check_positive, sample_rate=sample_rate, window_len=window_len
        )
        self.sample_rate = sample_rate
        self.window_len = window_len
        self.window_type = check_choice(
            "window_type", window_type, impulse_responses.WINDOWS
        )

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        shape = tuple(shape)
        along_time: tuple[int, ...]
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
                    "`sample_rate` and `window_len` of LowpassInit must give "
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


@keras.saving.register_keras_serializable("leaf_audio")
class PreempInit(KnownArguments, keras.initializers.Initializer):
    """Initializes a pre-emphasis filter, `y(t) = x(t + 1) − alpha · x(t)`.

    The kernel is `[-alpha, 1]` and has the shape `(2, 1, 1)`.

    Args:
      alpha: Float in [0, 1]. Higher values attenuate low frequencies more.
        Defaults to 0.97.

    Raises:
      ValueError: `alpha` is out of range, or the kernel has another shape.
    """

    def __init__(self, alpha: float = 0.97, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = check_share("alpha", alpha)

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
