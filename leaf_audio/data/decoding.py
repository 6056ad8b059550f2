"""Decodes audio files to float32 mono at one sample rate.

libsndfile decodes, soxr resamples. Every reason why a file cannot be used is
an `UnusableFileError`, so that a caller can collect the reasons of many files.
"""

import numbers
import os
import pathlib
import struct
from typing import Any

import numpy as np
import soundfile
import soxr

from leaf_audio.common.checks import check_path

# File name extensions that every build of libsndfile decodes.
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")
# Further audio formats. libsndfile decodes only some of them. They are listed
# so that a folder reader reports such a file and does not silently ignore it.
OTHER_EXTENSIONS = (
    *(".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".m4a"),
    *(".mka", ".mp2", ".oga", ".opus", ".w64", ".wave", ".wma", ".wv"),
)
# In Hz. No recorder works outside this range, so a header that claims such a
# rate is damaged.
MIN_SAMPLE_RATE = 1000
MAX_SAMPLE_RATE = 768000


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
) -> np.ndarray:
    """Reads an audio file as float32 mono.

    Channels are averaged. A file at another rate is resampled.

    Args:
        path: pathlib.Path. The audio file.
        sample_rate: int, in Hz. The sample rate of the result.
        source_sample_rate: int, in Hz, or None. The sample rate that the
            file must have. None accepts any rate. Default: None.

    Returns:
        A float32 array of shape (time,), with at least one sample.

    Raises:
        UnusableFileError: The file cannot be read, is cut off or empty, holds
            values that are not finite, or has another sample rate than
            `source_sample_rate`.
    """
    try:
        samples, rate = _read(path, source_sample_rate)
        if not len(samples):
            raise UnusableFileError("it holds no samples")
        samples = samples.mean(axis=1)
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
    except (OSError, soundfile.SoundFileError) as error:
        raise UnusableFileError(str(error)) from error
    return samples.astype(np.float32)


def read_recording(recording: str, sample_rate: int) -> np.ndarray:
    """Reads one recording that a user has named.

    This is `decode` with an error message that names the recording.

    Args:
        recording: str. Path of the audio file.
        sample_rate: int, in Hz. The sample rate of the result.

    Returns:
        A float32 array of shape (time,), with at least one sample.

    Raises:
        ValueError: The recording cannot be used. The message names it and
            gives the reason.
    """
    check_path("recording", recording)
    if not is_sample_rate(sample_rate):
        raise ValueError(
            f"`sample_rate` must be a rate in Hz from {MIN_SAMPLE_RATE} to "
            f"{MAX_SAMPLE_RATE}. Received: sample_rate={sample_rate!r}."
        )
    try:
        return decode(pathlib.Path(recording), sample_rate)
    except UnusableFileError as error:
        raise ValueError(
            "`recording` must be a recording that can be read. "
            f"Received: recording={recording!r}: {error}."
        ) from error


def _read(
    path: pathlib.Path, source_sample_rate: int | None
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
        samples = file.read(dtype="float32", always_2d=True)
        # The header of an MP3 need not hold the length. `file.frames` is then
        # only an estimate.
        if file.format != "MP3" and len(samples) < file.frames:
            raise UnusableFileError(
                f"it is cut off: {len(samples)} of {file.frames} samples"
            )
    return samples, rate


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
