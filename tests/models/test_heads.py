"""The normalization of bands, and the poolings, of AudioClassifier."""

import keras
import numpy as np
import pytest
from keras import ops
from model_makers import mel, noise, numpy

from leaf_audio.models import AudioClassifier, ConvNet
from leaf_audio.models.heads import BandNormalization, GlobalPooling


def test_each_band_and_channel_is_normalized_over_clips_and_frames():
    inputs = noise(4, 10, 3, 2) * [[[1], [5], [0.2]]] + [[[3], [-1], [0]]]
    outputs = numpy(
        BandNormalization()(inputs.astype("float32"), training=True)
    )
    np.testing.assert_allclose(outputs.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.std(axis=(0, 1)), 1, atol=0.03)


@pytest.mark.any_backend
def test_an_unknown_number_of_bins_is_an_error():
    with pytest.raises(ValueError, match="known number of bins"):
        BandNormalization().build((None, None, None, 1))


def test_poolings_are_what_their_names_say():
    inputs = noise(2, 5, 3, 4)
    flat = inputs.reshape(2, 15, 4)
    for mode, expected in (
        ("max", flat.max(axis=1)),
        ("average", flat.mean(axis=1)),
        ("attention", flat.mean(axis=1)),
    ):
        pooled = numpy(GlobalPooling(mode)(inputs))
        np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_attention_weighs_positions_by_the_softmax_of_their_scores():
    inputs = noise(2, 5, 3, 4)
    layer = GlobalPooling("attention")
    layer.build(inputs.shape)
    query = noise(4)
    layer.set_weights([query])
    flat = inputs.reshape(2, 15, 4)
    weights = np.exp(flat @ query)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = (flat * weights[..., None]).sum(axis=1)
    np.testing.assert_allclose(numpy(layer(inputs)), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["average", "attention"])
def test_padding_is_left_out_of_the_mean(mode):
    inputs = noise(2, 4, 3, 5)
    # Seven frames became four positions; the first clip has five of them.
    mask = np.arange(7) < np.array([[5], [7]])
    pooled = numpy(
        GlobalPooling(mode)(inputs, mask=ops.convert_to_tensor(mask))
    )
    np.testing.assert_allclose(
        pooled[0], inputs[0, :3].mean(axis=(0, 1)), atol=1e-6
    )
    np.testing.assert_allclose(
        pooled[1], inputs[1].mean(axis=(0, 1)), atol=1e-6
    )


def test_a_mask_reaches_the_pooling_of_a_classifier():
    def classifier(pooling):
        keras.utils.set_random_seed(0)
        return AudioClassifier(3, mel(), ConvNet([4]), pooling=pooling)

    audio = noise(2, 4800)
    mask = ops.convert_to_tensor(np.arange(4800) < [[1600], [4800]])
    model = classifier("average")
    whole, masked = numpy(model(audio)), numpy(model(audio, mask=mask))
    assert abs(whole - masked)[0].max() > 1e-4
    np.testing.assert_allclose(whole[1], masked[1], atol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"input_norm": "layer"}, "`input_norm` must be"),
        ({"pooling": "mean"}, "`pooling` must be"),
        ({"pooling": None}, "`pooling` must be"),
        ({"dropout": 1.0}, "`dropout` must be"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        AudioClassifier(3, mel(), **settings)


@pytest.mark.parametrize("mode", ["average", "attention"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_row_that_is_masked_throughout_is_finite(mode, dtype):
    inputs = noise(2, 5, 3)
    mask = np.array([[False] * 5, [True] * 5])
    pool = GlobalPooling(mode, dtype=dtype)
    found = ops.cast(pool(inputs, mask=ops.convert_to_tensor(mask)), "float32")
    np.testing.assert_allclose(numpy(found), inputs.mean(axis=1), atol=0.02)
