"""Frames whose position does not depend on the length of the input."""

import functools

import keras
import numpy as np
import pytest
from frontend_makers import noise
from keras import ops
from layer_checks import check_layer

from leaf_audio import frontend

FRONTENDS = {
    "leaf": frontend.Leaf,
    "leaf_exact": functools.partial(frontend.Leaf, n_filters=8, tolerance=0),
    # With frames computed from spectra, and hops that do not divide the stride.
    "leaf_spectral": functools.partial(
        frontend.Leaf, n_filters=64, window_stride=10.2
    ),
    "leaf_preemp": functools.partial(
        frontend.Leaf, n_filters=8, preemp=True, compression_fn="log"
    ),
    "leaf_long_window": functools.partial(
        frontend.Leaf, n_filters=4, window_stride=3.0
    ),
    "tfbanks": functools.partial(frontend.TimeDomainFilterbanks, n_filters=8),
    "sincnet": functools.partial(frontend.SincNet, n_filters=8),
    "sincnet_plus": functools.partial(frontend.SincNetPlus, n_filters=8),
}

# In samples; 160 by default.
STRIDES = {"leaf_spectral": 163, "leaf_long_window": 48}


def numpy(x):
    return ops.convert_to_numpy(x)


def num_settled(name, padding, time, stride, window=401):
    """Number of frames that the docstring of Leaf says the audio settles."""
    ahead = {"centred": window - 1, "causal": window // 2}[padding]
    ahead += name == "leaf_preemp"
    return (time - 1 - ahead) // stride + 1


@pytest.mark.parametrize("padding", ["centred", "causal"])
@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.slow_on_jax
def test_appended_samples_change_no_frame_that_they_do_not_reach(name, padding):
    layer = FRONTENDS[name](pooling_padding=padding)
    for time in (1600, 1761):
        x = noise(2, 2400)
        # Loud: it would be seen wherever it is let in.
        x[:, time:] *= 100
        longer, begun = numpy(layer(x)), numpy(layer(x[:, :time]))
        frames = begun.shape[1]
        stride = STRIDES.get(name, 160)
        assert frames == -(-time // stride)
        settled = num_settled(name, padding, time, stride)
        assert 0 < settled < frames
        np.testing.assert_allclose(
            begun[:, :settled],
            longer[:, :settled],
            rtol=0,
            atol=2e-6 * max(np.ptp(begun), 1),
        )


@pytest.mark.parametrize("padding", ["centred", "causal"])
@pytest.mark.parametrize("name", ["leaf", "sincnet"])
def test_no_more_is_promised_than_must_be(name, padding):
    """The next sample after those that settle a frame reaches it."""
    # A plan may use less than a filter's whole length.
    settings = {"tolerance": 0} if name == "leaf" else {}
    layer = FRONTENDS[name](pooling_padding=padding, **settings)
    # Frame 5 is settled by this time, and depends on its last sample.
    time = 5 * 160 + {"centred": 400, "causal": 200}[padding] + 1
    assert num_settled(name, padding, time, 160) == 6
    x = noise(1, time)
    before = numpy(layer(x))
    x[:, -1] += 1e4
    after = numpy(layer(x))
    changed = np.abs(after - before).max(axis=(0, 2)) > 1e-4
    assert changed[5:].all()
    assert not changed[:5].any()


@pytest.mark.parametrize(
    "padding, middle_of_frame_10", [("centred", 1600), ("causal", 1520)]
)
def test_a_click_is_loudest_in_the_frame_around_it(padding, middle_of_frame_10):
    """The window has 161 samples, the stride 160."""
    layer = frontend.Leaf(
        n_filters=8,
        window_len=10.0,
        pooling_padding=padding,
        compression_fn=None,
    )
    x = np.zeros((1, 3200), "float32")
    x[:, middle_of_frame_10] = 100.0
    energies = numpy(layer(x))[0].sum(axis=1)
    assert energies.argmax() == 10


@pytest.mark.slow_on_jax
def test_is_a_keras_citizen(tmp_path):
    make = functools.partial(
        frontend.Leaf, n_filters=4, pooling_padding="causal"
    )
    check_layer(make, noise(2, 1600), tmp_path, compiles=False)


@pytest.mark.parametrize("padding", ["centred", "causal"])
def test_the_plan_is_saved_with_it(padding, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None,)),
            frontend.Leaf(n_filters=8, pooling_padding=padding),
        ]
    )
    x = noise(1, 1700)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "leaf.keras")
    loaded = keras.models.load_model(tmp_path / "leaf.keras")
    assert loaded.layers[0].pooling_padding == padding
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
    )
