"""Masks, compressions and rates that do not fit a frontend are named."""

import keras
import numpy as np
import pytest

from leaf_audio import frontend
from leaf_audio.postprocessing import LogTBN

WAVEFORMS = np.zeros((2, 1600), "float32")


@pytest.mark.any_backend
@pytest.mark.parametrize("make", [frontend.Leaf, frontend.MelFilterbanks])
@pytest.mark.parametrize("shape", [(2, 10), (2, 1600, 1), (1600,), (3, 1600)])
def test_a_mask_of_another_shape(make, shape):
    with pytest.raises(ValueError, match="`mask` of .* must have the shape"):
        make()(WAVEFORMS, mask=np.ones(shape, bool))


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "make", [frontend.Leaf, frontend.MelFilterbanks, frontend.EfficientLeaf]
)
def test_a_compression_that_changes_the_number_of_frames(make):
    layer = make(compression_fn=keras.layers.AveragePooling1D(2))
    with pytest.raises(ValueError, match="must keep the number of frames"):
        layer(WAVEFORMS)


@pytest.mark.any_backend
def test_a_normalization_over_time_of_features_with_channels():
    leaf = frontend.Leaf(compression_fn=LogTBN(), mean_var_norm=True)
    with pytest.raises(ValueError, match="`mean_var_norm` must be False"):
        leaf(WAVEFORMS)


@pytest.mark.any_backend
@pytest.mark.parametrize("make", [frontend.SincNet, frontend.SincNetPlus])
def test_a_rate_without_room_for_a_band_is_named_as_such(make):
    with pytest.raises(ValueError, match="^`sample_rate` and `max_freq`"):
        make(sample_rate=100)
