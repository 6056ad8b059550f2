"""Which files count as recordings, and at which rates."""

import numpy as np
import pytest
from audio_files import audio_of, put, sine

from leaf_audio.data import extensions

pytestmark = pytest.mark.any_backend

UNREADABLE = (
    "mp4 m4v mov 3gp 3g2 mkv webm weba avi wmv asf flv mpg mpeg ogv mts "
    "m4a m4b aac adts amr awb wma ac3 ape wv tta mpc shn dsf ra rm sph nist "
    "snd au caf aiff voc raw pcm ul vox gsm w64 opus mka dss qcp"
)


def put_garbage(path):
    path.write_bytes(b"this is no audio at all" * 99)


@pytest.mark.parametrize("extension", ["mp4", "WEBM", "3gp", "sph", "snd"])
def test_a_recording_that_cannot_be_read_stops_a_run(
    folder, read_folder, extension
):
    put_garbage(folder / f"train/yes/x.{extension}")
    with pytest.raises(ValueError, match=f"train/yes/x.{extension}': "):
        read_folder(folder)


def test_every_recording_that_cannot_be_read_is_told(folder, read_folder):
    files = [f"train/yes/x.{extension}" for extension in UNREADABLE.split()]
    for file in files:
        put_garbage(folder / file)
    result = read_folder(folder, on_error="skip")
    assert sorted(result.skipped) == sorted(files)
    assert result.counts["train"] == 6


@pytest.mark.parametrize(
    "name", ["README.md", "x.txt", "x.json", "x.png", "x.npy", "x.TextGrid"]
)
def test_a_file_of_another_kind_is_no_recording(name):
    assert not extensions.is_recording(name)


@pytest.mark.parametrize(
    "name, options",
    [
        ("x.sph", {"format": "NIST"}),
        ("x.snd", {"format": "AU"}),
        ("x.caf", {"format": "CAF"}),
        ("x.w64", {"format": "W64"}),
        ("x.voc", {"format": "VOC", "subtype": "PCM_16"}),
        ("x.opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)
def test_what_the_decoder_knows_is_read_whatever_its_name(
    folder, read_folder, name, options
):
    put(folder / "train/yes" / name, **options)
    assert read_folder(folder).counts["train"] == 7


@pytest.mark.parametrize("rate", [100, 250, 384000, 1000000, 2000000])
def test_rates_from_geophones_to_ultrasound_are_read(folder, read_folder, rate):
    samples = sine(20, rate, 1.0)
    put(folder / "train/yes/x.wav", samples, rate, subtype="FLOAT")
    audio = audio_of(read_folder(folder, sample_rate=1000))[-1]
    assert len(audio) == 1000
    error = audio[100:-100] - sine(20, 1000, 1.0)[100:-100]
    assert np.abs(error).max() < 1e-2


@pytest.mark.parametrize("rate", [100, 2000000])
def test_clips_may_have_such_rates_too(tmp_path, read_folder, rate):
    for i, label in enumerate(("no", "yes")):
        for j, split in enumerate(("train", "test")):
            path = tmp_path / "clips" / split / label / "x.wav"
            put(path, sine(10 + 2 * i + j, rate, 0.5), rate)
    result = read_folder(tmp_path / "clips", sample_rate=rate)
    assert {len(audio) for audio in audio_of(result)} == {rate // 2}


@pytest.mark.parametrize("rate", [50, 99, 2000001])
def test_a_rate_beyond_them_is_refused(folder, read_folder, rate):
    put(folder / "train/yes/x.wav", rate=rate)
    with pytest.raises(ValueError, match=f"x.wav': it claims .* {rate} Hz"):
        read_folder(folder)
    with pytest.raises(ValueError, match=f"sample_rate={rate}"):
        read_folder(folder, sample_rate=rate)
