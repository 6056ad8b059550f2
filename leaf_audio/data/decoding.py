"""Decodes audio files to float32 mono at one sample rate.

libsndfile decodes, soxr resamples. Every reason why a file cannot be used is
an `UnusableFileError`, so that a caller can collect the reasons of many files.

Files are decoded in blocks. The memory that this takes depends on how much
audio a file holds, and not on what its header says, which may be damaged.
"""

import itertools
import numbers
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import soundfile
import soxr

from leaf_audio.data import truncation

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
# How many values a block holds, all channels together: 4 MiB in float32.
_BLOCK = 2**20
# Full scale is 1, but some files hold integers of 32 bits as floating-point
# numbers. Larger values are damage, and the squares of still larger ones are
# infinite.
_MAX_LEVEL = 2.0**40
# libsndfile gives the largest integer if a header leaves the length open.
_UNKNOWN_FRAMES = 2**62


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
        A float32 array of shape (time,), with at least one sample. All its
        values are finite.

    Raises:
        UnusableFileError: The file is no regular file, cannot be read, is cut
            off or empty, holds values that are not finite or far too large,
            or has another sample rate than `source_sample_rate`.
    """
    return np.concatenate(
        list(decode_blocks(path, sample_rate, source_sample_rate))
    )


def decode_blocks(
    path: pathlib.Path,
    sample_rate: int,
    source_sample_rate: int | None = None,
) -> Iterator[np.ndarray]:
    """Reads an audio file as `decode` does, one block after the other.

    The file is known to be usable when all blocks are read, and not before.

    Args:
        path: pathlib.Path. The audio file.
        sample_rate: int, in Hz. The sample rate of the result.
        source_sample_rate: int, in Hz, or None. The sample rate that the
            file must have. None accepts any rate. Default: None.

    Yields:
        At least one float32 array of shape (time,), of 4 MiB at most.

    Raises:
        UnusableFileError: As for `decode`.
    """
    try:
        _check_is_whole_file(path)
        # As bytes, because a file name need not be valid UTF-8.
        with _ForwardFile(os.fsencode(path)) as file:
            _check_rate(file.samplerate, source_sample_rate)
            yield from _resample(
                _read_mono(file, sample_rate), file.samplerate, sample_rate
            )
    except UnusableFileError:
        raise
    # Whatever a decoder raises, including MemoryError, is the trouble of this
    # one file.
    except Exception as error:
        raise UnusableFileError(_reason(error, path)) from error


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
    try:
        return decode(pathlib.Path(recording), sample_rate)
    except UnusableFileError as error:
        raise ValueError(
            "`recording` must be a recording that can be read. "
            f"Received: recording={recording!r}: {error}."
        ) from error


class _ForwardFile(soundfile.SoundFile):
    """An audio file that is read from its beginning to its end.

    In a file that is seekable, soundfile seeks after each block. This fails in
    a FLAC file without a length, and changes the samples of an MP3 file.
    """

    def seekable(self) -> bool:
        return False


def _check_is_whole_file(path: pathlib.Path) -> None:
    """Raises UnusableFileError for what is no file, empty or cut off."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UnusableFileError("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        # To open a pipe would wait for a program that writes to it.
        raise UnusableFileError("it is a pipe or a device, not a file")
    if not status.st_size:
        raise UnusableFileError("the file is empty")
    missing = truncation.missing_bytes(path)
    if missing:
        raise UnusableFileError(f"it is cut off: {missing} bytes are missing")


def _check_rate(rate: int, source_sample_rate: int | None) -> None:
    if not is_sample_rate(rate):
        raise UnusableFileError(f"it claims a sample rate of {rate} Hz")
    if source_sample_rate not in (None, rate):
        raise UnusableFileError(
            f"its sample rate is {rate} Hz, not the "
            f"`audio_folder.source_sample_rate` of {source_sample_rate} Hz"
        )


def _read_mono(
    file: soundfile.SoundFile, sample_rate: int
) -> Iterator[np.ndarray]:
    """Yields the samples of a file, averaged over its channels."""
    # So few that neither these samples nor the resampled ones exceed a block.
    values = min(_BLOCK, _BLOCK * file.samplerate // sample_rate)
    frames = max(1, values // file.channels)
    count = 0
    while True:
        samples = file.read(frames, dtype="float32", always_2d=True)
        if not len(samples):
            break
        count += len(samples)
        _check_values(samples)
        yield samples.mean(axis=1)
    if not count:
        raise UnusableFileError("it holds no samples")
    # The header of an MP3 need not hold the length. `file.frames` is then only
    # an estimate.
    if file.format != "MP3" and count < file.frames < _UNKNOWN_FRAMES:
        raise UnusableFileError(
            f"it is cut off: {count} of {file.frames} samples"
        )


def _resample(
    blocks: Iterable[np.ndarray], rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    if rate == sample_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, sample_rate, num_channels=1)
    end = np.zeros(0, np.float32)
    is_empty = True
    for samples in itertools.chain(blocks, [end]):
        resampled = stream.resample_chunk(samples, last=samples is end)
        _check_values(resampled)
        if len(resampled):
            is_empty = False
            yield resampled
    if is_empty:
        raise UnusableFileError(f"it is empty at {sample_rate} Hz")


def _check_values(samples: np.ndarray) -> None:
    if not np.isfinite(samples).all():
        raise UnusableFileError("it holds samples that are not finite")
    level = np.abs(samples).max(initial=0)
    if level > _MAX_LEVEL:
        raise UnusableFileError(
            f"it holds samples of {level:.1e}, where 1 is full scale"
        )


def _reason(error: Exception, path: pathlib.Path) -> str:
    """Says in words why a file could not be decoded."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if not isinstance(error, soundfile.LibsndfileError):
        return f"the decoder failed with {type(error).__name__}: {error}"
    # Only an error of opening a file has a prefix.
    if error.prefix and path.suffix.lower() in OTHER_EXTENSIONS:
        return f"{path.suffix} must be converted, such as to wav or flac"
    reason = error.error_string.rstrip(".")
    if reason.startswith("File does not exist"):
        # libsndfile reports this for a file that is named .mp3 but holds
        # something else.
        return "format not recognised"
    return reason
