"""A classifier judges audio while it comes in as it judges a recording."""

import functools

import keras
import numpy as np
import pytest
import soxr

from leaf_audio import data, frontend, models, serving

pytestmark = pytest.mark.any_backend

RATE = 4000
LABELS = ["low", "mid", "high"]


def made(*transform_fns):
    """An untrained classifier, in the form of a trained one."""
    keras.utils.set_random_seed(0)
    model = models.AudioClassifier(
        num_outputs=3,
        frontend=frontend.MelFilterbanks(
            n_filters=8, sample_rate=RATE, compression_fn="pcen"
        ),
        encoder=models.ConvNet([4]),
        pooling="average",
    )
    model.build((None, 500))
    # Otherwise all probabilities would be the same.
    model.head.kernel.assign(200 * model.head.kernel)
    return serving.TrainedClassifier(
        model=model,
        labels=LABELS,
        sample_rate=RATE,
        transform_fns=transform_fns,
    )


@pytest.fixture(scope="module")
def trained():
    return made(
        functools.partial(data.align, seq_len=500),
        functools.partial(data.loudness_normalization, target_db=3.0),
    )


def noise(length, seed=0):
    """Noise that becomes louder, so that windows differ."""
    generator = np.random.default_rng(seed)
    swell = np.linspace(0.1, 1, max(length, 1))[:length]
    return (swell * generator.normal(0, 0.1, length)).astype("float32")


def in_chunks(stream, samples, sizes):
    found, start = [], 0
    for size in sizes:
        if start >= len(samples):
            break
        found += stream.push(samples[start : start + size])
        start += size
    assert start >= len(samples)
    return [*found, *stream.finish()]


def assert_judged_as(found, classifier, samples, length, hop):
    windows = list(classifier.windows(samples, length, hop))
    rows = classifier.probabilities(np.stack([one.clip for one in windows]))
    assert np.ptp(rows, axis=0).max() > 0.01 or len(rows) < 3
    assert [(one.start, one.end) for one in found] == [
        (one.start / RATE, one.end / RATE) for one in windows
    ]
    for one, row in zip(found, rows, strict=True):
        assert list(one.probabilities) == LABELS
        np.testing.assert_allclose(
            list(one.probabilities.values()), row, atol=1e-4
        )


# 9100 samples are judged in more windows than the model gets at once.
@pytest.mark.parametrize("length", [500, 501, 749, 750, 2000, 9100])
@pytest.mark.parametrize("chunk", [7, 250, 333, 10_000])
def test_chunks_are_judged_as_the_windows_of_the_whole(trained, length, chunk):
    samples = noise(length)
    stream = trained.stream()
    found = in_chunks(stream, samples, [chunk] * length)
    assert_judged_as(found, trained, samples, 500, 250)


def test_a_window_is_judged_as_soon_as_it_is_complete(trained):
    stream = trained.stream(window=0.1, hop=0.05)
    assert stream.latency == 400
    samples = noise(900)
    assert not stream.push(samples[:399])
    (first,) = stream.push(samples[399:400])
    assert (first.start, first.end) == (0.0, 0.1)
    assert not stream.push(samples[400:599])
    found = [first, *stream.push(samples[599:]), *stream.finish()]
    assert_judged_as(found, trained, samples, 400, 200)


def test_audio_that_is_shorter_than_a_window_is_one(trained):
    samples = noise(123)
    found = in_chunks(trained.stream(), samples, [100, 23])
    assert_judged_as(found, trained, samples, 500, 250)
    assert trained.stream().finish() == []


def test_integers_are_judged_as_floats(trained):
    integers = (32768 * noise(1300)).astype("int16")
    found = in_chunks(trained.stream(), integers, [200] * 7)
    assert_judged_as(found, trained, integers / np.float32(32768), 500, 250)


def test_audio_of_another_rate_is_resampled(trained):
    samples = noise(6000)
    stream = trained.stream(sample_rate=11025)
    found = in_chunks(stream, samples, [100, 7, 1500] * 4)
    resampled = soxr.resample(samples, 11025, RATE)
    assert_judged_as(found, trained, resampled, 500, 250)


def test_a_model_of_clips_of_any_length_needs_a_window():
    classifier = made()
    with pytest.raises(ValueError, match="`window` must be given"):
        classifier.stream()
    samples = noise(1000)
    found = in_chunks(classifier.stream(window=0.1), samples, [300] * 4)
    assert_judged_as(found, classifier, samples, 400, 200)


@pytest.mark.parametrize(
    "settings",
    [
        {"hop": 0.2},
        {"hop": 0.0},
        {"hop": 1e-9},
        {"window": 0.2},
        {"window": -1},
        {"sample_rate": 0},
    ],
)
def test_a_wrong_argument_is_named(trained, settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"`{name}`.*{name}={value}"):
        trained.stream(**settings)


def test_what_cannot_be_judged_is_refused(trained):
    stream = trained.stream()
    with pytest.raises(ValueError, match="`samples` must be an array"):
        stream.push(np.zeros((2, 5), "float32"))
    with pytest.raises(ValueError, match="not finite"):
        stream.push(np.full(5, np.nan, "float32"))
    stream.finish()
    with pytest.raises(ValueError, match="after `finish`"):
        stream.push(noise(5))
    with pytest.raises(ValueError, match="after `finish`"):
        stream.finish()
