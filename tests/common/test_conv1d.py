"""The convolution whose gradients are convolutions, next to Keras' own."""

import platform
import re

import keras
import numpy as np
import pytest
from keras import ops

from leaf_audio import frontend
from leaf_audio.common import conv1d

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="is about TensorFlow's gradients",
)
on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="is about JAX's gradients"
)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_outputs_are_those_of_a_convolution():
    x, kernel = noise(2, 20, 3), noise(5, 3, 4)
    outputs = ops.convert_to_numpy(conv1d.valid_conv1d(x, kernel))
    windows = np.lib.stride_tricks.sliding_window_view(x, 5, axis=1)
    expected = np.einsum("btck,kcf->btf", windows, kernel)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@on_jax
def test_no_clips_have_gradients_of_zero():
    import jax

    def total(kernel):
        return ops.sum(conv1d.valid_conv1d(noise(0, 20, 3), kernel))

    gradient = jax.grad(total)(noise(5, 3, 4))
    assert gradient.shape == (5, 3, 4)
    assert not gradient.any()


@pytest.fixture(params=["oneDNN", "TensorFlow's own kernels"])
def kernels(request, monkeypatch):
    """Has convolutions take the gradients that suit a kind of CPU."""
    value = "1" if request.param == "oneDNN" else "0"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    conv1d._has_onednn.cache_clear()
    yield request.param
    monkeypatch.undo()
    conv1d._has_onednn.cache_clear()


@on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_gradients_are_those_of_a_convolution(dtype, jit_compile, kernels):
    import tensorflow as tf

    x, kernel = tf.cast(noise(2, 20, 3), dtype), tf.cast(noise(5, 3, 4), dtype)

    def gradients(function, x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(function(x, kernel) ** 2)
        return tape.gradient(loss, [x, kernel])

    found = tf.function(
        lambda x, kernel: gradients(conv1d.valid_conv1d, x, kernel),
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec((None, None, 3), dtype),
            tf.TensorSpec((5, 3, 4), dtype),
        ],
    )(x, kernel)
    expected = gradients(ops.conv, x, kernel)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        tolerance = 1e-2 if dtype == "float16" else 1e-5
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@on_tensorflow
@pytest.mark.parametrize(
    "kernels, jit_compile",
    [("oneDNN", False), ("oneDNN", True), ("TensorFlow's own kernels", False)],
    indirect=["kernels"],
)
def test_a_step_on_a_cpu_has_gradients_that_are_fast_there(
    kernels, jit_compile
):
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        pytest.skip("a GPU's are not slow")
    # By plan or not, it has the same convolutions.
    leaf = frontend.Leaf(n_filters=8, tolerance=0)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(leaf(x) ** 2)
        return tape.gradient(loss, leaf.trainable_variables)

    graph = step.get_concrete_function(tf.TensorSpec((2, 1600))).graph
    graph = graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    for function in graph.library.function:
        kinds |= {node.op for node in function.node_def}
    assert "Conv2D" in kinds
    theirs = any("Backprop" in kind for kind in kinds)
    assert theirs == (kernels == "oneDNN" and not jit_compile)


@on_jax
def test_a_step_on_a_cpu_has_none_of_the_gradients_that_are_slow_on_jax():
    import jax

    if jax.default_backend() != "cpu":
        pytest.skip("a GPU's are not slow")
    leaf = frontend.Leaf(n_filters=8)
    leaf.build((2, 1600))
    weights = [v.value for v in leaf.trainable_variables]
    fixed = [v.value for v in leaf.non_trainable_variables]

    def loss(weights, x):
        return ops.sum(leaf.stateless_call(weights, fixed, x)[0] ** 2)

    program = jax.jit(jax.grad(loss)).lower(weights, noise(2, 1600)).as_text()
    layouts = set(re.findall(r"dim_numbers = (.*?->\[.*?\])", program))
    # XLA has fast convolutions for this one alone.
    assert layouts == {"[b, 0, f]x[0, i, o]->[b, 0, f]"}


@on_tensorflow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="it knows x86 alone"
)
def test_what_is_told_of_onednn_is_what_tensorflow_says_of_itself():
    from tensorflow.python.util import _pywrap_util_port

    assert conv1d._has_onednn() == _pywrap_util_port.IsMklEnabled()
