"""The embedded set: reproducible, offline, balanced, learnable, not trivial."""

import hashlib
import io
import itertools
import socket
import sys

import numpy as np
import pytest

from leaf_audio import data
from leaf_audio.data import synthetic_vowels as vowels

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def printed():
    """What making the set has written, filled by `audio_data`."""
    return io.StringIO(), io.StringIO()


@pytest.fixture(scope="module")
def audio_data(tmp_path_factory, printed):
    def refuse(*unused):
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        directory = tmp_path_factory.mktemp("vowels")
        patch.setattr(sys, "stdout", printed[0])
        patch.setattr(sys, "stderr", printed[1])
        return data.load("synthetic_vowels", data_dir=str(directory))


def arrays(audio_data, split):
    pairs = list(audio_data.splits[split].batch(4096).as_numpy_iterator())
    audio, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return audio, labels


@pytest.mark.slow
def test_making_it_prints_a_line_for_each_split(audio_data, printed):
    stdout, stderr = (stream.getvalue() for stream in printed)
    assert stdout == ""
    lines = stderr.splitlines()
    for line, split in zip(lines, audio_data.counts, strict=True):
        assert line.startswith(f"Preparing synthetic_vowels {split} ")


def test_ten_vowels_are_balanced_in_every_split(audio_data):
    assert audio_data.counts == {"train": 2100, "validation": 450, "test": 450}
    assert audio_data.label_names == vowels.VOWELS
    assert audio_data.sample_rate == 16000
    for split, count in audio_data.counts.items():
        audio, labels = arrays(audio_data, split)
        assert audio.shape == (count, 16000)
        np.testing.assert_array_equal(np.bincount(labels), count // 10)


def test_speakers_are_disjoint_between_splits(monkeypatch):
    # To synthesize them all would take seconds.
    monkeypatch.setattr(vowels, "utter", lambda *unused: np.zeros(1, np.int16))
    seen = {}
    for split in ("train", "validation", "test"):
        examples = vowels.examples(split)
        seen[split] = {
            example["speaker"] for _, example in itertools.islice(examples, 900)
        }
    names = [s for some in seen.values() for s in some]
    assert len(names) == len(set(names)) >= 45
    people = [p for split in seen for p in vowels.speakers(split)]
    assert len({(p.pitch, p.tract) for p in people}) == len(people) == 100


def test_an_utterance_is_the_same_whenever_it_is_made():
    speaker = next(vowels.speakers("train"))

    def digest(key, label=3):
        clip = vowels.utter(speaker, label, vowels.random_generator(key))
        assert clip.dtype == np.int16
        return hashlib.sha256(clip.tobytes()).hexdigest()

    assert digest("a") == digest("a")
    assert digest("a") != digest("b")


def test_no_two_clips_are_alike_and_none_is_silent_or_clipped(audio_data):
    audio, _ = arrays(audio_data, "train")
    assert len({clip.tobytes() for clip in audio}) == len(audio)
    peaks = np.abs(audio).max(axis=1)
    assert 0.02 < peaks.min() < 0.05 < 0.5 < peaks.max() < 0.95


def quiet(**changes):
    """A speaker without habits."""
    settings = {
        "name": "x",
        "group": "man",
        "pitch": 1.0,
        "tract": 1.0,
        "vowel_shifts": np.ones((10, 3)),
        "pulse_cutoff_hz": 150.0,
        "breath": 0.0,
    }
    return vowels.Speaker(**(settings | changes))


class Still:
    """Answers every draw with its mean."""

    def normal(self, mean, deviation, size=None):
        return np.full(size, mean) if size else mean


@pytest.mark.parametrize("group", ["man", "woman", "child"])
@pytest.mark.parametrize("label", range(10))
def test_resonances_lie_at_the_published_formants(group, label):
    response = np.abs(vowels.vocal_tract(quiet(group=group), label, Still()))
    hz = np.arange(len(response)) * 16000 / vowels.N_FFT
    for formant in ("F1", "F2", "F3"):
        published = vowels.MEANS[group][formant][label]
        near = abs(hz - published) < 0.08 * published
        peak = hz[near][np.argmax(response[near])]
        # Close formants pull each other's peaks together.
        assert abs(peak - published) < 0.06 * published


def test_pitch_follows_the_published_mean():
    rng = np.random.default_rng(0)
    pitches = []
    for _ in range(40):
        source = vowels.glottal_source(quiet(), 0, 8000, rng)
        correlation = np.fft.irfft(np.abs(np.fft.rfft(source, 2**14)) ** 2)
        smooth = np.convolve(correlation[:400], np.hanning(9), "same")
        pitches.append(16000 / (80 + np.argmax(smooth[80:200])))
    # Utterances differ by 8 %, so their mean by 1.3 %.
    assert abs(np.median(pitches) - 136) < 8


def log_mel(audio):
    frames = np.lib.stride_tricks.sliding_window_view(audio, 400, axis=1)
    spectra = np.fft.rfft(frames[:, ::160] * np.hanning(400), 512)

    def mel(hz):
        return 1127 * np.log1p(hz / 700)

    bins, edges = (
        mel(np.linspace(0, 8000, 257)),
        np.linspace(mel(60), mel(7800), 42),
    )
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    power = np.abs(spectra) ** 2 @ np.maximum(0, np.minimum(rising, falling))
    return np.log(power + 1e-5 * power.mean(axis=(1, 2), keepdims=True))


def features(audio):
    """Level-free log-mel, averaged with weights towards the loud frames."""
    mels = np.concatenate([log_mel(some) for some in np.array_split(audio, 20)])
    loudness = mels.mean(axis=2)
    weights = np.exp(3 * (loudness - loudness.max(axis=1, keepdims=True)))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = np.einsum("nt,ntm->nm", weights, mels)
    mean -= mean.mean(axis=1, keepdims=True)
    return np.c_[mean, mels.std(axis=1), np.ones(len(mels))]


def test_a_linear_classifier_does_far_better_than_chance_but_not_perfectly(
    audio_data,
):
    audio, labels = arrays(audio_data, "train")
    x = features(audio)
    weights = np.linalg.solve(
        x.T @ x + np.eye(x.shape[1]), x.T @ np.eye(10)[labels]
    )
    audio, labels = arrays(audio_data, "test")
    accuracy = np.mean((features(audio) @ weights).argmax(axis=1) == labels)
    assert 0.65 < accuracy < 0.9


# In CI, `quickstart.gin` learns from the set at this rate.
@pytest.mark.slow
def test_another_rate_is_resampled(audio_data):
    directory = audio_data.path.split("/leaf_audio/")[0]
    result = data.load("synthetic_vowels", directory, sample_rate=8000)
    assert result.sample_rate == 8000
    assert result.counts == audio_data.counts
    original = arrays(audio_data, "test")[0][0]
    clip = next(result.splits["test"].as_numpy_iterator())[0]
    assert clip.shape == (8000,)
    # Same spectrum below the new Nyquist rate.
    low, high = np.fft.rfft(clip)[:3000], np.fft.rfft(original)[:3000]
    assert np.linalg.norm(2 * low - high) < 0.02 * np.linalg.norm(high)
