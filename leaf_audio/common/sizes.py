"""Sizes in samples and frames, and dtypes, that follow from arguments."""


def window_size(sample_rate: float, window_len: float) -> int:
    """Converts a window length in ms to samples, `sr * ms // 1000 + 1`."""
    return int(sample_rate * window_len // 1000 + 1)


def window_stride(sample_rate: float, stride: float) -> int:
    """Converts a stride in ms to samples, `sr * ms // 1000`."""
    return int(sample_rate * stride // 1000)


def output_length(
    length: int | None, kernel_size: int, strides: int, padding: str
) -> int | None:
    """Computes how many outputs a convolution or a pooling has."""
    if length is None:
        return None
    if padding == "valid":
        return max(-(-(length - kernel_size + 1) // strides), 0)
    return -(-length // strides)


def wide_dtype(dtype: str) -> str:
    """Returns the dtype to compute in where 16 bits are too few."""
    return "float64" if dtype == "float64" else "float32"
