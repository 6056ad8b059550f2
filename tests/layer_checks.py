"""One check that every layer and frontend passes, on every backend."""

import keras
import numpy as np
from gradients import grad_mean_square
from keras import ops


def check_layer(make, inputs, tmp_path, untrained=(), atol=1e-6, compiles=True):
    """Checks that a layer does what users of Keras expect of any layer.

    A config gives an equal layer; a `.keras` file loads without custom objects
    and gives the same outputs; batch size and length may be unknown; each
    trainable weight gets a gradient; mixed precision stays close to float32;
    compiled calls agree with eager ones; one step of `fit` runs.

    Args:
      make: Function that makes the layer. It takes keyword arguments such as
        `dtype`.
      inputs: A float32 batch.
      tmp_path: Folder to save a model in.
      untrained: Names of weights that get no gradient at these inputs.
      atol: Absolute tolerance between outputs that should be the same.
      compiles: Whether to check `check_compiled_fit` too. The step of `fit` is
        eager otherwise.
    """
    layer = make()
    expected = ops.convert_to_numpy(layer(inputs))
    assert np.isfinite(expected).all()
    assert tuple(layer.compute_output_shape(inputs.shape)) == expected.shape

    _check_config(layer, inputs, expected.shape)
    model = _check_saving(layer, inputs, expected, tmp_path, atol)
    _check_unknown_sizes(make, inputs, expected.shape)
    _check_gradients(layer, inputs, untrained)
    _check_mixed_precision(make, layer, inputs, expected)
    if compiles:
        check_compiled_fit(model, inputs, expected)
    else:
        model.compile("sgd", "mse", run_eagerly=True)
        _check_fit(model, inputs, expected)


def _check_config(layer, inputs, shape):
    config = layer.get_config()
    copy = type(layer).from_config(config)
    assert ops.convert_to_numpy(copy(inputs)).shape == shape
    assert copy.get_config() == config
    assert len(copy.trainable_weights) == len(layer.trainable_weights)


def _check_saving(layer, inputs, expected, tmp_path, atol):
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    outputs = ops.convert_to_numpy(loaded(inputs))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=atol)
    return model


def _check_unknown_sizes(make, inputs, shape):
    unknown = (None,) * (inputs.ndim - 2)
    last = inputs.shape[-1] if inputs.ndim > 2 else None
    x = keras.Input((*unknown, last), dtype="float32")
    model = keras.Model(x, make()(x))
    assert len(model.output_shape) == len(shape)
    assert model.output_shape[-1] == shape[-1]
    # `predict` compiles for unknown sizes if the backend supports them.
    assert model.predict(inputs, verbose=0).shape == shape
    shorter = inputs[:1, : max(inputs.shape[1] // 2, 1)]
    assert np.isfinite(model.predict(shorter, verbose=0)).all()


def _check_gradients(layer, inputs, untrained):
    if not layer.trainable_variables:
        return
    _, gradients = grad_mean_square(layer, inputs)
    for weight, gradient in zip(
        layer.trainable_variables, gradients, strict=True
    ):
        if weight.name in untrained:
            continue
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


def _check_mixed_precision(make, layer, inputs, expected):
    scale = np.abs(expected).max()
    for policy, tolerance in (("mixed_float16", 1e-2), ("mixed_bfloat16", 0.1)):
        mixed = make(dtype=policy)
        mixed.build(inputs.shape)
        mixed.set_weights(layer.get_weights())
        outputs = mixed(inputs)
        dtype = policy.removeprefix("mixed_")
        assert keras.backend.standardize_dtype(outputs.dtype) == dtype
        outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
        np.testing.assert_allclose(outputs, expected, atol=tolerance * scale)


def check_compiled_fit(model, inputs, expected):
    """Compiles a model with XLA, checks its outputs, and trains a step.

    Leaf takes half a minute for it.

    Args:
      model: A model without compiled settings.
      inputs: A float32 batch.
      expected: The outputs that the model has, called eagerly.
    """
    # `jit_compile` means XLA, except on PyTorch, whose compiler takes minutes
    # or is missing.
    compiled = keras.backend.backend() != "torch"
    model.compile("sgd", "mse", jit_compile=compiled)
    outputs = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(
        outputs, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
    )
    _check_fit(model, inputs, expected)


def _check_fit(model, inputs, expected):
    if model.trainable_weights:
        history = model.fit(inputs, expected, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
