"""Decoding: formats, rates, channels, and files that cannot be used."""

import numpy as np
import pytest
from audio_files import RATE, SPOILS, audio_of, put, sine, spoil

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
        ("x.aiff", "converted"),
        ("x.mp3", "not recognised"),
    ],
)
def test_what_no_decoder_reads_is_named(folder, read_folder, name, reason):
    (folder / "train/yes" / name).write_bytes(b"this is no audio at all" * 99)
    with pytest.raises(ValueError, match=f"train/yes/{name}.*{reason}"):
        read_folder(folder)
    read_folder(folder, on_error="skip")


def test_a_wav_written_to_a_pipe_is_not_taken_for_cut_off(folder, read_folder):
    path = folder / "train/yes/1.wav"
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert read_folder(folder).counts["train"] == 6


def test_a_file_at_another_than_the_declared_rate_is_named(folder, read_folder):
    put(folder / "train/yes/1.wav", rate=44100)
    with pytest.raises(ValueError, match="train/yes/1.wav.*44100.*16000"):
        read_folder(folder, source_sample_rate=16000)
    result = read_folder(folder, source_sample_rate=16000, on_error="skip")
    assert "44100" in result.skipped["train/yes/1.wav"]
