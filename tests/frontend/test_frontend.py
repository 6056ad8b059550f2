"""The frontends: published numbers, the common contract, Keras citizenship."""

import functools

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer

from leaf_audio import (
    convolution,
    frontend,
    initializers,
    pooling,
    postprocessing,
)

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
    return FRONTENDS[name](**kwargs)


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, shape).astype("float32")


def filter_weight(layer):
    (kernel,) = [w for w in layer.weights if "complex_conv/kernel" in w.path]
    return ops.convert_to_numpy(kernel)


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


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("time", [1, 2, 159, 160, 161, 401, 1000, 16001])
@pytest.mark.slow_on_jax
def test_frames_are_a_stride_apart_for_any_length(name, time):
    layer = FRONTENDS[name]()
    features = layer(noise(2, time))
    assert features.shape == (2, -(-time // 160), 40)
    assert layer.compute_output_shape((2, time)) == features.shape
    assert np.isfinite(ops.convert_to_numpy(features)).all()


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"sample_rate": 8000},
        {"sample_rate": 44100},
        {"sample_rate": 22050, "window_len": 46.0, "window_stride": 11.6},
        {"n_filters": 1},
        {"n_filters": 128},
        {"window_len": 5.0, "window_stride": 5.0},
        {"window_len": 4.0, "window_stride": 8.0},
        {"sample_rate": 16000.0, "n_filters": 64, "window_len": 100.0},
    ],
)
@pytest.mark.slow_on_jax
def test_any_sample_rate_window_and_filter_count(name, settings):
    layer = FRONTENDS[name](**settings)
    sample_rate = settings.get("sample_rate", 16000)
    stride = int(sample_rate * settings.get("window_stride", 10.0) // 1000)
    features = ops.convert_to_numpy(layer(noise(1, 3000)))
    frames = -(-3000 // stride)
    assert features.shape == (1, frames, settings.get("n_filters", 40))
    assert np.isfinite(features).all()


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.slow_on_jax
def test_a_channel_axis_of_one_changes_nothing(name):
    layer = FRONTENDS[name]()
    x = noise(2, 2000)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layer(x)),
        ops.convert_to_numpy(layer(x[..., None])),
    )


# `leaf` has all that `leaf_linear` has.
@pytest.mark.parametrize(
    "name",
    [
        *("leaf", "mel", "efficient_leaf"),
        *(
            pytest.param(name, marks=pytest.mark.slow_on_jax)
            for name in ("tfbanks", "sincnet", "sincnet_plus")
        ),
    ],
)
def test_is_a_keras_citizen(name, tmp_path):
    make = functools.partial(FRONTENDS[name], n_filters=4)
    check_layer(make, noise(2, 1600), tmp_path)


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
    )


@pytest.mark.parametrize("name", FRONTENDS)
def test_answers_to_a_channel_axis_of_unknown_length(name):
    x = keras.Input((None, 1))
    model = keras.Model(x, FRONTENDS[name]()(x))
    assert model.output_shape == (None, None, 40)
    assert model.predict(noise(2, 700, 1), verbose=0).shape == (2, 5, 40)


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


@pytest.mark.parametrize("name", ["leaf", "efficient_leaf"])
def test_a_frozen_frontend_is_frozen_in_any_model(name, tmp_path):
    layer = FRONTENDS[name](n_filters=4, trainable=False)
    model = keras.Sequential(
        [keras.Input((800,)), layer, keras.layers.Dense(2)]
    )
    assert len(model.trainable_weights) == 2
    model.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert len(loaded.trainable_weights) == 2


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


