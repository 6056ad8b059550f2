"""The examples of a report are the plainest of those right and wrong."""

import keras
import numpy as np
import pytest
from tones import SAMPLE_RATE

from leaf_audio.data import AudioData
from leaf_audio.serving import TrainedClassifier
from leaf_audio.serving.report import examples

pytestmark = pytest.mark.any_backend


class Fixed(TrainedClassifier):
    """Says of clip i what row i of a table says."""

    def probabilities(self, clips):
        return self.card["table"][clips[:, 0].astype(int)]


class Clips:
    """Clips whose samples are their own number."""

    def __init__(self, labels):
        self.labels = np.array(labels)

    def __len__(self):
        return len(self.labels)

    def with_labels(self, labels):
        return Clips(labels)

    def count_labels(self, num_labels):
        return np.bincount(self.labels, minlength=num_labels)

    is_multilabel = False

    def source_of(self, index):
        # Some data sets have names.
        return "" if index % 2 else f"clips/{index}.wav"

    def reader(self):
        return lambda i: (np.full(4, i, "float32"), self.labels[i])


def chosen(labels, table, **kwargs):
    classifier = Fixed(
        keras.Sequential(),
        ["a", "b"],
        SAMPLE_RATE,
        card={"table": np.array(table)},
    )
    audio_data = AudioData(
        "made", ("a", "b"), SAMPLE_RATE, {"test": Clips(labels)}, {}, "", ""
    )
    return examples.choose(classifier, audio_data, **kwargs)


def test_the_worst_and_the_surest_are_chosen_of_different_labels():
    labels = [0, 0, 0, 1, 0, 0, 1, 1]
    sure_of_a = [0.1, 0.2, 0.4, 0.7, 0.9, 0.8, 0.3, 0.6]
    found = chosen(labels, [[p, 1 - p] for p in sure_of_a], count=2)
    # Clip 1 of label a is wrong by more than clip 3 of label b, but clip 0 of
    # label a by even more.
    names = ["clips/0.wav", "clip 3 of test"]
    assert [one.name for one in found.wrong] == names
    names = ["clips/4.wav", "clips/6.wav"]
    assert [one.name for one in found.right] == names
    assert (found.num_right, found.num_judged, found.num_clips) == (3, 8, 8)


def test_many_clips_are_drawn_from(monkeypatch):
    monkeypatch.setattr(examples, "_MAX_JUDGED", 50)
    found = chosen([0] * 300 + [1] * 300, [[0.9, 0.1]] * 600)
    assert (found.num_judged, found.num_clips) == (50, 600)
    # Of both halves.
    assert 10 < found.num_right < 40


def test_the_data_must_fit():
    with pytest.raises(
        ValueError, match="must have a split test or validation"
    ):
        examples.choose(
            TrainedClassifier(keras.Sequential(), ["a"], 16000),
            AudioData("made", ("a",), 16000, {}, {}, "", ""),
        )
