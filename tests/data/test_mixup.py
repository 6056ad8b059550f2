"""mixup of waveforms and targets."""

import keras
import numpy as np
import pytest
from test_batches import COUNT, assert_equal_batches, crop, make, take

from leaf_audio import data
from leaf_audio.data import mixup

pytestmark = pytest.mark.any_backend

NUM_LABELS = COUNT["train"]


@pytest.fixture(scope="module")
def audio_data(tmp_path_factory):
    """Clip i of label i is near the constant i + 0.01."""
    return make(tmp_path_factory.mktemp("data"))


def centre(samples):
    """Makes a clip the constant that is its label."""
    return np.full(30, np.floor(samples[0]))


def test_targets_say_what_the_audio_was_mixed_of(audio_data):
    batches = data.prepare(audio_data, [centre], 4, mixup_alpha=0.5)
    assert (batches.num_labels, batches.mixup_alpha) == (NUM_LABELS, 0.5)
    mixed = 0
    for audio, targets in take(batches.train(), 30):
        assert (audio.shape, audio.dtype) == ((4, 30), np.float32)
        assert (targets.shape, targets.dtype) == ((4, NUM_LABELS), np.float32)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
        expected = targets @ np.arange(NUM_LABELS)
        np.testing.assert_allclose(audio.T, [expected] * 30, atol=1e-4)
        assert ((targets > 0).sum(axis=1) <= 2).all()
        mixed += (targets.max(axis=1) < 0.99).sum()
    # A clip is mixed by less than a hundredth in 13 % of the draws.
    assert 85 < mixed < 120


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_larger_share_comes_first_and_follows_the_distribution(alpha):
    count = 4000
    audio = np.arange(count, dtype=np.float32)[:, None]
    targets = np.eye(2, dtype=np.float32)[np.arange(count) % 2]
    rng = np.random.default_rng(0)
    mixed_audio, mixed = mixup.mixup(audio, targets, alpha, rng)
    share = mixed[np.arange(count), np.arange(count) % 2]
    assert share.min() >= 0.5 and share.max() <= 1
    expected = share * audio[:, 0] + (1 - share) * np.roll(audio[:, 0], 1)
    np.testing.assert_allclose(mixed_audio[:, 0], expected, rtol=1e-4)
    beta = np.random.default_rng(1).beta(alpha, alpha, 100000)
    assert share.mean() == pytest.approx(
        np.maximum(beta, 1 - beta).mean(), abs=0.01
    )


def test_several_labels_of_a_clip_are_mixed_too():
    labels = np.array([[1, 1, 0], [0, 0, 1]])
    targets = mixup.one_hot(labels, 3)
    assert targets.dtype == np.float32
    rng = np.random.default_rng(0)
    _, mixed = mixup.mixup(np.zeros((2, 5), np.float32), targets, 0.5, rng)
    np.testing.assert_allclose(mixed[:, 0], mixed[:, 1], rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 0] + mixed[:, 2], 1, rtol=1e-6)


def test_mixed_batches_are_the_same_after_a_resumption(audio_data):
    whole = data.prepare(audio_data, [crop], 4, mixup_alpha=0.2).train()
    again = data.prepare(audio_data, [crop], 4, mixup_alpha=0.2).train(5)
    whole = take(whole, 12)
    assert_equal_batches(take(again, 7), whole[5:])
    assert not np.array_equal(whole[0][1], whole[1][1])


def test_without_mixup_and_in_evaluation_labels_stay_integers(audio_data):
    mixed = data.prepare(audio_data, [crop], 4, mixup_alpha=0.2)
    plain = data.prepare(audio_data, [crop], 4)
    assert take(plain.train(), 1)[0][1].dtype == np.int32
    for split, batches in mixed.evaluation.items():
        assert_equal_batches(list(batches), list(plain.evaluation[split]))


def test_a_model_learns_from_mixed_targets(audio_data):
    batches = data.prepare(audio_data, [centre], 4, mixup_alpha=0.2)
    model = keras.Sequential(
        [keras.Input((30,)), keras.layers.Dense(NUM_LABELS)]
    )
    model.compile(
        "adam", keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    history = model.fit(
        batches.train(), steps_per_epoch=10, epochs=3, shuffle=False, verbose=0
    )
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
