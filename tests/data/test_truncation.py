"""Whole files are read, whatever their headers say; cut files are not."""

import re
import struct

import numpy as np
import pytest
import soundfile
from audio_files import RATE, put, sine

from leaf_audio.data import decoding, truncation

pytestmark = pytest.mark.any_backend

# Format, encoding, and what says that the file is cut off.
FORMATS = [
    ("WAV", "PCM_16", "cut off"),
    ("WAV", "FLOAT", "cut off"),
    ("WAV", "ULAW", "cut off"),
    ("WAV", "GSM610", "cut off"),
    ("WAV", "IMA_ADPCM", "cut off"),
    ("WAVEX", "PCM_24", "cut off"),
    ("RF64", "PCM_16", "cut off"),
    ("W64", "PCM_16", "cut off"),
    ("AIFF", "PCM_16", "cut off"),
    ("AIFF", "ULAW", "cut off"),
    ("CAF", "PCM_16", "cut off"),
    ("CAF", "ALAC_16", "cut off"),
    ("AU", "PCM_16", "cut off"),
    ("NIST", "PCM_16", "cut off"),
    ("NIST", "ULAW", "cut off"),
    ("NIST", "ALAW", "cut off"),
    ("SVX", "PCM_S8", "cut off"),
    ("SVX", "PCM_16", "cut off"),
    ("FLAC", "PCM_16", "flac decoder"),
    ("OGG", "VORBIS", "cut off"),
    ("OGG", "OPUS", "cut off"),
    ("MP3", "MPEG_LAYER_III", "cut off"),
]
SECONDS = 2.0


def content(folder, file_format, subtype, samples=None, **options):
    if samples is None:
        generator = np.random.default_rng(0)
        samples = sine(440, seconds=SECONDS)
        samples += generator.normal(0, 0.01, len(samples))
    path = put(
        folder / "whole",
        samples,
        format=file_format,
        subtype=subtype,
        **options,
    )
    return bytearray(path.read_bytes())


def decode(folder, some_bytes):
    path = folder / "x.wav"
    path.write_bytes(some_bytes)
    return decoding.decode(path, RATE)


