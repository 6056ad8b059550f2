"""Finds audio files whose end is missing, as after an aborted copy.

libsndfile decodes most of such files without an error, as shorter recordings.
But many formats say how long they are, which is compared here with the size of
the file. Only what holds the samples counts. The size of a whole RIFF or FORM
file is often wrong, and what follows the samples is not needed.

There are three kinds of checks:

    chunks     wav, RF64, W64, AIFF, AIFC, 8SVX, CAF: the chunk of the samples
    a header   AU, NIST SPHERE, MP3 with a Xing or VBRI header
    pages      ogg: the last page, which says how long it is

The header of FLAC counts samples, which only a decoder can compare. In other
formats, such as VOC, AVR and SDS, a missing end is not seen. Nor is it in an
ogg file that is cut between two pages.
"""

import dataclasses
import functools
import os
import pathlib
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from leaf_audio.data import ogg_pages

# A program that writes to a pipe does not know the size in advance. It writes
# 0, or one of these values, give or take the length of a header.
_UNKNOWN_SIZES = (0x7F000000, 2**31, 2**32, 2**63, 2**64)
_UNKNOWN_RANGE = 2**16
# Some programs count a header as a part of the samples. The recording is whole
# nevertheless, and the end of so few bytes is inaudible.
_SLACK = 64
# A damaged file might have millions of empty chunks.
_MAX_CHUNKS = 1000
_ID3V1_SIZE = 128


def missing_bytes(path: pathlib.Path) -> int:
    """Returns how many bytes an audio file lacks at its end.

    Args:
        path: pathlib.Path. The audio file, of any format.

    Returns:
        The number of bytes. 0 if the file is whole, or does not tell.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(4)
        for magic, check in _CHECKS.items():
            if start.startswith(magic):
                try:
                    return max(0, check(file, size))
                except struct.error:
                    # The file ends before it tells. The decoder says so too.
                    return 0
    return 0


def unset_size(path: pathlib.Path) -> tuple[int, bytes] | None:
    """Finds the size of the samples of a wav file that was never set.

    A recorder that ran out of power leaves 0 there, and so do some programs
    that write to a pipe. libsndfile then finds no samples.

    Args:
        path: pathlib.Path. The audio file, of any format.

    Returns:
        The position of the size and the bytes that should be there. None if
        the size is set, or there are no samples.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        check = {b"RIFF": _WAV, b"RIFX": _BIG_ENDIAN_WAV}.get(file.read(4))
        if check is None:
            return None
        try:
            position, length = check.find_samples(file, size)
            name, next_length = _unpack(check.header, file, position)
        except struct.error:
            return None
    # An empty recording may have further chunks in the place of samples.
    is_chunk = (
        name.isascii()
        and name.decode("ascii").isprintable()
        and next_length <= size - position
    )
    if not position or length or is_chunk:
        return None
    order = check.header[0]
    return position - 4, struct.pack(
        f"{order}I", min(size - position, 2**32 - 1)
    )


@dataclasses.dataclass(frozen=True)
class _CheckChunks:
    """Checks a format of chunks, which begin with their name and size.

    Attributes:
        header: The name and the size of a chunk, in the syntax of `struct`.
        samples: The names that the chunk of the samples may have.
        first: The position of the first chunk.
        alignment: Each chunk begins at a multiple of this number of bytes.
        counts_header: Whether the size of a chunk includes its header.
    """

    header: str
    samples: tuple[bytes, ...]
    first: int = 12
    alignment: int = 2
    counts_header: bool = False

    def __call__(self, file: BinaryIO, size: int) -> int:
        position, length = self.find_samples(file, size)
        return _lacking(position, length, size)

    def find_samples(self, file: BinaryIO, size: int) -> tuple[int, int]:
        """Returns the position and the length of the samples, or zeros."""
        header_size = struct.calcsize(self.header)
        position, long_size = self.first, None
        for _ in range(_MAX_CHUNKS):
            name, length = _unpack(self.header, file, position)
            position += header_size
            if name == b"ds64":
                # RF64 has sizes above 32 bits here.
                (long_size,) = _unpack("<8xQ", file, position)
            if self.counts_header:
                length -= header_size
            if name in self.samples:
                if long_size is not None and length == 2**32 - 1:
                    length = long_size
                return position, length
            position += length + -length % self.alignment
            if not 0 < position < size:
                break
        return 0, 0


