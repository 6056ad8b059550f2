"""Leaf: its parts, its settings, and what it learns."""

import functools

import keras
import numpy as np
import pytest
from frontend_makers import filter_weight, noise
from keras import ops
from layer_checks import check_layer

from leaf_audio import (
    convolution,
    frontend,
    initializers,
    pooling,
    postprocessing,
)


@pytest.mark.slow_on_jax
def test_is_a_keras_citizen_with_every_option(tmp_path):
    def make(**kwargs):
        return frontend.Leaf(
            conv1d_cls=functools.partial(
                convolution.GaborConv1D, sort_filters=True
            ),
            n_filters=4,
            preemp=True,
            compression_fn=functools.partial(
                frontend.log_compression, log_offset=1e-3
            ),
            regularizer_fn=keras.regularizers.L2(1e-3),
            mean_var_norm=True,
            spec_augment=postprocessing.SpecAugment(freq_mask_max_bins=2),
            pooling_padding="valid",
            **kwargs,
        )

    # A scale of 1 and an offset of 0 normalise to a mean square of 1 whatever
    # the filters are.
    check_layer(
        make,
        noise(2, 1600),
        tmp_path,
        untrained=("kernel", "beta"),
        atol=1e-4,
        compiles=False,
    )


@pytest.mark.slow_on_jax
def test_readme_customized_frontend_runs_as_printed():
    n_filters = 64
    window_len = 32
    sample_rate = 24000
    preemp = True
    compression_fn = functools.partial(
        frontend.log_compression, log_offset=1e-5
    )
    complex_conv_init = initializers.GaborInit(
        sample_rate=sample_rate, min_freq=60.0, max_freq=7800.0
    )
    custom_leaf = frontend.Leaf(
        learn_pooling=False,
        n_filters=n_filters,
        window_len=window_len,
        sample_rate=sample_rate,
        preemp=preemp,
        compression_fn=compression_fn,
        complex_conv_init=complex_conv_init,
    )
    assert custom_leaf(noise(2, 24000)).shape == (2, 100, 64)
    trained = {w.path.split("/")[-2] for w in custom_leaf.trainable_weights}
    assert trained == {"preemp", "complex_conv"}


@pytest.mark.parametrize(
    "settings, trained",
    [
        ({}, {"complex_conv", "learnable_pooling", "PCEN", "EMA"}),
        ({"learn_filters": False}, {"learnable_pooling", "PCEN", "EMA"}),
        ({"learn_pooling": False}, {"complex_conv", "PCEN", "EMA"}),
        ({"trainable": False}, set()),
        (
            {"compression_fn": postprocessing.PCENLayer()},
            {"complex_conv", "learnable_pooling"},
        ),
    ],
)
def test_only_what_was_asked_for_is_learned(settings, trained):
    leaf = frontend.Leaf(**settings)
    leaf.build((None, 16000))
    owners = {w.path.split("/")[-2] for w in leaf.trainable_weights}
    assert owners == trained


def test_two_leafs_share_no_weights():
    pcen = postprocessing.PCENLayer(trainable=True)
    init = initializers.GaborInit(min_freq=100.0)
    models = [
        frontend.Leaf(compression_fn=pcen, complex_conv_init=init),
        frontend.Leaf(compression_fn=pcen, complex_conv_init=init),
        frontend.Leaf(),
        frontend.Leaf(),
    ]
    for model in models:
        model.build((None, 1600))
    ids = [id(w) for model in models for w in model.weights]
    assert len(set(ids)) == len(ids)


def test_a_trained_compression_is_copied_with_its_weights():
    pcen = postprocessing.PCENLayer(trainable=True)
    pcen.build((None, None, 40))
    pcen.alpha.assign(np.full(40, 0.5, "float32"))
    leaf = frontend.Leaf(compression_fn=pcen)
    leaf.build((None, 1600))
    copied = ops.convert_to_numpy(leaf.compression.alpha)
    np.testing.assert_array_equal(copied, np.full(40, 0.5, "float32"))
    assert leaf.compression is not pcen
    assert not {id(w) for w in leaf.weights} & {id(w) for w in pcen.weights}
    assert leaf.count_params() == 280 - 39  # One smoothing, not forty.


def test_filters_follow_the_frontends_own_sample_rate():
    for sample_rate in (8000, 16000, 24000):
        leaf = frontend.Leaf(sample_rate=sample_rate)
        leaf.build((None, 8000))
        centre = filter_weight(leaf)[:, 0]
        hz = centre * sample_rate / (2 * np.pi)
        assert 60 < hz[0] < 150
        assert 0.8 * sample_rate / 2 < hz[-1] < 0.975 * sample_rate / 2


