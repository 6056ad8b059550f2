"""Reads the headers of the pages that an Ogg file consists of (RFC 3533).

Each page belongs to a stream, which has a serial number. A page tells its
granule position: how many samples of its stream end in it or before. A file may
hold several streams, at once or one after the other.
"""

import dataclasses
import functools
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_MAGIC = b"OggS\0"
_HEADER = struct.Struct("<5sBqIIIB")
_MAX_PAGE = _HEADER.size + 255 + 255 * 255
# A flag: the page is the first one of its stream.
_BEGINS_STREAM = 2
# All flags together.
_MAX_FLAGS = 7
_MAX_HEADER = _HEADER.size + 255
# The first packet of Opus: its name, version and channels, and the pre-skip.
_OPUS = struct.Struct("<8sxxH")


class Page(NamedTuple):
    """A page, as its header describes it.

    Attributes:
        start: Where it begins in the file.
        end: Where it ends in the file, if nothing is missing.
        begins_stream: Whether it is the first page of its stream.
        granule: Its granule position. -1 if no packet ends in it.
        serial: The serial number of its stream.
    """

    start: int
    end: int
    begins_stream: bool
    granule: int
    serial: int


def last_pages(file: BinaryIO) -> list[Page]:
    """Returns the pages at the end of an Ogg file, two at least if it has them.

    The flag that marks a last page is not asked for. Android and some other
    programs never set it.

    Args:
        file: The file.

    Returns:
        The pages, in their order. The end of the last one lies after the end
        of the file if that is cut off.
    """
    size = os.fstat(file.fileno()).st_size
    begin = max(0, size - 2 * _MAX_PAGE)
    file.seek(begin)
    content = file.read(2 * _MAX_PAGE)
    pages = []
    found = content.find(_MAGIC)
    while found >= 0:
        # Without such flags it is no page: samples can look like one.
        if content[found + 5 : found + 6] <= bytes([_MAX_FLAGS]):
            pages.append(
                _page(content[found : found + _MAX_HEADER], begin + found)
            )
        found = content.find(_MAGIC, found + 1)
    return pages


def _page(content: bytes, start: int) -> Page:
    """Returns a page, of which the first bytes are given."""
    if len(content) < _HEADER.size:
        return Page(start, start + _HEADER.size, False, -1, -1)
    _, flags, granule, serial, _, _, count = _HEADER.unpack_from(content)
    sizes = content[_HEADER.size : _HEADER.size + count]
    end = start + _HEADER.size + count + sum(sizes)
    return Page(start, end, bool(flags & _BEGINS_STREAM), granule, serial)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the headers of all pages of an Ogg file tell.

    Attributes:
        is_chained: Whether it holds recordings one after the other.
        last_granule: The granule position at the end of the stream that ends
            last. 0 if it has no samples.
        in_last_page: How many samples this stream has in its last page with
            samples. None if it has one such page, or what follows the pages is
            no page.
        pre_skip: How many samples Opus decodes before those of the recording. 0
            in other formats.
    """

    is_chained: bool
    last_granule: int
    in_last_page: int | None
    pre_skip: int


def layout(path: pathlib.Path) -> Layout:
    """Reads the headers of all pages of an Ogg file.

    Args:
        path: The file.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    return _layout(path, status.st_size, status.st_mtime_ns)


# The segments of a file are decoded one by one.
@functools.lru_cache(maxsize=64)
def _layout(path: pathlib.Path, size: int, _: int) -> Layout:
    with open(path, "rb") as file:
        pages = list(_walk(file))
        file.seek(0)
        head = file.read(_OPUS.size + _HEADER.size + 1)
    # All streams that a recording has begin before anything else.
    begins = [page.begins_stream for page in pages]
    is_chained = (
        any(begins[begins.index(False) :]) if False in begins else False
    )
    granules = sorted(
        {p.granule for p in pages if p.serial == pages[-1].serial} - {-1, 0}
    )
    in_last_page = None
    if len(granules) > 1 and pages[-1].end == size:
        in_last_page = granules[-1] - granules[-2]
    magic, pre_skip = _OPUS.unpack_from(head.ljust(64, b"\0"), _HEADER.size + 1)
    return Layout(
        is_chained=is_chained,
        last_granule=granules[-1] if granules else 0,
        in_last_page=in_last_page,
        pre_skip=pre_skip if magic == b"OpusHead" else 0,
    )


def _walk(file: BinaryIO) -> Iterator[Page]:
    """Yields all pages, from the beginning to what is no page."""
    position = 0
    while True:
        file.seek(position)
        content = file.read(_MAX_HEADER)
        if not content.startswith(_MAGIC) or len(content) < _HEADER.size:
            return
        page = _page(content, position)
        yield page
        position = page.end
