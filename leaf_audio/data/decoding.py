"""Decodes audio files to float32 mono at one sample rate.

libsndfile decodes, soxr resamples. Every reason why a file cannot be used is
an `UnusableFileError`, so that a caller can collect the reasons of many files.
"""

import numbers
import os
import pathlib
import struct
import warnings
from typing import Any

import numpy as np
import soundfile
import soxr

from leaf_audio.data.channels import ChannelMixer
from leaf_audio.data.clips import DataWarning
from leaf_audio.data.extensions import OTHER_EXTENSIONS

# In Hz. Seismometers record at some hundred Hz, ultrasound recorders at up to
# 2 MHz. A header that claims a rate outside this range is damaged.
MIN_SAMPLE_RATE = 100
MAX_SAMPLE_RATE = 2000000
# In seconds. A segment may end this much after its file, because programs round
# the times of segments.
_MAX_EXCESS = 0.01


class UnusableFileError(ValueError):
    """An audio file that cannot be used.

    The message is the reason alone, without the name of the file.
    """


def is_sample_rate(value: Any) -> bool:
    """Returns whether a value is a plausible sample rate in Hz."""
    return (
        isinstance(value, numbers.Real)
        and MIN_SAMPLE_RATE <= float(value) <= MAX_SAMPLE_RATE
    )


def decode(
    path: pathlib.Path,
    sample_rate: int,
    source_sample_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
    mixer: ChannelMixer | None = None,
) -> np.ndarray:
    """Reads an audio file, or a segment of it, as float32 mono.

    Channels are averaged. A file at another rate is resampled. Of a segment,
    no other part of the file is decoded.

    Args:
        path: pathlib.Path. The audio file.
        sample_rate: int, in Hz. The sample rate of the result.
        source_sample_rate: int, in Hz, or None. The sample rate that the
            file must have. None accepts any rate. Default: None.
        start: float, in seconds, or None. Where the segment starts. None is the
            start of the file. Default: None.
        end: float, in seconds, or None. Where the segment ends. None is the end
            of the file. Default: None.
        mixer: ChannelMixer or None. It averages the channels. Pass one to learn
            whether the channels cancel each other. Default: None.

    Returns:
        A float32 array of shape (time,), with at least one sample.

    Raises:
        UnusableFileError: The file cannot be read, is cut off or empty, holds
            values that are not finite, has another sample rate than
            `source_sample_rate`, or ends before the segment does.
    """
    try:
        samples, rate = _read(path, source_sample_rate, start, end)
        if not len(samples):
            raise UnusableFileError("it holds no samples")
        samples = (mixer or ChannelMixer())(samples)
        if not np.isfinite(samples).all():
            raise UnusableFileError("it holds samples that are not finite")
        if rate != sample_rate:
            samples = soxr.resample(samples, rate, sample_rate)
        if not len(samples):
            raise UnusableFileError(f"it is empty at {sample_rate} Hz")
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        if path.suffix.lower() in OTHER_EXTENSIONS:
            reason = f"{path.suffix} must be converted, such as to wav or flac"
        elif reason.startswith("File does not exist") and path.is_file():
            # libsndfile reports this for a file that is named .mp3 but holds
            # something else.
            reason = "format not recognised"
        raise UnusableFileError(reason) from error
    # A TypeError stands for a file without a header, such as .raw.
    except (OSError, TypeError, soundfile.SoundFileError) as error:
        raise UnusableFileError(str(error)) from error
    return samples.astype(np.float32)


def read_recording(recording: str, sample_rate: int) -> np.ndarray:
    """Reads one recording that a user has named.

    This is `decode` with messages that name the recording. It issues a
    `DataWarning` if the channels of the recording cancel each other.

    Args:
        recording: str. Path of the audio file.
        sample_rate: int, in Hz. The sample rate of the result.

    Returns:
        A float32 array of shape (time,), with at least one sample.

    Raises:
        ValueError: The recording cannot be used. The message names it and
            gives the reason.
    """
    mixer = ChannelMixer()
    try:
        samples = decode(pathlib.Path(recording), sample_rate, mixer=mixer)
    except UnusableFileError as error:
        raise ValueError(
            "`recording` must be a recording that can be read. "
            f"Received: recording={recording!r}: {error}."
        ) from error
    if mixer.cancels:
        warnings.warn(
            f"The channels of {recording!r} cancel each other: their mean, "
            "which is used, is close to silence.",
            DataWarning,
            stacklevel=2,
        )
    return samples


def _read(
    path: pathlib.Path,
    source_sample_rate: int | None,
    start: float | None,
    end: float | None,
) -> tuple[np.ndarray, int]:
    """Returns samples of shape (time, channels) and the sample rate in Hz."""
    _check_size(path)
    # As bytes, because a file name need not be valid UTF-8.
    with soundfile.SoundFile(os.fsencode(path)) as file:
        rate = file.samplerate
        if not is_sample_rate(rate):
            raise UnusableFileError(f"it claims a sample rate of {rate} Hz")
        if source_sample_rate not in (None, rate):
            raise UnusableFileError(
                f"its sample rate is {rate} Hz, not the "
                f"`audio_folder.source_sample_rate` of {source_sample_rate} Hz"
            )
        if file.format == "RAW":
            # libsndfile takes a file of some names for headerless samples if
            # it finds no header.
            raise UnusableFileError("it has no header of a known format")
        first, count = _segment(file.frames / rate, rate, start, end)
        if first:
            file.seek(first)
        samples = file.read(count, dtype="float32", always_2d=True)
        expected = file.frames - first if count < 0 else count
        # The header of an MP3 need not hold the length. `file.frames` is then
        # only an estimate.
        is_known = file.format != "MP3" or count >= 0
        if is_known and len(samples) < expected:
            raise UnusableFileError(
                f"it is cut off: {len(samples)} of {expected} samples"
            )
    return samples, rate


def _segment(
    duration: float, rate: int, start: float | None, end: float | None
) -> tuple[int, int]:
    """Returns the first sample of a segment, and the number of its samples.

    The number is -1 if the segment ends where the file does.
    """
    for name, seconds in (("starts", start), ("ends", end)):
        excess = _MAX_EXCESS if name == "ends" else 0.0
        if seconds is not None and seconds > duration + excess:
            raise UnusableFileError(
                f"the segment {name} at {seconds:g} s, but the file has only "
                f"{duration:g} s"
            )
    first = round((start or 0.0) * rate)
    if end is None or end >= duration:
        return first, -1
    return first, round(end * rate) - first


def _check_size(path: pathlib.Path) -> None:
    """Raises UnusableFileError for an empty file or a truncated wav file.

    libsndfile reads a truncated wav file without an error.
    """
    with open(path, "rb") as file:
        header = file.read(8)
    if not header:
        raise UnusableFileError("the file is empty")
    if len(header) < 8 or header[:4] != b"RIFF":
        return
    (declared,) = struct.unpack("<I", header[4:])
    # A program that writes to a pipe does not know the size in advance and
    # writes one of these two values.
    if declared in (0, 0xFFFFFFFF):
        return
    # Many programs omit the byte that pads an odd size, hence 1.
    missing = declared + 8 - path.stat().st_size
    if missing > 1:
        raise UnusableFileError(f"it is cut off: {missing} bytes are missing")
