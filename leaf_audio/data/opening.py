"""Opens audio files, and goes to a place in them, by libsndfile.

libsndfile decodes some files in part or wrongly: those that are cut off, wav
files without a size, and the last parts of Vorbis files. This module knows
them.
"""

import contextlib
import io
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

import soundfile

from leaf_audio.data import ogg_pages, truncation
from leaf_audio.data.extensions import OTHER_EXTENSIONS

# How many values a block holds, all channels together: 4 MiB in float32.
BLOCK_VALUES = 2**20
# libsndfile gives the largest integer if a header leaves the length open.
UNKNOWN_FRAMES = 2**62
# In seconds.
_MP3_RUN_UP = 1
# In samples.
_LARGEST_VORBIS_BLOCK = 8192
# Granules of Opus count at this rate, in Hz.
_OPUS_RATE = 48000
# A part of a second. The decoder needs 80 ms to converge (RFC 7845).
_OPUS_RUN_UP = 4


class UnusableFileError(ValueError):
    """An audio file that cannot be used.

    The message is the reason alone, without the name of the file.
    """


def check_is_whole(path: pathlib.Path) -> None:
    """Raises UnusableFileError for what is no file, empty or cut off.

    Args:
        path: pathlib.Path. The audio file.
    """
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
    with open(path, "rb") as file:
        is_ogg = file.read(4) == b"OggS"
    if is_ogg and ogg_pages.layout(path).is_chained:
        # Only one of them would be decoded.
        raise UnusableFileError(
            "it holds several recordings, one after the other: make a file of "
            "each, or decode them to one wav or flac file"
        )


class ForwardFile(soundfile.SoundFile):
    """An audio file that is read from a position to its end.

    soundfile seeks after each block if the file is seekable. This fails in a
    FLAC file without a length, and changes the samples of an MP3 file.
    """

    def seekable(self) -> bool:
        return False

    def skip(self, frames: int) -> None:
        """Goes forward, without decoding where the format allows that."""
        if frames and super().seekable() and self.frames < UNKNOWN_FRAMES:
            target = min(frames, self._exact_before(frames))
            if target > 0:
                self.seek(target)
                frames -= target
        block = max(1, BLOCK_VALUES // self.channels)
        while frames and len(self.read(min(frames, block))):
            frames -= min(frames, block)

    def _exact_before(self, frames: int) -> int:
        """Returns a sample from which on reading is exact, after a seek.

        In most formats it is the one that is sought.
        """
        if self.format == "MP3":
            # The first frames after a seek lack bits that lie in earlier ones.
            return frames - _MP3_RUN_UP * self.samplerate
        if self.subtype not in ("VORBIS", "OPUS"):
            return frames
        found = ogg_pages.layout(pathlib.Path(os.fsdecode(self.name)))
        if self.subtype == "OPUS":
            samples = found.last_granule - found.pre_skip
            if samples * self.samplerate != self.frames * _OPUS_RATE:
                # The stream does not begin at 0, as one that was cut. Then
                # libsndfile seeks to a wrong place.
                return 0
            return frames - self.samplerate // _OPUS_RUN_UP
        if found.in_last_page is None:
            return 0
        # In the last page libsndfile seeks to a wrong place.
        return self.frames - found.in_last_page - _LARGEST_VORBIS_BLOCK


class _PatchedFile(io.FileIO):
    """A file in which some bytes are replaced when it is read."""

    def __init__(self, path: pathlib.Path, position: int, patch: bytes):
        super().__init__(path)
        self._position = position
        self._patch = patch

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        count = super().readinto(buffer)
        for i, byte in enumerate(self._patch, self._position - start):
            if 0 <= i < count:
                memoryview(buffer)[i : i + 1] = bytes([byte])
        return count


@contextlib.contextmanager
def open_audio(path: pathlib.Path) -> Iterator[ForwardFile]:
    """Opens an audio file for a `with` block.

    Args:
        path: pathlib.Path. A file that `check_is_whole` has found whole.

    Raises:
        UnusableFileError: The file has no known format.
        soundfile.LibsndfileError: The file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        # As bytes, because a file name need not be valid UTF-8.
        source: bytes | _PatchedFile = os.fsencode(path)
        unset = truncation.unset_size(path)
        if unset is not None:
            source = stack.enter_context(_PatchedFile(path, *unset))
        yield stack.enter_context(_open_source(source, path))


def _open_source(
    source: bytes | _PatchedFile, path: pathlib.Path
) -> ForwardFile:
    try:
        file = ForwardFile(source)
    except Exception as error:
        if path.suffix.lower() in OTHER_EXTENSIONS:
            reason = f"{path.suffix} must be converted, such as to wav or flac"
            raise UnusableFileError(reason) from error
        raise
    if file.format == "RAW":
        # libsndfile takes a file of some names for headerless samples if it
        # finds no header.
        file.close()
        raise UnusableFileError("it has no header of a known format")
    return file
