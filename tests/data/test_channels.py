"""Channels that cancel each other when they are averaged."""

import numpy as np
import pytest
from audio_files import RATE, put, sine

from leaf_audio import data
from leaf_audio.data.channels import ChannelMixer

pytestmark = pytest.mark.any_backend

generator = np.random.default_rng(0)
NOISE = generator.normal(0, 0.1, (RATE, 8)).astype("float32")
LEFT = NOISE[:, 0]

CANCELLING = {
    "opposite signs": [LEFT, -LEFT],
    "opposite signs and levels that differ a little": [LEFT, -0.8 * LEFT],
    "opposite signs below a constant": [0.3 + LEFT, 0.3 - LEFT],
    "opposite signs with noise": [LEFT, -LEFT + 0.1 * NOISE[:, 1]],
    "two pairs": [LEFT, NOISE[:, 1], -LEFT, -NOISE[:, 1]],
}
SOUND = {
    "one channel": [LEFT],
    "equal channels": [LEFT, LEFT],
    "independent channels": list(NOISE.T),
    "a silent channel": [LEFT, 0 * LEFT],
    "silence": [0 * LEFT, 0 * LEFT],
    "a constant": [0 * LEFT + 0.1, 0 * LEFT - 0.1],
    "a faint echo of opposite sign": [LEFT, -0.3 * LEFT],
}


@pytest.mark.parametrize("block", [RATE, 1000, 7])
@pytest.mark.parametrize("kind", [*CANCELLING, *SOUND])
def test_channels_cancel_only_if_their_mean_is_close_to_silence(kind, block):
    channels = np.stack((CANCELLING | SOUND)[kind], axis=1).astype("float32")
    mixer = ChannelMixer()
    mono = [
        mixer(channels[start : start + block])
        for start in range(0, RATE, block)
    ]
    assert mixer.cancels == (kind in CANCELLING)
    np.testing.assert_allclose(
        np.concatenate(mono), channels.mean(axis=1), atol=1e-7
    )


def test_a_mixer_without_samples_tells_nothing():
    assert not ChannelMixer().cancels


def cancelling(path):
    return put(path, np.stack([sine(300), -sine(300)], axis=1))


def test_files_whose_channels_cancel_are_counted_and_the_first_named(
    folder, read_folder
):
    for i in range(7):
        cancelling(folder / f"train/yes/antiphase {i}.wav")
    put(folder / "train/yes/sound.wav", np.stack([sine(300), sine(500)], 1))
    for _ in range(2):  # prepared, then read back
        with pytest.warns(data.DataWarning) as caught:
            result = read_folder(folder)
        assert len(caught) == 1
        (sentence,) = result.warnings
        assert str(caught[0].message) == sentence
        assert "7 files ('train/yes/antiphase 0.wav'" in sentence
        assert "antiphase 2.wav" in sentence and "and 4 more" in sentence
        assert "antiphase 3.wav" not in sentence and "sound" not in sentence
        assert "silence" in sentence
    assert result.counts["train"] == 14


def test_a_recording_to_predict_is_named_if_its_channels_cancel(tmp_path):
    path = str(cancelling(tmp_path / "x.wav"))
    with pytest.warns(data.DataWarning, match="x.wav' cancel"):
        samples = data.read_recording(path, RATE)
    assert np.abs(samples).max() < 1e-4
    data.read_recording(str(put(tmp_path / "y.wav")), RATE)


def test_silent_recordings_are_named(folder, read_folder):
    put(folder / "train/yes/muted.wav", np.zeros(RATE))
    with pytest.warns(data.DataWarning, match="1 clip is silent.*yes/muted"):
        result = read_folder(folder)
    assert len(result.warnings) == 1
    path = str(folder / "train/yes/muted.wav")
    with pytest.warns(data.DataWarning, match="muted.wav' is silent"):
        data.read_recording(path, RATE)
