"""Encodes samples as FLAC, with a scale.

FLAC compresses integers of 16 or 24 bits without loss. Samples are integers
divided by their full scale, so that they may lie outside the range from -1 to
1.
"""

import dataclasses
import hashlib
import io
import math

import numpy as np
import soundfile

# Samples that come as int16 are divided by this, as in the original LEAF.
INT16_MAX = 32767
# Decoders of audio files divide 16 bits by this.
_FULL_SCALE_16 = 2**15
_SUBTYPES = {16: "PCM_16", 24: "PCM_24"}
# FLAC files state rates in Hz up to the first number, and up to the second in
# steps of ten.
_MAX_ANY_RATE, _MAX_RATE = 65535, 655350
# Quieter samples are stored with fewer bits. It keeps full scales within
# float32.
_MIN_EXPONENT = -80


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Some consecutive samples of a clip.

    Attributes:
        flac: A FLAC file with one channel.
        full_scale: The samples are the integers of the file divided by this.
        bits: How many bits the integers have, 16 or 24.
        length: The number of samples.
        sha256: The first 16 bytes of the hash of the integers and of the full
            scale.
        constant: The value of all samples, or None if they differ.
    """

    flac: bytes
    full_scale: float
    bits: int
    length: int
    sha256: bytes
    constant: float | None

    @property
    def nbytes(self) -> int:
        """The size of the FLAC file."""
        return len(self.flac)


def encode(samples: np.ndarray, bits: int, sample_rate: int | None) -> Encoded:
    """Encodes samples.

    Args:
        samples: Array of shape (time,), with at least one sample: int16, stored
            as it is, or float32.
        bits: 16 or 24. How many bits float32 is rounded to. With 16, steps are
            2**-15, as in most audio files, or more where samples exceed 1. What
            a decoder makes of a file of 16 bits is thus stored exactly. With
            24, steps are 2**-23 of the next power of two above the peak.
        sample_rate: The rate in Hz, or None if it is unknown. The FLAC file
            states it, or the nearest that it can.

    Returns:
        The encoded samples.
    """
    if samples.dtype == np.int16:
        integers, full_scale, bits = samples, float(INT16_MAX), 16
    else:
        integers, full_scale = _to_integers(samples, bits)
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        # Of int32, the upper 24 bits are stored.
        integers if bits == 16 else integers << 8,
        _stated_rate(sample_rate),
        subtype=_SUBTYPES[bits],
        format="FLAC",
    )
    digest = hashlib.sha256(np.float64(full_scale).tobytes())
    digest.update(np.ascontiguousarray(integers).astype("<i4").data)
    first = integers[0]
    constant = None if (integers != first).any() else first / full_scale
    return Encoded(
        flac=buffer.getvalue(),
        full_scale=full_scale,
        bits=bits,
        length=len(samples),
        sha256=digest.digest()[:16],
        constant=constant,
    )


def _stated_rate(sample_rate: float | None) -> int:
    rate = round(sample_rate or _MAX_ANY_RATE)
    if rate > _MAX_ANY_RATE:
        rate = min(10 * round(rate / 10), _MAX_RATE)
    return max(rate, 1)


def _to_integers(samples: np.ndarray, bits: int) -> tuple[np.ndarray, float]:
    dtype = np.int16 if bits == 16 else np.int32
    peak = float(np.abs(samples).max(initial=0))
    if bits == 16:
        full_scale = float(_FULL_SCALE_16)
        if peak > 1:
            full_scale /= 2.0 ** math.frexp(peak)[1]
    else:
        exponent = max(math.frexp(peak)[1], _MIN_EXPONENT)
        full_scale = 2.0 ** (bits - 1 - exponent)
    largest = 2 ** (bits - 1) - 1
    rounded = np.rint(samples.astype(np.float64) * full_scale)
    return np.clip(rounded, -largest - 1, largest).astype(dtype), full_scale


def decode(flac: bytes, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Decodes the integers of a FLAC file, or a part of them.

    Args:
        flac: The content of the file.
        start: The first sample to decode. Default: 0.
        stop: The first sample not to decode. None is for all. Default: None.

    Returns:
        An array of shape (time,), int16 or int32 as the file has 16 or 24 bits.

    Raises:
        soundfile.LibsndfileError: The content is no FLAC file.
    """
    with soundfile.SoundFile(io.BytesIO(flac)) as file:
        if start:
            file.seek(start)
        count = -1 if stop is None else stop - start
        if file.subtype == _SUBTYPES[16]:
            return file.read(count, dtype="int16")
        return file.read(count, dtype="int32") >> 8
