"""Sizes in samples and frames, and dtypes, that follow from arguments.

Conventions: sample rates in Hz, `window_len` and `stride` in milliseconds,
results in samples or frames.
"""

from leaf_audio.common.checks import MAX_SIZE

# Audio has more samples in a second; a smaller number is one in kHz.
_LEAST_HZ = 1000


def told_rate(sample_rate: float) -> str:
    """Ends a message with the sample rate, and with a hint if it is in kHz.

    Args:
      sample_rate: Sample rate in Hz.
    """
    told = f"sample_rate={sample_rate} Hz."
    if sample_rate < _LEAST_HZ:
        told += f" `sample_rate` is in Hz: is it {1000 * sample_rate:g} Hz?"
    return told


def window_size(sample_rate: float, window_len: float) -> int:
    """Converts the length of a window from milliseconds to samples.

    The result is `sample_rate * window_len // 1000 + 1`, as in LEAF. At 16 kHz,
    a window of 25 ms has 401 samples.

    Args:
      sample_rate: Sample rate in Hz.
      window_len: Length of the window, in milliseconds.

    Returns:
      The length of the window, in samples.

    Raises:
      ValueError: The window is longer than `checks.MAX_SIZE` samples.
    """
    _check_samples("window_len", window_len, sample_rate)
    return int(sample_rate * window_len // 1000 + 1)


def window_stride(sample_rate: float, stride: float) -> int:
    """Converts the hop between frames from milliseconds to samples.

    Args:
      sample_rate: Sample rate in Hz.
      stride: Hop between frames, in milliseconds.

    Returns:
      The hop in samples, rounded down.

    Raises:
      ValueError: The hop is longer than `checks.MAX_SIZE` samples.
    """
    _check_samples("window_stride", stride, sample_rate)
    return int(sample_rate * stride // 1000)


def _check_samples(name: str, milliseconds: float, sample_rate: float) -> None:
    if sample_rate * milliseconds >= 1000 * MAX_SIZE:
        raise ValueError(
            f"`{name}` must be less than {MAX_SIZE} samples. Received: "
            f"{name}={milliseconds} ms at {told_rate(sample_rate)}"
        )


def frame_sizes(
    sample_rate: float,
    window_len: float,
    stride: float,
    win_length: int | None = None,
    hop_length: int | None = None,
) -> tuple[int, int]:
    """Computes the window's length and the hop of a frontend, in samples.

    Args:
      sample_rate: Sample rate in Hz.
      window_len: Length of the window, in milliseconds.
      stride: Hop between frames, in milliseconds.
      win_length: Length of the window in samples, in place of `window_len`; or
        None.
      hop_length: Hop in samples, in place of `stride`; or None.

    Returns:
      The length of the window and the hop, in samples.

    Raises:
      ValueError: One of them is shorter than a sample or longer than
        `checks.MAX_SIZE` samples.
    """
    if win_length is None:
        if sample_rate * window_len < 1000:
            raise ValueError(
                "`window_len` must be at least one sample. Received: "
                f"window_len={window_len} ms at {told_rate(sample_rate)}"
            )
        win_length = window_size(sample_rate, window_len)
    if hop_length is None:
        hop_length = window_stride(sample_rate, stride)
        if hop_length < 1:
            raise ValueError(
                "`window_stride` must be at least one sample. Received: "
                f"window_stride={stride} ms at {told_rate(sample_rate)}"
            )
    return win_length, hop_length


def output_length(
    length: int | None, kernel_size: int, strides: int, padding: str
) -> int | None:
    """Computes the number of outputs of a convolution or a pooling.

    Args:
      length: Number of inputs, or None if it is unknown.
      kernel_size: Length of the kernel or the pooling window.
      strides: Hop between outputs.
      padding: `"valid"`. Any other padding gives `ceil(length / strides)`
        outputs.

    Returns:
      The number of outputs, or None if the number of inputs is unknown.
    """
    if length is None:
        return None
    if padding == "valid":
        return max(-(-(length - kernel_size + 1) // strides), 0)
    return -(-length // strides)


def wide_dtype(dtype: str) -> str:
    """Returns the dtype for computations that 16 bits are too few for.

    Args:
      dtype: Dtype of the inputs, such as `"float16"`.

    Returns:
      `"float64"` for `"float64"`, otherwise `"float32"`.
    """
    return "float64" if dtype == "float64" else "float32"
