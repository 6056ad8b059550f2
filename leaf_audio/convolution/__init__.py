"""Layers that filter a waveform: Gabor, sinc and free filters.

Conventions of this package:

- Convolution means cross-correlation, so kernels are not flipped.
- Inputs have the shape `(batch, time, 1)` and outputs the shape
  `(batch, frames, channels)`. FFTConv1D also takes several channels.
- A complex filter has two neighbouring channels: channel 2n is its real part
  and channel 2n + 1 its imaginary part. `filters` therefore counts channels, as
  in the original: it is twice the number of complex filters. SincConv1D has
  real filters, but also takes twice their number.
- Lengths and strides are in samples. Each file states the units of its weights.
"""

from leaf_audio.convolution.by_blocks import conv1d_by_blocks
from leaf_audio.convolution.fft import FFTConv1D, fft_conv1d
from leaf_audio.convolution.free import NormalizedConv1D, WaveformConv1D
from leaf_audio.convolution.gabor import (
    GaborConstraint,
    GaborConv1D,
    gabor_energies,
)
from leaf_audio.convolution.sinc import SincConv1D

__all__ = [
    "FFTConv1D",
    "GaborConstraint",
    "GaborConv1D",
    "NormalizedConv1D",
    "SincConv1D",
    "WaveformConv1D",
    "conv1d_by_blocks",
    "fft_conv1d",
    "gabor_energies",
]
