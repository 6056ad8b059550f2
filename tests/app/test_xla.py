"""The training step of each shipped recipe compiles with XLA.

A TPU needs that, and static shapes, which the clips of a batch have.
"""

import gin
import keras
import pytest
from first_step import losses_of_first_steps
from test_configs import AFTER, CONFIGS, SMALL_CONV_NET, SMALLER

from leaf_audio.app import configuration

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.usefixtures("fresh_gin"),
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="JAX always compiles with XLA, and PyTorch never does",
    ),
]

# To compile a step with XLA takes 10 s and more behind other frontends.
QUICK = ("cola.gin", "mel.gin")
# Clips of a third of a second, in samples.
SEQ_LEN = 5000


@pytest.fixture
def same_draws(monkeypatch):
    """Has masks and dropout be the same with XLA as without.

    TensorFlow draws other random numbers from the same seed. Here they are
    hashes of their positions and of the seed.
    """
    import tensorflow as tf

    def uniform(shape, seed, minval=0.0, maxval=1.0, dtype="float32"):
        first, second = tf.unstack(tf.cast(seed, "uint32"))
        number = tf.cast(tf.range(tf.reduce_prod(shape)), "uint32")
        hashed = number + 1000003 * first + 10007 * second
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            shifted = tf.bitwise.right_shift(hashed, tf.cast(shift, "uint32"))
            hashed = tf.bitwise.bitwise_xor(hashed, shifted) * factor
        share = tf.cast(hashed, "float32") / 2**32
        minval, maxval = (tf.cast(one, "float32") for one in (minval, maxval))
        draws = minval + (maxval - minval) * share
        return tf.cast(tf.reshape(draws, shape), dtype)

    def dropout(x, rate, seed, noise_shape):
        kept = uniform(noise_shape, seed) >= rate
        return tf.where(kept, x / (1 - rate), tf.zeros_like(x))

    monkeypatch.setattr(tf.random, "stateless_uniform", uniform)
    monkeypatch.setattr(tf.nn.experimental, "stateless_dropout", dropout)


def losses(files, lines, **data):
    """Returns the losses of two steps, without XLA and with it."""
    found = []
    for jit_compile in (False, True):
        gin.clear_config()
        configuration.parse(
            files,
            [
                *lines,
                "train.workdir = 'x'",
                f"train.jit_compile = {jit_compile}",
            ],
        )
        found.append(losses_of_first_steps(2, SEQ_LEN, **data))
    return found


def assert_same(plain, compiled):
    assert compiled[0] == pytest.approx(plain[0], rel=1e-4)
    # By the gradients and the optimizer, which magnify errors of rounding.
    assert compiled[1] == pytest.approx(plain[1], rel=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in CONFIGS
        if name != "common.gin"
    ],
)
def test_the_step_of_a_config_is_the_same_with_xla(name, same_draws):
    lines = SMALLER.get(name, SMALL_CONV_NET)
    assert_same(*losses([*AFTER.get(name, ()), name], lines))


@pytest.mark.slow
def test_the_step_of_a_recipe_of_a_paper_is_the_same_with_xla(same_draws):
    """The other recipes of papers have the encoder of a config above."""
    files = [f"published/{n}.gin" for n in ("audax_convnext_tiny", "audioset")]
    assert_same(*losses(files, [], is_multilabel=True))
