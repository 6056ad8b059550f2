"""The PCEN that frontends make by name can be learned at usual rates."""

import keras
import numpy as np
import pytest
from frontend_makers import noise
from keras import ops

from leaf_audio import frontend


@pytest.mark.parametrize(
    "make",
    [
        frontend.Leaf,
        lambda: frontend.MelFilterbanks(compression_fn="pcen"),
    ],
)
def test_it_learns_logarithms_from_the_values_of_leaf(make):
    layer = make()
    layer.build((None, None))
    pcen = layer.compression
    assert pcen.parametrization == "log"
    weights = {w.name: ops.convert_to_numpy(w) for w in pcen.weights}
    for key, value in (
        ("log_alpha", 0.96),
        ("log_delta", 2.0),
        ("log_smooth", 0.04),
        ("log_exponent", 0.5),
    ):
        np.testing.assert_allclose(np.exp(weights[key]), value, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.compiled
def test_smoothing_does_not_die_at_a_high_rate():
    """Each step of Adam moves a weight by about the learning rate."""
    leaf = frontend.Leaf(n_filters=8)
    model = keras.Sequential(
        [leaf, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    # Targets that ask for the least smoothing.
    waveforms = noise(8, 4000)
    targets = 10 * np.ones((8, 1), "float32")
    model.fit(waveforms, targets, epochs=40, verbose=0)
    (smooth,) = [
        ops.convert_to_numpy(w)
        for w in leaf.trainable_weights
        if w.path.endswith("log_smooth")
    ]
    assert (np.exp(smooth) > 1e-3).all()
    assert np.ptp(np.log(0.04) - smooth) > 0.01
