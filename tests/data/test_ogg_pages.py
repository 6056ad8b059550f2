"""Segments of Ogg files are exact, whatever their pages are."""

import struct

import numpy as np
import pytest
import soundfile
from audio_files import RATE

from leaf_audio.data import decoding

pytestmark = pytest.mark.any_backend


def checksum(page):
    """The CRC of Ogg, with the polynomial 0x04c11db7."""
    found = 0
    for byte in page:
        found ^= byte << 24
        for _ in range(8):
            found = found << 1 ^ (0x04C11DB7 if found >> 31 else 0)
            found &= 2**32 - 1
    return found


def with_pages(path, change):
    """Rewrites the header of each page of a file."""
    content, made, position = path.read_bytes(), b"", 0
    while position < len(content):
        count = content[position + 26]
        sizes = content[position + 27 : position + 27 + count]
        end = position + 27 + count + sum(sizes)
        made += change(content[position:end])
        position = end
    path.write_bytes(made)


def rewritten(page, flags, granule):
    """Returns a page with other flags and another granule position."""
    page = page[:5] + struct.pack("<Bq", flags, granule) + page[14:]
    page = page[:22] + bytes(4) + page[26:]
    return page[:22] + struct.pack("<I", checksum(page)) + page[26:]


def later(page):
    """As of a live stream: samples do not begin at 0."""
    flags, granule = struct.unpack_from("<Bq", page, 5)
    return rewritten(page, flags, granule + 480000 * (granule > 0))


def with_empty_end(page):
    """Adds a last page without samples."""
    flags, granule = struct.unpack_from("<Bq", page, 5)
    if not flags & 4:
        return page
    number = struct.unpack_from("<I", page, 18)[0] + 1
    empty = page[:18] + struct.pack("<I", number) + bytes(4) + b"\0"
    return rewritten(page, flags - 4, granule) + rewritten(empty, 4, granule)


def check_segments(path):
    whole = decoding.decode(path, RATE)
    for start in (0.5, 4, 8.5, 9.3, 9.7, 9.95):
        part = decoding.decode(path, RATE, start=start)
        np.testing.assert_allclose(part, whole[round(start * RATE) :])


@pytest.fixture(params=["VORBIS", "OPUS"])
def path(request, tmp_path):
    path = tmp_path / "x.ogg"
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    soundfile.write(path, noise, RATE, format="OGG", subtype=request.param)
    return path


def test_a_stream_may_begin_later(path):
    with_pages(path, later)
    check_segments(path)


def test_what_follows_the_last_page_does_no_harm(path):
    path.write_bytes(path.read_bytes() + bytes(300000))
    check_segments(path)


def test_the_last_page_may_be_empty(tmp_path):
    path = tmp_path / "x.ogg"
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    soundfile.write(path, noise, RATE)
    with_pages(path, with_empty_end)
    assert len(decoding.decode(path, RATE)) == 10 * RATE
    check_segments(path)


def test_streams_of_one_number_are_told_apart(path):
    content = path.read_bytes()
    path.write_bytes(content + content)
    with pytest.raises(decoding.UnusableFileError, match="one after the other"):
        decoding.decode(path, RATE)
