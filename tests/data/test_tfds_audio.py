"""Sets of TensorFlow Datasets: features, rates, channels, splits."""

import functools
import socket
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from leaf_audio import data
from leaf_audio.data import tfds_audio

pytestmark = pytest.mark.any_backend

RATE = 8000


def sine(hz, rate=RATE, seconds=0.5):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def rotated(example, count):
    """Rotates the audio by some samples, so that no splits share any."""
    return {
        name: rotated(value, count)
        if isinstance(value, dict)
        else np.roll(value, count, axis=0)
        if name in ("audio", "wave")
        else value
        for name, value in example.items()
    }


def make_builder(features, examples, splits):
    """A builder class; `examples` makes the examples of a split."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        # TFDS 4.9.10 would look for a list of downloads, with a package that
        # it does not install.
        code_path = None

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for i, example in enumerate(examples(split)):
                yield i, rotated(example, list(splits).index(split))

    return Tiny


@pytest.fixture
def load(tmp_path, monkeypatch):
    def load(features, examples, splits=("train", "test"), **options):
        builder = make_builder(features, examples, splits)
        monkeypatch.setattr(tfds, "builder", lambda name, **kw: builder(**kw))
        return data.load("tiny", data_dir=str(tmp_path), **options)

    return load


LABEL = tfds.features.ClassLabel(names=["a", "b", "c"])
MONO = tfds.features.Audio(shape=(None,), dtype=np.int16, sample_rate=RATE)


def int16(samples):
    return np.round(samples * 32767).astype(np.int16)


def tones(split):
    for i in range(6):
        yield {"audio": int16(sine(300 + 100 * i)), "label": i % 3}


def by_label(audio_data, split="train"):
    return {
        audio_data.label_names[label]: audio
        for audio, label in audio_data.splits[split].as_numpy_iterator()
    }


def test_int16_audio_is_kept_as_it_is(load):
    result = load({"audio": MONO, "label": LABEL}, tones)
    assert result.counts == {"train": 6, "test": 6}
    assert (result.sample_rate, result.label_names) == (RATE, ("a", "b", "c"))
    expected = {
        (int16(sine(300 + 100 * i)) / np.float32(32767)).tobytes()
        for i in range(6)
    }
    clips = [a for a, _ in result.splits["train"].as_numpy_iterator()]
    assert {clip.tobytes() for clip in clips} == expected
    assert result.clips["train"].nbytes == 2 * sum(map(len, clips))


def test_a_set_built_anew_is_prepared_anew(load, tmp_path):
    features = {"audio": MONO, "label": LABEL}
    first = load(features, tones)
    assert load(features, tones).fingerprint == first.fingerprint
    for path in (tmp_path / "tiny").rglob("*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "tiny/1.0.0").rmdir()

    def others(split):
        yield from tones(split)
        yield {"audio": int16(sine(50)), "label": 0}

    second = load(features, others)
    assert second.counts["train"] == 7
    assert second.fingerprint != first.fingerprint


def test_another_rate_is_resampled_before_it_is_stored(load):
    result = load({"audio": MONO, "label": LABEL}, tones, sample_rate=2 * RATE)
    assert result.sample_rate == 2 * RATE
    candidates = [sine(hz, 2 * RATE) for hz in range(300, 900, 100)]
    for clip, _ in result.splits["train"].as_numpy_iterator():
        assert clip.dtype == np.float32
        errors = [np.std((clip - c)[500:-500]) for c in candidates]
        assert min(errors) < 1e-4
        # Not rounded to 16 bits, which would be noise above the band.
        assert np.abs((clip * 2**15 + 0.5) % 1 - 0.5).max() > 0.4


def test_channels_are_averaged_and_float_is_kept(load):
    features = {
        "audio": tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
        "label": LABEL,
    }

    def stereo(split):
        for i in range(3):
            pair = np.stack([sine(300), (i - 1) * sine(500)], axis=1)
            yield {"audio": pair.astype(np.float32), "label": i}

    result = load(features, stereo)
    assert result.sample_rate is None
    for i, name in enumerate("abc"):
        expected = (sine(300) + (i - 1) * sine(500)) / 2
        np.testing.assert_allclose(by_label(result)[name], expected, atol=1e-6)


def test_wider_integers_are_divided_by_the_largest_int16(load):
    features = {
        "audio": tfds.features.Audio(sample_rate=RATE, dtype=np.int64),
        "label": LABEL,
    }

    def large(split):
        for i in range(3):
            yield {"audio": np.array([i, 40000, -70000]), "label": i}

    clip = by_label(load(features, large))["c"]
    expected = np.array([2, 40000, -70000]) / 32767
    np.testing.assert_allclose(clip, expected, atol=2**-22)


def test_keys_lead_into_nested_features_and_integers_are_labels(load):
    features = {
        "sound": {"wave": MONO},
        "note": {"pitch": np.int64},
    }

    def notes(split):
        for pitch in (0, 2, 5):
            yield {
                "sound": {"wave": int16(sine(300 + pitch))},
                "note": {"pitch": pitch},
            }

    result = load(
        features, notes, audio_key="sound/wave", label_key="note/pitch"
    )
    assert result.label_names == ("0", "1", "2", "3", "4", "5")
    assert set(by_label(result)) == {"0", "2", "5"}


PITCHES = {
    "audio": MONO,
    "of": {"pitch": tfds.features.ClassLabel(num_classes=6), "name": LABEL},
}


def pitches(split):
    for i in range(6):
        audio = int16(sine(300 + 100 * i))
        yield {"audio": audio, "of": {"pitch": i, "name": i % 3}}


def test_a_set_with_two_features_of_labels_makes_two_tasks(
    tmp_path, monkeypatch
):
    builder = make_builder(PITCHES, pitches, ("train", "test"))
    monkeypatch.setattr(tfds, "builder", lambda name, **kw: builder(**kw))

    def of(key):
        return functools.partial(data.tfds_set, "tiny", label_key=key)

    sets = {"pitches": of("of/pitch"), "names": of("of/name")}
    result = data.load(
        "tasks",
        data_dir=str(tmp_path),
        sample_rate=RATE,
        readers={"tasks": functools.partial(data.tasks, sets)},
    )
    assert [len(one.label_names) for one in result.tasks] == [3, 6]
    assert sorted(result.clips["test"].labels) == [
        0,
        0,
        1,
        1,
        2,
        2,
        *range(3, 9),
    ]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"audio_key": "sound"}, "`audio_key`.*'sound'.*audio: Audio"),
        ({"audio_key": "label"}, "`audio_key`.*'label'.*label: ClassLabel"),
        ({"label_key": "audio"}, "`label_key`.*'audio'.*text: Text"),
        ({"label_key": "text"}, "`label_key`.*'text'"),
        ({"label_key": "label/x"}, "`label_key`.*'label/x'"),
        ({"source_sample_rate": 500}, "`source_sample_rate`.*8000 Hz.*=500"),
        ({"split_names": {"test": "test"}}, "`split_names`.*'test'"),
        (
            {"split_names": {"train": "train", "dev": "test"}},
            "`split_names`.*'dev'",
        ),
    ],
)
def test_what_the_set_does_not_have_is_an_error(load, options, message):
    features = {"audio": MONO, "label": LABEL, "text": tfds.features.Text()}

    def examples(split):
        for example in tones(split):
            yield example | {"text": "?"}

    with pytest.raises(ValueError, match=message):
        load(features, examples, **options)


def test_an_example_that_is_empty_at_the_new_rate_is_named(load):
    def examples(split):
        yield from tones(split)
        yield {"audio": np.ones(1, np.int16), "label": 0}

    with pytest.raises(ValueError, match=r"=2000, at which 'train \d' is em"):
        load({"audio": MONO, "label": LABEL}, examples, sample_rate=2000)


def test_an_undeclared_rate_must_be_given_before_resampling(load):
    features = {
        "audio": tfds.features.Tensor(shape=(None,), dtype=np.float32),
        "label": LABEL,
    }

    def examples(split):
        for i in range(3):
            yield {"audio": sine(300 + i).astype(np.float32), "label": i}

    with pytest.raises(ValueError, match="`source_sample_rate`"):
        load(features, examples, sample_rate=4000)
    result = load(features, examples, sample_rate=4000, source_sample_rate=RATE)
    assert len(by_label(result)["a"]) == 2000


@pytest.mark.parametrize(
    "spoil, message",
    [
        ({"audio": np.zeros(0, np.float32)}, "no samples in example"),
        ({"audio": np.full(9, np.inf, np.float32)}, "not finite in example"),
        ({"label": -1}, "label -1 in example"),
    ],
)
def test_an_unusable_example_is_an_error(load, spoil, message):
    features = {
        "audio": tfds.features.Tensor(shape=(None,), dtype=np.float32),
        "label": LABEL,
    }

    def examples(split):
        for i in range(3):
            yield {"audio": sine(300).astype(np.float32), "label": i}
        yield {"audio": np.ones(9, np.float32), "label": 0} | spoil

    with pytest.raises(ValueError, match=message):
        load(features, examples)


def many(split):
    for i in range(100):
        yield {"audio": np.array([i] * 3 + [-1], np.int16), "label": i % 3}


def test_asking_for_the_training_split_alone_draws_nothing(load):
    features = {"audio": MONO, "label": LABEL}
    drawn = load(features, many, ["train"])
    whole = load(features, many, ["train"], split_names={"train": "train"})
    assert drawn.counts["train"] == 80
    assert whole.counts == {"train": 100}


def values(audio_data, split):
    return [
        round(float(audio[0]) * 32767)
        for audio, _ in audio_data.splits[split].as_numpy_iterator()
    ]


def test_a_set_with_only_a_training_split_is_split_80_10_10(load):
    features = {"audio": MONO, "label": LABEL}
    result = load(features, many, ["train"])
    assert result.counts == {"train": 80, "validation": 10, "test": 10}
    whole = load(features, many, ["train"], split_names={"train": "train"})
    order = values(whole, "train")
    parts = [values(result, split) for split in result.counts]
    assert parts[1:] == [order[8::10], order[9::10]]
    assert sorted(sum(parts, [])) == sorted(order) == list(range(100))


def test_valid_is_a_name_for_validation(load):
    features = {"audio": MONO, "label": LABEL}
    result = load(features, tones, ["train", "valid", "extra"])
    assert result.counts == {"train": 6, "validation": 6}


def test_splits_can_be_chosen_and_sliced(load):
    result = load(
        {"audio": MONO, "label": LABEL},
        many,
        ["everything"],
        split_names={
            "train": "everything[:70%]",
            "validation": "everything[70%:]",
        },
    )
    assert result.counts == {"train": 70, "validation": 30}
    assert not {*values(result, "train")} & {*values(result, "validation")}


def test_a_set_without_a_training_split_lists_its_splits(load):
    with pytest.raises(ValueError, match=r"`split_names`.*\['everything'\]"):
        load({"audio": MONO, "label": LABEL}, many, ["everything"])


def test_an_unknown_set_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="`dataset`.*dataset='no_such_set'"):
        data.load("no_such_set", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name, reason",
    [
        ("speech_commands:9.9.9", "cannot be loaded at version 9.9.9, only"),
        ("speech_commands/x=1", "unexpected keyword argument 'x'"),
    ],
)
def test_a_set_that_cannot_be_opened_is_named_with_the_reason(
    tmp_path, name, reason
):
    with pytest.raises(ValueError, match=f"dataset='{name}': .*{reason}"):
        data.load(name, data_dir=str(tmp_path))


def test_without_a_network_a_download_ends_soon_and_says_so(
    tmp_path, monkeypatch
):
    waits = []

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(ValueError) as error:
        data.load("speech_commands", data_dir=str(tmp_path))
    message = str(error.value)
    assert (
        "dataset='speech_commands': HTTPConnection(host='download." in message
    )
    assert "Failed to resolve" in message and "retries" not in message
    assert "'synthetic_vowels' and 'audio_folder' need no network" in message
    # The archives are fetched side by side, two of them.
    assert sum(waits) < 2 * 10


@pytest.mark.parametrize(
    "failure",
    [
        tfds.download.DownloadError("HTTP code: 404."),
        ImportError("Failed importing pydub."),
        AssertionError("Manual directory is empty."),
    ],
)
def test_a_set_that_cannot_be_prepared_is_named_with_the_reason(load, failure):
    def fail(split):
        raise failure
        yield

    reason = str(failure).rstrip(".")
    with pytest.raises(ValueError, match=rf"dataset='tiny': {reason}\. '"):
        load({"audio": MONO, "label": LABEL}, fail)


def test_speech_commands_is_the_default_and_loads_as_declared(tmp_path):
    splits = {s: s for s in ("train", "validation", "test")}
    # The examples are the same in each split.
    with (
        tfds.testing.mock_data(num_examples=3, max_value=32767),
        pytest.warns(data.DataWarning, match="several splits"),
    ):
        result = data.load(data_dir=str(tmp_path), split_names=splits)
    assert result.name == "speech_commands"
    assert result.sample_rate == 16000
    assert len(result.label_names) == 12
    assert result.counts == {"train": 3, "validation": 3, "test": 3}
    audio, _ = next(result.splits["train"].as_numpy_iterator())
    assert audio.dtype == np.float32
    assert result.clips["train"].full_scale == 32767
    batches = data.prepare(result, batch_size=2)
    assert next(iter(batches.train()))[0].shape == (2, 16000)


def of_several(split):
    """Examples with the labels of each clip in three forms."""
    for i, some in enumerate([[0, 2], [1], [], [2, 1]]):
        bits = np.isin(np.arange(3), some)
        yield {
            "audio": int16(sine(300 + 100 * i)),
            "names": [("a", "b", "c")[k] for k in some],
            "numbers": some,
            "tensor": np.array(some, np.int64),
            "bits": bits,
            "ones": bits.astype(np.float32),
        }


SEVERAL = {
    "audio": MONO,
    "names": tfds.features.Sequence(LABEL),
    "numbers": tfds.features.Sequence(np.int64),
    "tensor": tfds.features.Tensor(shape=(None,), dtype=np.int64),
    "bits": tfds.features.Tensor(shape=(3,), dtype=np.bool_),
    "ones": tfds.features.Tensor(shape=(3,), dtype=np.float32),
}


@pytest.mark.parametrize("key", [key for key in SEVERAL if key != "audio"])
def test_sequences_and_multi_hot_vectors_are_several_labels(load, key):
    result = load(SEVERAL, of_several, label_key=key)
    assert result.is_multilabel
    expected = ("a", "b", "c") if key == "names" else ("0", "1", "2")
    assert result.label_names == expected
    found = result.clips["train"].labels
    rows = {(1, 0, 1), (0, 1, 0), (0, 0, 0), (0, 1, 1)}
    assert {tuple(map(int, row)) for row in found} == rows


@pytest.mark.parametrize(
    "spoil, message",
    [
        ({"ones": np.full(3, 0.5, np.float32)}, "not of zeros and ones, in"),
        ({"numbers": [0, -1]}, r"the label \[0, -1\] in example"),
    ],
)
def test_labels_that_are_none_are_an_error(load, spoil, message):
    def examples(split):
        for example in of_several(split):
            yield example | spoil

    (key,) = spoil
    with pytest.raises(ValueError, match=message):
        load(SEVERAL, examples, label_key=key)


def test_a_set_without_any_label_is_an_error(load):
    def examples(split):
        for example in of_several(split):
            yield example | {"numbers": []}

    with pytest.raises(ValueError, match="dataset='tiny', without any label"):
        load(SEVERAL, examples, label_key="numbers")


def test_a_set_without_any_clip_has_no_label():
    integers = tfds.features.Scalar(np.int64)
    with pytest.raises(ValueError, match="dataset='tiny', without any label"):
        tfds_audio._label_names("tiny", integers, {})


def test_a_sequence_of_something_else_is_no_label(load):
    events = tfds.features.Sequence({"label": LABEL})
    features = {"audio": MONO, "events": events}

    def examples(split):
        for _ in range(2):
            yield {"audio": int16(sine(300)), "events": {"label": ["a"]}}

    with pytest.raises(ValueError, match="`label_key` must .*multi-hot.*Seq"):
        load(features, examples, label_key="events")
