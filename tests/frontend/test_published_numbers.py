"""Outputs, gradients and initial weights are those of the LEAF release."""

import numpy as np
import pytest
from frontend_makers import FRONTENDS
from gradients import grad_mean_square
from keras import ops

from leaf_audio import frontend, postprocessing

# What the golden file calls the weights, by the name of the layer and weight.
GOLDEN_NAMES = {
    "leaf": {
        "complex_conv/kernel": "kernel",
        "learnable_pooling/kernel": "learnable_pooling.kernel",
        "PCEN/alpha": "PCEN.alpha",
        "PCEN/delta": "PCEN.delta",
        "PCEN/root": "PCEN.root",
        "EMA/smooth": "PCEN.EMA.smooth",
    },
    "leaf_linear": {
        "complex_conv/kernel": "kernel",
        "learnable_pooling/kernel": "learnable_pooling.kernel",
    },
    "tfbanks": {
        "complex_conv/kernel": "tfbanks_complex_conv.kernel",
        "learnable_pooling/kernel": "learnable_pooling.conv2d.kernel",
    },
    "sincnet": {
        "complex_conv/kernel": "kernel",
        "layer_normalization/gamma": "layer_normalization.gamma",
        "layer_normalization/beta": "layer_normalization.beta",
    },
    "sincnet_plus": {
        "complex_conv/kernel": "kernel",
        "learnable_pooling/kernel": "learnable_pooling.kernel",
    },
}


def as_published(name, **kwargs):
    if name == "tfbanks":
        kwargs["pooling_padding"] = "valid"
    if name.startswith("leaf"):
        kwargs["tolerance"] = 0
    if name == "leaf":
        # The release learns the parameters themselves.
        kwargs["compression_fn"] = postprocessing.PCENLayer(
            floor=1e-12,
            trainable=True,
            learn_smooth_coef=True,
            per_channel_smooth_coef=True,
        )
    return FRONTENDS[name](**kwargs)


@pytest.mark.parametrize("name", sorted(set(FRONTENDS) - {"efficient_leaf"}))
def test_outputs_are_the_published_ones(name, golden):
    arrays = golden("frontends")
    expected = arrays[f"{name}/output"]
    outputs = ops.convert_to_numpy(as_published(name)(arrays["waveform"]))
    np.testing.assert_allclose(outputs, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_gradients_are_the_published_ones(name, golden):
    arrays = golden("frontends")
    layer = as_published(name)
    _, gradients = grad_mean_square(layer, arrays["waveform"])
    seen = set()
    for weight, gradient in zip(
        layer.trainable_variables, gradients, strict=True
    ):
        # Keras numbers repeated names: layer_normalization_1.
        owner, own = weight.path.split("/")[-2:]
        owner = owner.rstrip("0123456789").rstrip("_")
        published = GOLDEN_NAMES[name][f"{owner}/{own}"]
        seen.add(published)
        expected = arrays[f"{name}/grad_mean_square/{published}"]
        np.testing.assert_allclose(
            gradient,
            expected,
            atol=1e-3 * np.abs(expected).max(),
            err_msg=published,
        )
    prefix = f"{name}/grad_mean_square/"
    assert seen == {k[len(prefix) :] for k in arrays if k.startswith(prefix)}


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_initial_weights_are_the_published_ones(name, golden):
    arrays = golden("frontends")
    layer = as_published(name)
    layer.build((None, None))
    for weight in layer.weights:
        owner, own = weight.path.split("/")[-2:]
        owner = owner.rstrip("0123456789").rstrip("_")
        published = GOLDEN_NAMES[name].get(f"{owner}/{own}", f"{owner}.{own}")
        key = f"{name}/weight/{name.removesuffix('_linear')}.{published}"
        if published == "kernel":
            key = f"{name}/weight/kernel"
        if published == "EMA.smooth":
            continue  # The original keeps a fixed one as a matrix.
        np.testing.assert_allclose(
            ops.convert_to_numpy(weight), arrays[key], rtol=1e-5, atol=1e-6
        )


def test_leaf_has_280_parameters():
    leaf = frontend.Leaf()
    leaf.build((None, 16000))
    assert leaf.count_params() == 280
    learned = sum(np.prod(w.shape) for w in leaf.trainable_weights)
    assert learned == 280
