"""Reads the headers of the pages that an Ogg file consists of (RFC 3533).

Each page belongs to a stream, which has a serial number. A page tells its
granule position: how many samples of its stream end in it or before. A file may
hold several streams, at once or one after the other.
"""

import os
import pathlib
import struct
from typing import BinaryIO, NamedTuple

_MAGIC = b"OggS\0"
_HEADER = struct.Struct("<5sBqIIIB")
_MAX_PAGE = _HEADER.size + 255 + 255 * 255
# A flag: the page is the first one of its stream.
_BEGINS_STREAM = 2
# All flags together.
_MAX_FLAGS = 7
# A damaged file might have any number of pages that begin streams.
_MAX_STREAMS = 100


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
            pages.append(_page(content[found : found + 282], begin + found))
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


def is_chained(file: BinaryIO) -> bool:
    """Returns whether an Ogg file holds recordings one after the other.

    Args:
        file: The file.
    """
    pages = last_pages(file)
    if not pages or pages[-1].serial == -1:
        return False
    # All streams that a recording has begin before anything else.
    serials, position = set(), 0
    for _ in range(_MAX_STREAMS):
        file.seek(position)
        content = file.read(282)
        if not content.startswith(_MAGIC):
            break
        page = _page(content, position)
        if not page.begins_stream:
            break
        serials.add(page.serial)
        position = page.end
    return pages[-1].serial not in serials


def samples_of_last_page(path: pathlib.Path) -> int | None:
    """Returns how many samples an Ogg file has in its last page.

    Args:
        path: The file, which is whole and holds one recording.

    Returns:
        The number of samples. None if all the samples are in one page.
    """
    with open(path, "rb") as file:
        pages = last_pages(file)
    last = pages[-1]
    before = [
        page.granule
        for page in pages[:-1]
        if page.serial == last.serial and page.granule > 0
    ]
    return last.granule - before[-1] if before else None