def test_an_initializers_missing_sample_rate_is_the_frontends():
    init = initializers.GaborInit(min_freq=60.0, max_freq=3900.0)
    leaf = frontend.Leaf(sample_rate=8000, complex_conv_init=init)
    leaf.build((None, 8000))
    explicit = initializers.GaborInit(8000, 60.0, 3900.0, window_len=25.0)
    np.testing.assert_allclose(
        filter_weight(leaf),
        ops.convert_to_numpy(explicit((40, 2))),
    )
    assert init.sample_rate is None


def test_a_gabor_filter_without_a_bin_is_an_error():
    init = initializers.GaborInit(n_fft=512)
    leaf = frontend.Leaf(n_filters=200, complex_conv_init=init)
    with pytest.raises(ValueError, match="without a bin"):
        leaf.build((None, 16000))


def test_a_band_above_the_frontends_nyquist_is_an_error_at_once():
    init = initializers.GaborInit(max_freq=7800.0)
    with pytest.raises(ValueError, match="max_freq=7800.0, sample_rate=8000"):
        frontend.Leaf(sample_rate=8000, complex_conv_init=init)


@pytest.mark.parametrize(
    "settings",
    [{"conv1d_cls": convolution.SincConv1D}, {"activation": "relu"}],
)
def test_parts_that_do_not_fit_each_other_are_rejected(settings):
    with pytest.raises(ValueError, match="for n_filters=40"):
        frontend.Leaf(**settings)(noise(1, 1000))


def test_a_convolution_can_bring_a_named_activation():
    leaf = frontend.Leaf(conv1d_cls=convolution.SincConv1D, activation="relu")
    assert leaf(noise(1, 1000)).shape == (1, 7, 40)


def test_a_padding_that_there_is_not_is_rejected():
    with pytest.raises(ValueError, match="pooling_padding='full'"):
        frontend.Leaf(pooling_padding="full")


@pytest.mark.parametrize("padding", ["valid", "causal"])
def test_a_given_pooling_must_have_the_frontends_padding(padding):
    layer = pooling.GaussianLowpass(401, 160, padding=padding)
    with pytest.raises(ValueError, match="`pooling_padding` must be.*'same'"):
        frontend.Leaf(pooling_cls=layer)
    leaf = frontend.Leaf(pooling_cls=layer, pooling_padding=padding)
    assert leaf.compute_output_shape((1, 1601))[1] == (
        8 if padding == "valid" else 11
    )


@pytest.mark.slow_on_jax
def test_mean_var_norm_normalises_each_example_and_filter():
    leaf = frontend.Leaf(mean_var_norm=True)
    features = ops.convert_to_numpy(leaf(noise(3, 16000)))
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=1), 1, atol=1e-3)


@pytest.mark.slow_on_jax
def test_masked_frames_have_no_part_in_the_normalisation():
    leaf = frontend.Leaf(mean_var_norm=True, tolerance=0)
    x = noise(1, 8000)
    padded = np.concatenate([x, np.zeros((1, 8000), "float32")], axis=1)
    mask = ops.convert_to_tensor(np.arange(16000)[None] < 8000)
    masked = ops.convert_to_numpy(leaf(padded, mask=mask))[:, :50]
    np.testing.assert_allclose(
        masked, ops.convert_to_numpy(leaf(x)), rtol=1e-3, atol=1e-3
    )
    unmasked = ops.convert_to_numpy(leaf(padded))[:, :50]
    assert np.abs(masked - unmasked).max() > 0.1


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="other backends' Fourier transforms refuse it",
)
def test_an_empty_batch_gives_no_features_where_filters_are_cut_off():
    leaf = frontend.Leaf(n_filters=40, sample_rate=8000)
    assert leaf(np.zeros((0, 800), "float32")).shape == (0, 10, 40)


@pytest.mark.parametrize(
    "argument, value, bound",
    [
        (
            "conv1d_cls",
            functools.partial(convolution.GaborConv1D, use_bias=True),
            "use_bias",
        ),
        (
            "pooling_cls",
            functools.partial(pooling.GaussianLowpass, padding="valid"),
            "padding",
        ),
    ],
)
def test_a_part_may_not_bind_what_the_frontend_sets(argument, value, bound):
    with pytest.raises(ValueError, match=f"`{argument}` must not bind {bound}"):
        frontend.Leaf(**{argument: value})


def test_a_given_pooling_must_keep_the_frontends_frames():
    leaf = frontend.Leaf(pooling_cls=pooling.GaussianLowpass(401, 80))
    for length in (3200, None):
        with pytest.raises(ValueError, match="a frame every 160 samples"):
            leaf.build((None, length))


