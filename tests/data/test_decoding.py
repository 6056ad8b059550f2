"""Decoding: formats, rates, channels, and files that cannot be used."""

import os
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
from audio_files import RATE, SPOILS, audio_of, put, sine, spoil

from leaf_audio.data import decoding

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "name", ["x.wav", "x.FLAC", "x.ogg", "x.Mp3", "x.aiff"]
)
def test_every_format_is_decoded(folder, read_folder, name):
    put(folder / "train/yes" / name, sine(1000), format=name[2:].upper())
    audio = audio_of(read_folder(folder))[-1]
    spectrum = np.abs(np.fft.rfft(audio[:4000] * np.hanning(4000)))
    assert np.argmax(spectrum) == 250
    assert abs(np.std(audio[800:3200]) - 0.5 / np.sqrt(2)) < 0.01


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_is_resampled(folder, read_folder, rate):
    put(
        folder / "train/yes/x.wav", sine(1000, rate, 1.0), rate, subtype="FLOAT"
    )
    audio = audio_of(read_folder(folder))[-1]
    assert len(audio) == RATE
    middle = slice(1000, -1000)
    error = audio[middle] - sine(1000, RATE, 1.0)[middle]
    assert np.sqrt(np.mean(error**2)) < 1e-4


def test_nothing_is_added_above_the_band_of_a_lower_rate(folder, read_folder):
    """Rounding to 16 bits would be noise there, which use does not have."""
    path = put(folder / "train/yes/x.wav", sine(1000, 8000, seconds=1), 8000)
    audio = audio_of(read_folder(folder))[-1]
    expected = decoding.read_recording(str(path), RATE)
    np.testing.assert_allclose(audio, expected, atol=2**-23)
    assert np.abs(audio - expected).max() > 0


def test_content_beyond_the_new_nyquist_rate_is_removed(folder, read_folder):
    put(folder / "train/yes/x.wav", sine(11000, 48000, 1.0), 48000)
    audio = audio_of(read_folder(folder))[-1]
    assert np.std(audio[1000:-1000]) < 1e-3


def test_channels_are_averaged(folder, read_folder):
    left, right = sine(500), sine(900)
    stereo = np.stack([left, right, 0 * left], axis=1)
    put(folder / "train/yes/x.wav", stereo, subtype="FLOAT")
    audio = audio_of(read_folder(folder))[-1]
    np.testing.assert_allclose(audio, (left + right) / 3, atol=1e-6)


@pytest.mark.parametrize("how, reason", SPOILS)
def test_an_unusable_file_is_named_with_the_reason(
    folder, read_folder, how, reason
):
    spoil(folder / "train/yes/1.wav", how)
    with pytest.raises(ValueError, match="train/yes/1.wav") as error:
        read_folder(folder)
    assert error.match(f"(?i){reason}")
    assert str(folder) not in str(error.value)
    assert ".." not in str(error.value)
    assert "audio_folder.on_error = 'skip'" in str(error.value)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("x.m4a", "converted"),
        ("x.raw", "converted"),
        ("x.mp3", "not recognised"),
        ("x.aiff", "Format not recognised"),
        ("x.VOC", "Format not recognised"),
        ("x.caf", "Format not recognised"),
        ("x.snd", "no header of a known format"),
        ("x.w64", "Format not recognised"),
        ("x.opus", "Format not recognised"),
    ],
)
def test_what_no_decoder_reads_is_named(folder, read_folder, name, reason):
    (folder / "train/yes" / name).write_bytes(b"this is no audio at all" * 99)
    with pytest.raises(ValueError, match=f"train/yes/{name}.*{reason}"):
        read_folder(folder)
    read_folder(folder, on_error="skip")


def test_a_file_at_another_than_the_declared_rate_is_named(folder, read_folder):
    put(folder / "train/yes/1.wav", rate=44100)
    with pytest.raises(ValueError, match="train/yes/1.wav.*44100.*16000"):
        read_folder(folder, source_sample_rate=16000)
    result = read_folder(folder, source_sample_rate=16000, on_error="skip")
    assert "44100" in result.skipped["train/yes/1.wav"]


def test_a_folder_named_as_a_file_may_hold_recordings(folder, read_folder):
    put(folder / "train/yes/session.wav/x.wav")
    (folder / "train/yes/empty.flac/more").mkdir(parents=True)
    assert read_folder(folder).counts["train"] == 7
    (folder / "train/yes/empty.flac/more").rmdir()
    with pytest.raises(ValueError, match="yes/empty.flac': it is a folder"):
        read_folder(folder)


