"""The form in which batches reach the devices."""

import itertools
from unittest import mock

import grain
import keras
import numpy as np
import pytest

from leaf_audio.training import feeding

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="TPUStrategy is TensorFlow's",
)


def batches():
    source = [(np.full(3, i, np.float32), np.int32(i)) for i in range(8)]
    return grain.MapDataset.source(source).repeat().batch(4).to_iter_dataset()


def test_other_devices_get_the_batches_as_they_are():
    some = batches()
    assert feeding.feed(some) is some


def test_a_tpu_gets_the_same_batches_with_a_known_shape():
    import tensorflow as tf

    tpu = mock.Mock(spec=tf.distribute.TPUStrategy)
    with mock.patch.object(tf.distribute, "get_strategy", return_value=tpu):
        fed = feeding.feed(batches())
    audio, label = fed.element_spec
    assert (audio.shape, audio.dtype) == ((4, 3), tf.float32)
    assert (label.shape, label.dtype) == ((4,), tf.int32)
    pairs = zip(fed.take(3).as_numpy_iterator(), batches(), strict=False)
    for got, expected in itertools.islice(pairs, 3):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