def test_given_layers_are_learned_as_the_frontend_asks():
    given = {
        "conv1d_cls": convolution.GaborConv1D(16, 401, padding="same"),
        "pooling_cls": pooling.GaussianLowpass(401, 160),
        "compression_fn": None,
        "n_filters": 8,
    }
    for learned in (True, False):
        leaf = frontend.Leaf(
            learn_filters=learned, learn_pooling=learned, **given
        )
        leaf.build((None, 1600))
        assert len(leaf.trainable_weights) == (2 if learned else 0)


@pytest.mark.parametrize("sort_filters", [False, True])
def test_a_leaf_of_plain_layers_is_the_same_leaf(sort_filters):
    """Leaf computes convolution and modulus in one go where it can."""

    class Modulus(frontend.SquaredModulus):
        pass

    conv1d_cls = functools.partial(
        convolution.GaborConv1D, sort_filters=sort_filters
    )
    outputs = [
        frontend.Leaf(
            conv1d_cls=conv1d_cls,
            activation=activation,
            compression_fn=None,
            tolerance=0,
        )(noise(2, 3000))
        for activation in (None, Modulus())
    ]
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(o) for o in outputs), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow_on_jax
def test_learning_moves_every_part_of_leaf():
    leaf = frontend.Leaf(n_filters=8)
    model = keras.Sequential(
        [leaf, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    x = noise(4, 1600)
    model(x)
    before = [ops.convert_to_numpy(w).copy() for w in leaf.trainable_weights]
    model.fit(x, np.arange(4.0), epochs=2, verbose=0)
    for old, weight in zip(before, leaf.trainable_weights, strict=True):
        assert np.abs(ops.convert_to_numpy(weight) - old).max() > 0, weight.path


def test_a_pooling_or_convolution_layer_can_be_given():
    leaf = frontend.Leaf(
        conv1d_cls=convolution.FFTConv1D,
        pooling_cls=pooling.ChannelWiseLearnablePooling1D,
        compression_fn="log",
        n_filters=8,
    )
    free = frontend.TimeDomainFilterbanks(n_filters=8)
    x = noise(2, 4000)
    np.testing.assert_allclose(
        ops.convert_to_numpy(leaf(x)),
        ops.convert_to_numpy(free(x)),
        atol=1e-3,
    )


@keras.saving.register_keras_serializable("tests")
class Gain(keras.layers.Layer):
    """A user's layer: no output shape, weights of its own and within."""

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain
        self.mix = keras.layers.Dense(6)

    def call(self, inputs):
        return self.mix(self.gain * inputs)

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


# Keras, when it loads a layer without `build`.
@pytest.mark.filterwarnings("ignore:`build:UserWarning")
@pytest.mark.slow_on_jax
def test_a_users_compression_layer_needs_no_output_shape(tmp_path):
    def make(**kwargs):
        return frontend.Leaf(n_filters=8, compression_fn=Gain(3.0), **kwargs)

    assert make().compute_output_shape((2, 1600)) == (2, 10, 6)
    leaf = make()
    leaf.build((None, None))
    assert len(leaf.trainable_weights) == 4
    model = keras.Sequential([keras.Input((None,)), make()])
    assert model.output_shape == (None, None, 6)
    expected = ops.convert_to_numpy(model(noise(2, 1600)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(noise(2, 1600))), expected, atol=1e-6
    )


def test_an_activation_can_be_a_function_that_takes_the_modulus():
    def modulus(x):
        return ops.square(x[..., ::2]) + ops.square(x[..., 1::2])

    outputs = [
        frontend.Leaf(n_filters=8, activation=activation, tolerance=0)(
            noise(2, 1600)
        )
        for activation in (None, modulus)
    ]
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(o) for o in outputs), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow_on_jax
def test_a_frozen_compression_stays_frozen_when_loaded(tmp_path):
    leaf = frontend.Leaf(n_filters=8)
    leaf(noise(1, 800))
    leaf.compression.trainable = False
    leaf.save(tmp_path / "leaf.keras")
    loaded = keras.models.load_model(tmp_path / "leaf.keras")
    assert len(leaf.trainable_weights) == 2
    assert len(loaded.trainable_weights) == 2


@pytest.mark.parametrize(
    "argument, value",
    [
        ("conv1d_cls", "gabor"),
        ("pooling_cls", 3),
        ("compression_fn", postprocessing.PCENLayer),
        ("spec_augment", postprocessing.SpecAugment),
        ("preemp", "no"),
        ("mean_var_norm", "False"),
        ("learn_pooling", 2),
    ],
)
def test_arguments_of_another_type_are_rejected(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        frontend.Leaf(**{argument: value})


def test_a_compression_that_makes_a_layer_is_no_compression():
    unfinished = functools.partial(postprocessing.PCENLayer, alpha=0.9)
    with pytest.raises(ValueError, match="`compression_fn` must be a layer"):
        frontend.Leaf(compression_fn=unfinished)
