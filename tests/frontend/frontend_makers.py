"""All frontends by name, and what their tests share."""

import functools

import numpy as np
from keras import ops

from leaf_audio import frontend

FRONTENDS = {
    "leaf": frontend.Leaf,
    "leaf_linear": functools.partial(frontend.Leaf, compression_fn=None),
    "mel": frontend.MelFilterbanks,
    "tfbanks": frontend.TimeDomainFilterbanks,
    "sincnet": frontend.SincNet,
    "sincnet_plus": frontend.SincNetPlus,
    # As many groups as fit any number of filters; test_efficient_leaf has more.
    "efficient_leaf": functools.partial(
        frontend.EfficientLeaf, compression_fn="pcen", num_groups=1
    ),
}


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, shape).astype("float32")


def filter_weight(layer):
    (kernel,) = [w for w in layer.weights if "complex_conv/kernel" in w.path]
    return ops.convert_to_numpy(kernel)