@pytest.mark.parametrize(
    "file_format, subtype, reason, order",
    [
        *((*one, "FILE") for one in FORMATS),
        ("WAV", "PCM_16", "cut off", "BIG"),
        ("WAV", "FLOAT", "cut off", "BIG"),
        ("AU", "PCM_16", "cut off", "LITTLE"),
    ],
)
def test_half_a_file_is_cut_off_and_a_whole_one_is_not(
    tmp_path, file_format, subtype, reason, order
):
    whole = content(tmp_path, file_format, subtype, endian=order)
    assert len(decode(tmp_path, whole)) >= SECONDS * RATE
    for length in (len(whole) // 2, len(whole) // 2 + 1, len(whole) - 300):
        with pytest.raises(decoding.UnusableFileError, match=reason):
            decode(tmp_path, whole[:length])


@pytest.mark.parametrize("file_format, subtype, reason", FORMATS)
def test_a_file_that_ends_in_its_header_is_unusable(
    tmp_path, file_format, subtype, reason
):
    whole = content(tmp_path, file_format, subtype)
    for length in (1, 3, 5, 13, 21, 30, 43):
        with pytest.raises(decoding.UnusableFileError):
            decode(tmp_path, whole[:length])


UNKNOWN_32 = [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00, 2**31]


@pytest.mark.parametrize("riff", [*UNKNOWN_32, 0x7FFFF024, 0, 12, 99999])
@pytest.mark.parametrize("data", [None, *UNKNOWN_32])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_wav_is_whole_whatever_a_pipe_left_behind(
    tmp_path, riff, data, subtype
):
    whole = content(tmp_path, "WAV", subtype)
    expected = decode(tmp_path, whole)
    struct.pack_into("<I", whole, 4, riff)
    if data is not None:
        struct.pack_into("<I", whole, whole.index(b"data") + 4, data)
    np.testing.assert_array_equal(decode(tmp_path, whole), expected)


@pytest.mark.parametrize(
    "subtype, order",
    [("PCM_16", "LITTLE"), ("PCM_16", "BIG"), ("PCM_U8", "FILE")]
    + [("FLOAT", "LITTLE"), ("FLOAT", "BIG"), ("ULAW", "FILE")],
)
def test_a_wav_whose_sizes_were_never_set_is_whole(tmp_path, subtype, order):
    """As a recorder leaves it that ran out of power."""
    whole = content(tmp_path, "WAV", subtype, endian=order)
    assert whole.startswith(b"RIFX" if order == "BIG" else b"RIFF")
    expected = decode(tmp_path, whole)
    begin = whole.index(b"data") + 8
    whole[4:8] = whole[begin - 4 : begin] = bytes(4)
    np.testing.assert_array_equal(decode(tmp_path, whole), expected)
    part = decoding.decode(tmp_path / "x.wav", RATE, start=0.5, end=0.75)
    np.testing.assert_array_equal(part, expected[RATE // 2 : 3 * RATE // 4])
    layout = ">4sI4s" if order == "BIG" else "<4sI4s"
    for after in (b"", struct.pack(layout, b"LIST", 4, b"INFO")):
        with pytest.raises(decoding.UnusableFileError, match="no samples"):
            decode(tmp_path, whole[:begin] + after)


@pytest.mark.parametrize("excess", [-9, -1, 1, 2, 8, 44])
@pytest.mark.parametrize("name", [b"RIFF", b"data"])
def test_a_size_may_be_off_by_the_length_of_a_header(tmp_path, excess, name):
    whole = content(tmp_path, "WAV", "PCM_16")
    position = whole.index(name) + 4
    (size,) = struct.unpack_from("<I", whole, position)
    struct.pack_into("<I", whole, position, size + excess)
    assert abs(len(decode(tmp_path, whole)) - SECONDS * RATE) <= 5


def test_what_stands_before_and_after_the_samples_does_not_matter(tmp_path):
    whole = content(tmp_path, "WAV", "PCM_16")
    junk = b"JUNK" + struct.pack("<I", 5) + b"12345" + b"\0"
    notes = b"LIST" + struct.pack("<I", 5000) + b"INFO"
    for some in (whole[:12] + junk + whole[12:], whole + junk, whole + notes):
        assert len(decode(tmp_path, some)) == SECONDS * RATE
    with pytest.raises(decoding.UnusableFileError, match="cut off: 300 bytes"):
        decode(tmp_path, (whole[:12] + junk + whole[12:])[:-300])


@pytest.mark.parametrize("rate", [RATE, RATE // 2])
@pytest.mark.parametrize(
    "after", [b"TAG" + bytes(125), bytes(16), b"x", bytes(5000)]
)
@pytest.mark.parametrize("file_format", ["WAV", "FLAC", "AIFF", "CAF"])
def test_what_follows_a_whole_file_does_not_matter(
    tmp_path, file_format, after, rate
):
    whole = content(tmp_path, file_format, "PCM_16")
    path = tmp_path / "x.wav"
    path.write_bytes(whole)
    expected = decoding.decode(path, rate)
    part = decoding.decode(path, rate, start=1.5)
    path.write_bytes(whole + after)
    np.testing.assert_array_equal(decoding.decode(path, rate), expected)
    np.testing.assert_array_equal(decoding.decode(path, rate, start=1.5), part)


def test_other_formats_from_a_pipe_are_whole(tmp_path):
    for file_format, fields in {
        # As sox writes them.
        "AIFF": [("FORM", ">I", 0x7F000024), ("SSND", ">I", 0x7F000008)],
        "AU": [("\0\0\0\x18", ">I", 0xFFFFFFFF)],
        "W64": [("data\xf3", "<q", 2**63 - 1)],
    }.items():
        whole = content(tmp_path, file_format, "PCM_16")
        for name, layout, value in fields:
            after = 16 if file_format == "W64" else 4
            position = whole.index(name.encode("latin-1")) + after
            struct.pack_into(layout, whole, position, value)
        assert len(decode(tmp_path, whole)) == SECONDS * RATE


def test_a_flac_whose_header_leaves_the_length_open_is_read(tmp_path):
    whole = content(tmp_path, "FLAC", "PCM_16")
    expected = decode(tmp_path, whole)
    # The 36 bits that count the samples, in the first block of metadata.
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    np.testing.assert_array_equal(decode(tmp_path, whole), expected)
    path = tmp_path / "x.wav"
    part = decoding.decode(path, RATE, start=0.5, end=0.75)
    np.testing.assert_array_equal(part, expected[RATE // 2 : 3 * RATE // 4])
    with pytest.raises(decoding.UnusableFileError, match="flac decoder"):
        decode(tmp_path, whole[: len(whole) // 2])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_needs_no_mark_at_its_end(tmp_path, subtype):
    """Recordings of Android lack it."""
    whole = content(tmp_path, "OGG", subtype)
    page = whole.rindex(b"OggS")
    assert whole[page + 5] & 4
    path = tmp_path / "x.ogg"
    whole[page + 5] &= ~4
    path.write_bytes(whole)
    assert truncation.missing_bytes(path) == 0
    path.write_bytes(whole + b"TAG" + bytes(125))
    assert truncation.missing_bytes(path) == 0
    path.write_bytes(whole[: page + 20])
    assert truncation.missing_bytes(path) == 7


def test_tags_around_an_mp3_do_not_matter(tmp_path):
    whole = content(tmp_path, "MP3", "MPEG_LAYER_III")
    tag = b"ID3\4\0\0" + bytes([0, 0, 3, 5])
    before = tag + bytes(3 * 128 + 5)
    after = b"TAG" + bytes(125)
    for some in (before + whole, before + before + whole + after):
        assert len(decode(tmp_path, some)) == SECONDS * RATE
    with pytest.raises(decoding.UnusableFileError, match="cut off"):
        decode(tmp_path, before + whole[: len(whole) // 2])


def test_an_mp3_may_lack_a_tag_that_its_header_counts(tmp_path):
    """A tag at the end has 128 bytes, and some programs remove it."""
    whole = content(tmp_path, "MP3", "MPEG_LAYER_III")
    (header,) = re.finditer(rb"(?:Xing|Info)\0\0\0(.)", whole, re.DOTALL)
    assert header[1][0] & 3 == 3
    position = header.end() + 4
    for excess, lacking in ((128, 0), (1000, 1000 - 128)):
        struct.pack_into(">I", whole, position, len(whole) + excess)
        (tmp_path / "x.mp3").write_bytes(whole)
        assert truncation.missing_bytes(tmp_path / "x.mp3") == lacking


def test_an_mp3_with_the_header_of_fraunhofer_tells_its_length(tmp_path):
    whole = content(tmp_path, "MP3", "MPEG_LAYER_III")
    path = tmp_path / "x.mp3"
    fields = struct.pack(">4s3HI", b"VBRI", 1, 0, 0, len(whole))
    whole[36 : 36 + len(fields)] = fields
    path.write_bytes(whole)
    assert truncation.missing_bytes(path) == 0
    path.write_bytes(whole[:-1000])
    assert 800 < truncation.missing_bytes(path) <= 1000


def test_a_damaged_chain_of_chunks_is_followed_for_a_moment_only(tmp_path):
    path = tmp_path / "x.wav"
    # Two million chunks without contents.
    path.write_bytes(b"RIFF" + bytes(4) + b"WAVE" + bytes(2**24))
    assert truncation.missing_bytes(path) == 0
    for size in (2**31, 2**32 - 1):
        chunk = b"LIST" + struct.pack("<I", size)
        path.write_bytes(b"RIFF" + bytes(4) + b"WAVE" + chunk + bytes(99))
        assert truncation.missing_bytes(path) == 0


def test_telephone_recordings_are_read(tmp_path):
    for file_format, subtype in (("WAV", "GSM610"), ("AU", "G721_32")):
        whole = content(tmp_path, file_format, subtype, rate=8000)
        audio = decode(tmp_path, whole)
        with soundfile.SoundFile(tmp_path / "whole") as file:
            assert not file.seekable()
            assert len(audio) == 2 * file.frames
        spectrum = np.abs(np.fft.rfft(audio[:RATE]))
        # The rate in the header is half of that of the sine.
        assert abs(np.argmax(spectrum) - 220) < 2
        part = decoding.decode(tmp_path / "x.wav", RATE, start=0.5, end=1.0)
        assert np.corrcoef(part, audio[RATE // 2 : RATE])[0, 1] > 0.99
