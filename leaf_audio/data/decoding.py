"""Decodes audio files to float32 mono at one sample rate.

libsndfile decodes, soxr resamples. Every reason why a file cannot be used is
an `UnusableFileError`, so that a caller can collect the reasons of many files.

Files are decoded in blocks. The memory that this takes depends on how much
audio a file holds, and not on what its header says, which may be damaged.
"""

import contextlib
import itertools
import numbers
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import soundfile
import soxr

from leaf_audio.common.checks import check_path
from leaf_audio.data.channels import ChannelMixer
from leaf_audio.data.clips import DataWarning
from leaf_audio.data.opening import (
    BLOCK_VALUES,
    UNKNOWN_FRAMES,
    UnusableFileError,
    check_is_whole,
    open_audio,
)

# In Hz. Seismometers record at some hundred Hz, ultrasound recorders at up to
# 2 MHz. A header that claims a rate outside this range is damaged.
MIN_SAMPLE_RATE = 100
MAX_SAMPLE_RATE = 2000000
# In seconds. A segment may end this much after its file, because programs round
# the times of segments.
_MAX_EXCESS = 0.01
# Full scale is 1, but some files hold integers of 32 bits as floating-point
# numbers. Larger values are damage, and the squares of still larger ones are
# infinite.
_MAX_LEVEL = 2.0**40
_SUBTYPES_ABOVE_16_BITS = {
    "PCM_24",
    "PCM_32",
    "FLOAT",
    "DOUBLE",
    "ALAC_20",
    "ALAC_24",
    "ALAC_32",
    "DWVW_24",
}


def is_sample_rate(value: Any) -> bool:
    """Returns whether a value is a whole number that can be a rate in Hz."""
    if not isinstance(value, numbers.Real):
        return False
    # Not as a float, since an integer may be too large for one.
    rate: Any = value
    return bool(MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE and rate % 1 == 0)


def check_sample_rate(name: str, value: Any) -> None:
    """Raises ValueError unless a value is a plausible sample rate.

    Args:
        name: str. What the message calls it, such as
            "audio_folder.sample_rate".
        value: The value.
    """
    if not is_sample_rate(value):
        raise ValueError(
            f"`{name}` must be a rate in Hz, a whole number from "
            f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}. Received: "
            f"{name.split('.')[-1]}={value!r}."
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
    little else of the file is decoded.

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
        A float32 array of shape (time,), with at least one sample. All samples
        are finite.

    Raises:
        UnusableFileError: The file is no regular file, cannot be read, is cut
            off or empty, holds values that are not finite or far too large,
            has another sample rate than `source_sample_rate`, or ends before
            the segment does.
    """
    blocks = decode_blocks(
        path=path,
        sample_rate=sample_rate,
        source_sample_rate=source_sample_rate,
        start=start,
        end=end,
        mixer=mixer,
    )
    return np.concatenate(list(blocks))


def decode_blocks(
    path: pathlib.Path,
    sample_rate: int,
    source_sample_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
    mixer: ChannelMixer | None = None,
) -> Iterator[np.ndarray]:
    """Reads an audio file as `decode` does, one block after the other.

    Whether the file can be used is known after the last block, not before.

    Args:
        path: As for `decode`.
        sample_rate: As for `decode`.
        source_sample_rate: As for `decode`.
        start: As for `decode`.
        end: As for `decode`.
        mixer: As for `decode`.

    Yields:
        At least one float32 array of shape (time,), of about 4 MiB at most.

    Raises:
        UnusableFileError: As for `decode`.
    """
    try:
        check_is_whole(path)
        with open_audio(path) as file:
            rate = file.samplerate
            _check_rate(rate, source_sample_rate)
            first, count = _segment(file.frames / rate, rate, start, end)
            file.skip(first)
            frames = _block_length(file, sample_rate)
            samples = _read(file, frames, count, file.frames - first)
            mono = map(mixer or ChannelMixer(), samples)
            yield from _resample(mono, rate, sample_rate)
    except UnusableFileError:
        raise
    except OSError as error:
        raise UnusableFileError(error.strerror or str(error)) from error
    # Whatever else a decoder raises, MemoryError too, is the trouble of this
    # file and not of the others.
    except Exception as error:
        raise UnusableFileError(_reason(error)) from error


def stored_bits(
    path: pathlib.Path,
    sample_rate: float,
    source_sample_rate: float | None = None,
) -> int:
    """Returns how many bits the samples of an audio file need.

    Args:
        path: pathlib.Path. A file that can be decoded.
        sample_rate: The rate that it is brought to, in Hz.
        source_sample_rate: The rate of the file, in Hz, or None for the one
            that it states. Default: None.

    Returns:
        24 if the file holds floating-point numbers or integers of more than 16
        bits, or has a lower rate: above its band there is then nothing, which
        the rounding to 16 bits would fill with noise. Otherwise 16. What lossy
        formats lose is more than what 16 bits lose.

    Raises:
        UnusableFileError: The file cannot be opened any more.
    """
    try:
        with open_audio(path) as file:
            rate = source_sample_rate or file.samplerate
            needs_more = file.subtype in _SUBTYPES_ABOVE_16_BITS
            return 24 if needs_more or rate < sample_rate else 16
    except (OSError, soundfile.SoundFileError) as error:
        raise UnusableFileError(str(error)) from error


def read_recording(recording: str, sample_rate: int) -> np.ndarray:
    """Reads one recording that a user has named.

    This is `decode` with messages that name the recording. It issues a
    `DataWarning` if the recording is silent, or its channels cancel each other.

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
    check_sample_rate("sample_rate", sample_rate)
    mixer = ChannelMixer()
    with naming(recording):
        samples = decode(pathlib.Path(recording), sample_rate, mixer=mixer)
    if mixer.cancels:
        warnings.warn(
            f"The channels of {recording!r} cancel each other: their mean, "
            "which is used, is close to silence.",
            DataWarning,
            stacklevel=2,
        )
    elif (samples == samples[0]).all():
        warn_of_silence(recording)
    return samples