def _check_au(file: BinaryIO, size: int, order: str) -> int:
    position, length = _unpack(f"{order}II", file, 4)
    return _lacking(position, length, size)


def _check_nist(file: BinaryIO, size: int) -> int:
    """Checks the kind of file that TIMIT calls wav: its header is text."""
    header = _read(file, 0, 1024)
    # Numbers may be written as texts: "-s1 1" for "-i 1".
    fields = dict(re.findall(rb"(\w+) -(?:i|s\d+) (\d{1,18})\s", header))
    length = 1
    for name in (b"sample_count", b"channel_count", b"sample_n_bytes"):
        length *= int(fields.get(name, 0))
    return _lacking(1024, length, size)


def _check_mp3(file: BinaryIO, size: int) -> int:
    position, frame = _first_mp3_frame(file)
    xing = re.search(rb"(?:Xing|Info)\0\0\0(.)", frame, re.DOTALL)
    if xing:
        # These flags say which fields follow.
        has_frames, has_bytes = xing[1][0] & 1, xing[1][0] & 2
        where = xing.end() + 4 * has_frames if has_bytes else 0
    else:
        where = 46 if frame[36:40] == b"VBRI" else 0
    if not where:
        return 0
    (length,) = struct.unpack(">I", frame[where : where + 4])
    # Some encoders count a tag that was removed afterwards.
    return _lacking(position, length - _ID3V1_SIZE, size)


def _first_mp3_frame(file: BinaryIO) -> tuple[int, bytes]:
    """Returns where the frame begins, after all ID3v2 tags, and its start."""
    position = 0
    for _ in range(_MAX_CHUNKS):
        start = _read(file, position, 64)
        if start[:3] != b"ID3" or len(start) < 10:
            break
        # The size is written as four groups of seven bits.
        a, b, c, d = start[6:10]
        position += 10 + (a << 21 | b << 14 | c << 7 | d)
    return position, start


def _check_ogg(file: BinaryIO, size: int) -> int:
    pages = ogg_pages.last_pages(file)
    return pages[-1].end - size if pages else 0


def _lacking(position: int, length: int, size: int) -> int:
    """Returns how far `length` bytes of samples go beyond the file's end."""
    lacking = position + length - size
    is_unknown = length <= 0 or any(
        abs(length - unknown) <= _UNKNOWN_RANGE for unknown in _UNKNOWN_SIZES
    )
    return 0 if is_unknown or lacking <= _SLACK else lacking


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _unpack(layout: str, file: BinaryIO, position: int) -> tuple[Any, ...]:
    return struct.unpack(layout, _read(file, position, struct.calcsize(layout)))


_WAV = _CheckChunks("<4sI", (b"data",))
_BIG_ENDIAN_WAV = _CheckChunks(">4sI", (b"data",))
# By the first bytes of a file.
_CHECKS: dict[bytes, Callable[[BinaryIO, int], int]] = {
    b"RIFF": _WAV,
    b"RF64": _WAV,
    b"BW64": _WAV,
    b"RIFX": _BIG_ENDIAN_WAV,
    b"riff": _CheckChunks(
        header="<16sq",
        # W64 names a chunk by a GUID.
        samples=(b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"),),
        first=40,
        alignment=8,
        counts_header=True,
    ),
    # 8SVX has a body, AIFF and AIFC have sound data.
    b"FORM": _CheckChunks(">4sI", (b"SSND", b"BODY")),
    b"caff": _CheckChunks(">4sq", (b"data",), first=8, alignment=1),
    b".snd": functools.partial(_check_au, order=">"),
    b"dns.": functools.partial(_check_au, order="<"),
    b"NIST": _check_nist,
    b"ID3": _check_mp3,
    b"\xff": _check_mp3,
    b"OggS": _check_ogg,
}
