"""Layers that filter a waveform: Gabor, sinc and free filters."""

from leaf_audio.convolution.gabor import (
    FFTConv1D,
    GaborConv1D,
    NormalizedConv1D,
    SincConv1D,
    WaveformConv1D,
)

__all__ = [
    "FFTConv1D",
    "GaborConv1D",
    "NormalizedConv1D",
    "SincConv1D",
    "WaveformConv1D",
]