def warn_of_silence(recording: str) -> None:
    """Issues the `DataWarning` of a recording whose samples do not change.

    Args:
        recording: str. Path of the audio file.
    """
    warnings.warn(
        f"{recording!r} is silent: the samples do not change.",
        DataWarning,
        stacklevel=3,
    )


@contextlib.contextmanager
def naming(recording: str) -> Iterator[None]:
    """Raises ValueError with a recording's name if it turns out to be unusable.

    Args:
        recording: str. Path of the audio file that the `with` block reads.
    """
    try:
        yield
    except UnusableFileError as error:
        raise ValueError(
            "`recording` must be a recording that can be read. "
            f"Received: recording={recording!r}: {error}."
        ) from error


def at_rate(samples: Any, rate: int, sample_rate: int) -> np.ndarray:
    """Brings samples that a user has in memory to the form of a recording.

    Args:
        samples: Array of shape (time,), of floats or of 16-bit integers.
            Integers are divided by 32768, as in the decoding of a file.
        rate: int, in Hz. The sample rate of `samples`.
        sample_rate: int, in Hz. The sample rate of the result.

    Returns:
        A float32 array of shape (time,), with at least one sample. It is what
        `read_recording` returns for a file of these samples.

    Raises:
        ValueError: `samples` is not such an array, is empty or not finite, or
            a sample rate is out of range.
    """
    check_sample_rate("sample_rate", rate)
    check_sample_rate("sample_rate", sample_rate)
    samples = np.asarray(samples)
    if samples.dtype == np.int16:
        samples = samples / np.float32(32768)
    if not (
        samples.ndim == 1
        and samples.size
        and np.issubdtype(samples.dtype, np.floating)
    ):
        raise ValueError(
            "`samples` must be an array of shape (time,) with at least one "
            "sample, of floats or 16-bit integers; average the channels "
            f"first. Received: an array of shape {samples.shape} and dtype "
            f"{samples.dtype}."
        )
    # What overflows becomes infinite, which is an error below.
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32)
    try:
        _check_values(samples)
        return np.concatenate(list(_resample([samples], rate, sample_rate)))
    except UnusableFileError as error:
        raise ValueError(
            f"`samples` must be a usable recording. Received: {error}."
        ) from error


def _check_rate(rate: int, source_sample_rate: int | None) -> None:
    if not is_sample_rate(rate):
        raise UnusableFileError(f"it claims a sample rate of {rate} Hz")
    if source_sample_rate not in (None, rate):
        raise UnusableFileError(
            f"its sample rate is {rate} Hz, not the "
            f"`audio_folder.source_sample_rate` of {source_sample_rate} Hz"
        )


def _segment(
    duration: float, rate: int, start: float | None, end: float | None
) -> tuple[int, int | None]:
    """Returns the first sample of a segment, and the number of its samples.

    The number is None if the segment ends where the file does.
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
        return first, None
    return first, round(end * rate) - first


def _block_length(file: soundfile.SoundFile, sample_rate: int) -> int:
    """Returns the number of samples in a block, before resampling.

    It is so small that neither all channels nor the resampled mean of them
    exceed `BLOCK_VALUES` values.
    """
    in_file = BLOCK_VALUES // file.channels
    resampled = BLOCK_VALUES * file.samplerate // sample_rate
    return max(1, min(in_file, resampled))


def _read(
    file: soundfile.SoundFile, frames: int, count: int | None, rest: int
) -> Iterator[np.ndarray]:
    """Yields blocks of shape (time, channels).

    Args:
        file: The file, at the place where to start.
        frames: The number of samples in a block.
        count: The number of samples to read. None is all that there are.
        rest: How many there are if the header is right.
    """
    # The header of an MP3 need not hold the length. `file.frames` is then only
    # an estimate.
    if count is None and file.format != "MP3" and rest < UNKNOWN_FRAMES:
        # The decoder of FLAC fails if it reads on, into a tag after the end.
        count = rest
    n_read = 0
    while count is None or n_read < count:
        some = frames if count is None else min(frames, count - n_read)
        samples = file.read(some, dtype="float32", always_2d=True)
        if not len(samples):
            break
        n_read += len(samples)
        _check_values(samples)
        yield samples
    if not n_read:
        raise UnusableFileError("it holds no samples")
    if count is not None and n_read < count:
        raise UnusableFileError(f"it is cut off: {n_read} of {count} samples")


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


def _reason(error: Exception) -> str:
    if not isinstance(error, soundfile.LibsndfileError):
        return f"the decoder failed with {type(error).__name__}: {error}"
    reason = error.error_string.rstrip(".")
    if reason.startswith("File does not exist"):
        # libsndfile reports this for a file that is named .mp3 but holds
        # something else.
        return "format not recognised"
    return reason
