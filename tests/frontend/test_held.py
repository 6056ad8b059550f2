"""Frontends that compute as in evaluation while other parts are trained."""

import numpy as np
import pytest
from frontend_makers import noise
from keras import ops

from leaf_audio import frontend, models, postprocessing

pytestmark = pytest.mark.any_backend


def small(**arguments):
    return frontend.EfficientLeaf(n_filters=4, num_groups=2, **arguments)


def test_a_held_frontend_computes_and_keeps_as_in_evaluation():
    layer = small()
    evaluated = ops.convert_to_numpy(layer(noise(2, 1600), training=False))
    before = layer.get_weights()
    layer.hold()
    held = ops.convert_to_numpy(layer(noise(2, 1600), training=True))
    np.testing.assert_array_equal(held, evaluated)
    for one, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_held_frontend_still_masks_features_in_training():
    augmentation = postprocessing.SpecAugment(
        freq_mask_max_bins=4,
        time_mask_count=0,
        time_warp_max_frames=0,
        seed=0,
    )
    layer = small(spec_augment=augmentation, compression_fn="log")
    evaluated = ops.convert_to_numpy(layer(noise(2, 1600), training=False))
    layer.hold()
    held = ops.convert_to_numpy(layer(noise(2, 1600), training=True))
    masked = held != evaluated
    assert 0 < masked.mean() < 1


@pytest.mark.parametrize("is_own", [True, False])
def test_a_classifier_holds_its_frontend_and_not_its_encoder(is_own):
    made = small() if is_own else models.WaveGram()
    audio = noise(2, 6400)
    classifier = models.AudioClassifier(2, made, models.ConvNet([2]))
    classifier(audio)
    before = made.get_weights()
    in_encoder = [ops.convert_to_numpy(w) for w in classifier.encoder.weights]
    classifier.hold(frontend=True)
    classifier(audio, training=True)
    for one, other in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    now = [ops.convert_to_numpy(w) for w in classifier.encoder.weights]
    pairs = zip(now, in_encoder, strict=True)
    assert any((one != other).any() for one, other in pairs)