@pytest.mark.parametrize(
    "error", [ValueError("odd"), MemoryError(), RuntimeError("x"), KeyError(7)]
)
def test_whatever_a_decoder_raises_names_the_file(
    folder, read_folder, monkeypatch, error
):
    original = soundfile.SoundFile.read

    def read(self, *args, **options):
        if os.path.basename(self.name) == b"1.wav":
            raise error
        return original(self, *args, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    kind = type(error).__name__
    with pytest.raises(ValueError, match=f"train/yes/1.wav': .*{kind}"):
        read_folder(folder)
    result = read_folder(folder, on_error="skip")
    assert result.counts["train"] == 4
    assert kind in result.skipped["train/no/1.wav"]


@pytest.mark.parametrize("channels", [1, 3, 200])
def test_a_long_file_is_decoded_in_blocks_without_seams(tmp_path, channels):
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, (2**22 // channels, channels))
    path = put(tmp_path / "x.wav", noise, 44100)
    blocks = list(decoding.decode_blocks(path, RATE))
    assert len(blocks) > 3 and max(map(len, blocks)) <= 2**20
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    expected = soxr.resample(samples.mean(axis=1), 44100, RATE)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_a_block_is_bounded_also_where_resampling_makes_it_longer(tmp_path):
    path = put(tmp_path / "x.wav", np.zeros(30000), 100)
    blocks = list(decoding.decode_blocks(path, 44100))
    assert sum(map(len, blocks)) == 30000 * 441
    assert max(map(len, blocks)) < 2**20 + 2**18


def test_a_segment_may_end_a_little_after_its_file(tmp_path):
    path = put(tmp_path / "x.wav", sine(440, seconds=0.25))
    whole = decoding.decode(path, RATE)
    for end in (0.25, 0.2501, 0.2599):
        some = decoding.decode(path, RATE, start=0.1, end=end)
        np.testing.assert_array_equal(some, whole[1600:])
    for start, end in ((0.1, 0.262), (0.1, 0.5), (0.251, 0.255)):
        with pytest.raises(decoding.UnusableFileError, match="only 0.25 s"):
            decoding.decode(path, RATE, start=start, end=end)


def mutations(content, count):
    """Yields damaged copies: other bytes, bytes less, bytes more."""
    generator = np.random.default_rng(0)
    for i in range(count):
        # Every second one is damaged in its header.
        end = 150 if i % 2 else len(content)
        copy = bytearray(content)
        at = int(generator.integers(4, end))
        noise = generator.bytes(int(generator.integers(1, 9)))
        if i % 5 == 0:
            del copy[at : at + 1000]
        elif i % 5 == 1:
            copy[at:at] = noise
        elif i % 5 == 2:
            copy[at : at + len(noise)] = len(noise) * b"\xff"
        else:
            copy[at : at + len(noise)] = noise
        yield bytes(copy)


@pytest.mark.parametrize(
    "file_format, subtype",
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
        ("CAF", "ALAC_16"),
    ],
)
def test_a_damaged_file_is_decoded_or_unusable_and_takes_no_memory(
    tmp_path, file_format, subtype
):
    stereo = np.stack([sine(440), sine(550)], axis=1)
    options = {"format": file_format, "subtype": subtype}
    content = put(tmp_path / "whole", stereo, **options).read_bytes()
    path = tmp_path / "damaged.wav"
    usable = 0
    tracemalloc.start()
    try:
        for damaged in mutations(content, 60):
            path.write_bytes(damaged)
            try:
                samples = decoding.decode(path, 8000)
            except decoding.UnusableFileError as error:
                assert str(error)
            else:
                usable += 1
                assert np.isfinite(samples).all() and len(samples)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert usable < 60
    # A few blocks of 4 MiB.
    assert most < 2**25


def chirp(samples):
    seconds = np.arange(samples) / RATE
    return 0.5 * np.sin(2 * np.pi * (200 * seconds + 100 * seconds**2))


FORMATS = [("WAV", None), ("FLAC", None), ("MP3", None)]
FORMATS += [("OGG", "VORBIS"), ("OGG", "OPUS")]


@pytest.mark.parametrize("kind, subtype", FORMATS)
def test_a_segment_is_exact_wherever_it_lies(tmp_path, kind, subtype):
    """libsndfile itself seeks to wrong places in the last page of Vorbis."""
    path, rng = tmp_path / "x", np.random.default_rng(0)
    for samples in (24000, 31777, 89749, 160000, 200023):
        soundfile.write(
            path, chirp(samples), RATE, format=kind, subtype=subtype
        )
        whole = decoding.decode(path, RATE)
        for back in (800, 3200, 9600, *rng.integers(9600, samples, 8)):
            start = len(whole) - int(back)
            part = decoding.decode(path, RATE, start=start / RATE)
            expected = whole[start:]
            np.testing.assert_allclose(part, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_most_of_a_long_file_is_not_decoded_for_a_segment(
    tmp_path, decoded_counts, kind
):
    path = tmp_path / "x"
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * RATE)
    soundfile.write(path, noise, RATE, format=kind)
    for start in (30, 59):
        decoding.decode(path, RATE, start=start, end=start + 1)
    assert sum(decoded_counts) < 20 * RATE


def test_recordings_one_after_the_other_in_an_ogg_file_are_told(tmp_path):
    """Only the first one would be decoded."""
    path, other = tmp_path / "one.ogg", tmp_path / "two.ogg"
    soundfile.write(path, chirp(48000), RATE)
    soundfile.write(other, chirp(16000), RATE)
    assert len(decoding.decode(path, RATE)) == 48000
    path.write_bytes(path.read_bytes() + other.read_bytes())
    with pytest.raises(decoding.UnusableFileError, match="one after the other"):
        decoding.decode(path, RATE)


def test_a_rate_is_one_rate_however_it_is_written(folder, read_folder):
    first = read_folder(folder, sample_rate=8000)
    second = read_folder(folder, sample_rate=8000.0)
    assert (first.path, first.sample_rate) == (second.path, second.sample_rate)
    with pytest.raises(ValueError, match="a whole number from 100.*=8000.5"):
        read_folder(folder, sample_rate=8000.5)
    with pytest.raises(ValueError, match="`sample_rate` must be a rate"):
        decoding.at_rate(np.ones(9), 8000, 0)
