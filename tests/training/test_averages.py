"""The averages of weights that an optimizer keeps."""

import keras
import numpy as np
import pytest

from leaf_audio.training import optimizers

pytestmark = pytest.mark.compiled


def compiled(**settings):
    """Returns a small model, its optimizer, and data to train it."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1, **settings), "mse")
    rng = np.random.default_rng(0)
    return model, rng.standard_normal((6, 4)), rng.standard_normal((6, 3))


def kernel(model):
    return np.array(keras.ops.convert_to_numpy(model.layers[0].kernel))


def test_averaged_weights_are_there_for_a_while():
    """Each is (1 - momentum) of the newest and momentum of the average."""
    model, x, y = compiled(use_ema=True, ema_momentum=0.75)
    after, seen = [], []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                model.jax_state_sync()
            after.append(kernel(model))

        def on_epoch_end(self, epoch, logs=None):
            with optimizers.averaged_weights(model):
                model.predict(x, verbose=0)
                seen.append(kernel(model))
            np.testing.assert_array_equal(kernel(model), after[-1])
            # JAX must not have given away the memory of the averages.
            for variable in model.optimizer.variables:
                keras.ops.convert_to_numpy(variable)

    model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=[Look()])
    # The average begins with the weights after the first step.
    average = after[0]
    for i, one in enumerate(after):
        average = 0.75 * average + 0.25 * one
        if i in (2, 5):
            np.testing.assert_allclose(seen[i // 3], average, rtol=1e-4)


@pytest.mark.parametrize("use_ema", [False, True])
def test_without_averages_the_weights_stay(use_ema):
    model, x, y = compiled(use_ema=use_ema)
    if not use_ema:
        # With averages, there are none before the first step.
        model.fit(x, y, verbose=0)
    before = kernel(model)
    with optimizers.averaged_weights(model):
        np.testing.assert_array_equal(kernel(model), before)
