"""Gradients of a layer's output on whichever backend Keras runs on."""

import inspect

import keras
import numpy as np
from keras import ops


def grad_mean_square(layer, inputs, training=False):
    """Gradients of mean(output²) for `inputs` and each trainable weight.

    Returns the gradient for the inputs and a list in the order of
    `layer.trainable_variables`; None where nothing depends on a weight.
    """
    inputs = np.asarray(inputs, "float32")
    backend = keras.backend.backend()
    if not layer.built:
        layer.build(inputs.shape)
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(inputs)
        weights = [v.value for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(layer(x, training=training) ** 2)
        gradients = tape.gradient(loss, [x, *weights])
        return _numpy(gradients[0]), [_numpy(g) for g in gradients[1:]]
    if backend == "jax":
        import jax

        fixed = [v.value for v in layer.non_trainable_variables]
        # Unlike a call, a stateless one passes on what a layer does not take.
        takes_training = "training" in inspect.signature(layer.call).parameters
        kwargs = {"training": training} if takes_training else {}

        def loss_fn(weights, x):
            outputs, _ = layer.stateless_call(weights, fixed, x, **kwargs)
            return ops.mean(outputs**2)

        weights = [v.value for v in layer.trainable_variables]
        # As one program, which compiles several times faster than the parts.
        gradient = jax.jit(jax.grad(loss_fn, argnums=(0, 1)))
        by_weight, by_input = gradient(weights, inputs)
        return _numpy(by_input), [_numpy(g) for g in by_weight]
    x = ops.convert_to_tensor(inputs).requires_grad_()
    weights = [v.value for v in layer.trainable_variables]
    for weight in weights:
        weight.grad = None
    (layer(x, training=training) ** 2).mean().backward()
    return _numpy(x.grad), [_numpy(w.grad) for w in weights]


def _numpy(gradient):
    return None if gradient is None else ops.convert_to_numpy(gradient)