@pytest.mark.slow_on_jax
def test_sincnet_follows_the_sample_rate():
    """A tone goes through the filter that was made for it, at any rate."""
    for sample_rate in (8000, 16000, 44100):
        sincnet = frontend.SincNet(sample_rate=sample_rate, n_filters=20)
        sincnet.build((None, 1000))
        low, width = filter_weight(sincnet).T
        tone_hz = 50 + low[10] + (50 + width[10]) / 2
        t = np.arange(sample_rate // 2) / sample_rate
        tone = np.sin(2 * np.pi * tone_hz * t).astype("float32")[None]
        features = ops.convert_to_numpy(sincnet(tone))[0].mean(0)
        assert abs(int(features.argmax()) - 10) <= 1


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((2, 1000, 2), "float32"), "one channel"),
        (np.zeros((1000,), "float32"), "batch, time"),
        (np.zeros((2, 0), "float32"), "a sample at least"),
        (np.zeros((2, 1000), "int16"), "floating-point"),
        (np.zeros((2, 1, 1000, 1), "float32"), "batch, time"),
    ],
)
def test_inputs_that_are_no_waveforms_are_rejected(name, inputs, message):
    with pytest.raises(ValueError, match=message):
        FRONTENDS[name]()(inputs)


@pytest.mark.parametrize(
    "shape, dtype", [((100, 2), "float32"), ((9,), "int32")]
)
def test_symbolic_inputs_are_checked_too(shape, dtype):
    with pytest.raises(ValueError, match="takes"):
        frontend.Leaf()(keras.Input(shape, dtype=dtype))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_filters": 0}, "`n_filters` must be a positive integer"),
        ({"n_filters": -3}, "n_filters=-3"),
        ({"n_filters": 4.5}, "n_filters=4.5"),
        ({"sample_rate": -1}, "sample_rate=-1"),
        ({"window_len": 0}, "window_len=0"),
        ({"window_len": 0.025}, "window_len=0.025 ms"),
        ({"window_stride": -10}, "window_stride=-10"),
        ({"window_stride": 0.01}, "at least one sample"),
        ({"window_len": float("nan")}, "window_len=nan"),
        ({"compression_fn": "sqrt"}, "compression_fn"),
        ({"spec_augment": "yes"}, "spec_augment='yes'"),
        ({"spec_augment": ops.abs}, "must be True, False or a layer"),
        ({"compression_fn": 3}, "compression_fn=3"),
    ],
)
@pytest.mark.parametrize("cls", [frontend.Leaf, frontend.MelFilterbanks])
def test_impossible_settings_are_rejected(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_freq": 9000.0}, "Nyquist"),
        ({"sample_rate": 8000, "max_freq": 7800.0}, "max_freq=7800.0"),
        ({"min_freq": 5000.0, "max_freq": 4000.0}, "below `max_freq`"),
        ({"min_freq": -5.0}, "min_freq=-5.0"),
        ({"n_fft": 256}, "at least the window"),
        ({"n_filters": 200, "n_fft": 512}, "without a bin"),
        ({"max_freq": "nyquist"}, "max_freq='nyquist'"),
    ],
)
def test_impossible_mel_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        frontend.MelFilterbanks(**settings)


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


@pytest.mark.parametrize("name", ["tfbanks", "sincnet", "sincnet_plus"])
def test_what_makes_a_frontend_cannot_be_changed(name):
    with pytest.raises(ValueError, match="`conv1d_cls` is what makes a"):
        FRONTENDS[name](conv1d_cls=convolution.GaborConv1D)


def test_padding_is_rejected_where_it_has_no_meaning():
    with pytest.raises(ValueError, match="pooling_padding='causal'"):
        frontend.Leaf(pooling_padding="causal")


@pytest.mark.slow_on_jax
def test_mean_var_norm_normalises_each_example_and_filter():
    leaf = frontend.Leaf(mean_var_norm=True)
    features = ops.convert_to_numpy(leaf(noise(3, 16000)))
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=1), 1, atol=1e-3)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", FRONTENDS)
def test_spec_augment_acts_in_training_only(name):
    leaf = FRONTENDS[name](spec_augment=True)
    x = noise(4, 16000)
    fixed = ops.convert_to_numpy(leaf(x))
    assert (fixed != 0).all()
    augmented = ops.convert_to_numpy(leaf(x, training=True))
    assert (augmented == 0).any()
    again = ops.convert_to_numpy(leaf(x, training=True))
    assert (augmented != again).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(leaf(x)), fixed)


