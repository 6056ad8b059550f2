"""SincNet, SincNet+ and time-domain filterbanks."""

import numpy as np
import pytest
from frontend_makers import FRONTENDS, filter_weight, noise
from keras import ops

from leaf_audio import (
    convolution,
    frontend,
)


@pytest.mark.slow_on_jax
def test_sincnet_follows_the_sample_rate():
    """A tone goes through the filter that was made for it, at any rate."""
    for sample_rate in (8000, 16000, 44100):
        sincnet = frontend.SincNet(sample_rate=sample_rate, n_filters=20)
        sincnet.build((None, 1000))
        low, width = filter_weight(sincnet).T
        tone_hz = 50 + low[10] + (50 + width[10]) / 2
        t = np.arange(sample_rate // 2) / sample_rate
        tone = np.sin(2 * np.pi * tone_hz * t).astype("float32")[None]
        features = ops.convert_to_numpy(sincnet(tone))[0].mean(0)
        assert abs(int(features.argmax()) - 10) <= 1


@pytest.mark.parametrize("name", ["tfbanks", "sincnet", "sincnet_plus"])
def test_what_makes_a_frontend_cannot_be_changed(name):
    with pytest.raises(ValueError, match="`conv1d_cls` is fixed in a"):
        FRONTENDS[name](conv1d_cls=convolution.GaborConv1D)


@pytest.mark.parametrize("name", ["leaf", "tfbanks", "sincnet"])
def test_no_window_fits_into_a_clip_that_is_shorter(name):
    layer = FRONTENDS[name](n_filters=4, pooling_padding="valid")
    with pytest.raises(ValueError, match="needs 401 samples at least"):
        layer(noise(1, 400))
    assert layer(noise(1, 401)).shape == (1, 1, 4)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", ["leaf", "sincnet", "sincnet_plus", "tfbanks"])
def test_a_regularizer_adds_to_the_loss(name):
    layer = FRONTENDS[name](regularizer_fn="l2")
    layer(noise(1, 800))
    assert len(layer.losses) == (1 if name == "sincnet" else 2)
    frozen = FRONTENDS[name](
        regularizer_fn="l2", learn_filters=False, learn_pooling=False
    )
    frozen(noise(1, 800))
    assert not frozen.losses
