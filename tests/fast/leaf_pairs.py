"""Two Leafs of equal weights, planned and exact, and how far they are apart."""

import numpy as np
from keras import ops

from leaf_audio import frontend


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, shape).astype("float32")


def leaf_and_exact(**settings):
    """Makes a planned and an exact Leaf that return energies."""
    leaf = frontend.Leaf(compression_fn=None, **settings)
    leaf.build((None, None))
    exact = frontend.Leaf(compression_fn=None, **{**settings, "tolerance": 0})
    exact.build((None, None))
    exact.set_weights(leaf.get_weights())
    return leaf, exact


def log_error(outputs, expected):
    """Returns the RMS difference of the logarithms of energies."""
    outputs, expected = (
        np.log(ops.convert_to_numpy(x)) for x in (outputs, expected)
    )
    assert outputs.shape == expected.shape
    return np.sqrt(np.mean((outputs - expected) ** 2))


def kernels(leaf):
    """Returns the weights of the filters and of the pooling."""
    by_name = {w.path.split("/")[-2]: w for w in leaf.weights}
    return by_name["complex_conv"], by_name["learnable_pooling"]