@pytest.mark.parametrize("name", FRONTENDS)
def test_masked_samples_do_not_matter(name):
    """Lengths a stride apart, so that "same" puts the frames alike."""
    # A Leaf computes exactly with a mask, and by its plan without.
    exact = {"tolerance": 0} if name.startswith("leaf") else {}
    layer = FRONTENDS[name](**exact)
    x = noise(1, 8000)
    padded = np.concatenate([x, noise(1, 3200, seed=1)], axis=1)
    mask = np.arange(padded.shape[1])[None] < 8000
    features = layer(padded, mask=ops.convert_to_tensor(mask))
    frame_mask = ops.convert_to_numpy(
        layer.compute_mask(padded, ops.convert_to_tensor(mask))
    )
    assert frame_mask.tolist() == [[True] * 50 + [False] * 20]
    expected = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(
        ops.convert_to_numpy(features)[:, :50], expected, rtol=1e-4, atol=1e-5
    )


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


def test_float64_policy_computes_in_float64():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only when the process starts with it")
    leaf = frontend.Leaf(dtype="float64", compression_fn=None)
    features = leaf(noise(1, 3000).astype("float64"))
    assert keras.backend.standardize_dtype(features.dtype) == "float64"
    single = ops.convert_to_numpy(
        frontend.Leaf(compression_fn=None)(noise(1, 3000))
    )
    difference = np.abs(ops.convert_to_numpy(features) - single)
    assert 0 < difference.max() < 1e-5


@pytest.mark.parametrize("name", ["sincnet", "sincnet_plus"])
def test_all_parts_of_a_frontend_compute_in_its_dtype(name):
    for dtype, expected in (("float64", "float64"), ("float16", "float32")):
        layers = FRONTENDS[name](dtype=dtype).layers
        assert {layer.compute_dtype for layer in layers} == {expected}


@pytest.mark.parametrize("name", FRONTENDS)
def test_building_again_changes_nothing(name):
    built = FRONTENDS[name]()
    built.build((None, 1600))
    before = built.get_weights()
    built.build((None, 3200))
    for one, other in zip(built.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FRONTENDS)
def test_an_empty_batch_gives_no_features(name):
    if keras.backend.backend() != "tensorflow" and name == "mel":
        pytest.skip("this backend's Fourier transform refuses it")
    layer = FRONTENDS[name](n_filters=4)
    assert layer(np.zeros((0, 800), "float32")).shape[:2] == (0, 5)


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


@pytest.mark.parametrize(
    "layer",
    [
        pooling.GaussianLowpass(401, 80),
        pooling.GaussianLowpass(401, 160, padding="valid"),
    ],
)
def test_a_given_pooling_must_keep_the_frontends_frames(layer):
    leaf = frontend.Leaf(pooling_cls=layer)
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


@pytest.mark.parametrize("name", ["leaf", "tfbanks", "sincnet"])
def test_no_window_fits_into_a_clip_that_is_shorter(name):
    layer = FRONTENDS[name](n_filters=4, pooling_padding="valid")
    with pytest.raises(ValueError, match="needs 401 samples at least"):
        layer(noise(1, 400))
    assert layer(noise(1, 401)).shape == (1, 1, 4)


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
    model.compile(keras.optimizers.Adam(1e-2), "mse")
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
@pytest.mark.parametrize("name", ["leaf", "sincnet", "sincnet_plus", "tfbanks"])
def test_a_regularizer_adds_to_the_loss(name):
    layer = FRONTENDS[name](regularizer_fn="l2")
    layer(noise(1, 800))
    assert len(layer.losses) == (1 if name == "sincnet" else 2)
    frozen = FRONTENDS[name](
        regularizer_fn="l2", learn_filters=False, learn_pooling=False
    )
    frozen(noise(1, 800))
    assert not frozen.losses


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
