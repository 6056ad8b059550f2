"""Initializers: published values, other settings, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from leaf_audio import convolution, frontend, initializers, models
from leaf_audio.initializers import spacing

METHODS = ("mel", *spacing.METHODS)


def values(init, shape):
    return ops.convert_to_numpy(init(shape, dtype="float32"))


def built_leaf():
    leaf = frontend.Leaf(n_filters=2)
    leaf.build((None, 1600))
    return leaf


def test_gabor_parameters_are_the_published_ones(golden):
    init = initializers.GaborInit(
        sample_rate=16000, min_freq=60.0, max_freq=7800.0
    )
    expected = golden("components")["gabor_params/40_16k"]
    np.testing.assert_allclose(values(init, (40, 2)), expected, rtol=1e-5)


def test_gabor_kernels_interleave_real_and_imaginary_parts(golden):
    init = initializers.GaborInit(
        sample_rate=16000, min_freq=60.0, max_freq=7800.0
    )
    kernel = values(init, (401, 1, 80))
    arrays = golden("components")
    for offset, part in ((0, "real"), (1, "imag")):
        expected = arrays[f"gabor_filters_scaled/40_16k/{part}"]
        np.testing.assert_allclose(
            kernel[:, 0, offset::2].T,
            expected,
            atol=1e-5 * np.abs(expected).max(),
        )


def test_analytic_parameters_are_the_published_ones(golden):
    init = initializers.GaborInit(16000, 60.0, 7800.0, method="mel_analytic")
    centre, sigma = values(init, (40, 2)).T
    arrays = golden("efficientleaf")
    published = "mel_filter_params/40_16k"
    np.testing.assert_allclose(
        centre, arrays[f"{published}/center_freqs"], rtol=1e-5
    )
    np.testing.assert_allclose(sigma, arrays[f"{published}/sigmas"], rtol=1e-5)


@pytest.mark.parametrize("shape", [(40, 2), (401, 1, 80)])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_formula_is_the_limit_of_a_fine_mel_matrix(shape, normalize):
    band = {"min_freq": 60.0, "max_freq": 7800.0, "normalize_energy": normalize}
    fine = values(initializers.GaborInit(n_fft=2**17, **band), shape)
    formula = values(
        initializers.GaborInit(method="mel_analytic", **band), shape
    )
    scale = np.abs(fine).max(axis=0)
    np.testing.assert_allclose(formula / scale, fine / scale, atol=5e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("n_filters", [1, 40, 128])
def test_any_method_gives_filters_in_the_band(method, sample_rate, n_filters):
    init = initializers.GaborInit(sample_rate, 60.0, "auto", method=method)
    centre, sigma = values(init, (n_filters, 2)).T
    hz = centre * sample_rate / (2 * np.pi)
    assert (hz >= 59.9).all() and (hz <= 0.4876 * sample_rate).all()
    assert (np.diff(hz) >= 0).all()
    assert np.isfinite(sigma).all() and (sigma > 0).all()
    kernel = values(init, (101, 1, 2 * n_filters))
    assert np.isfinite(kernel).all() and kernel.any(axis=(0, 1)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.slow_on_jax
def test_a_leaf_works_with_any_method(method, sample_rate):
    init = initializers.GaborInit(min_freq=60.0, max_freq="auto", method=method)
    # A tolerance of 0 avoids the fast path, whose plan takes seconds to make at
    # 44.1 kHz.
    leaf = frontend.Leaf(
        sample_rate=sample_rate, complex_conv_init=init, tolerance=0
    )
    noise = np.random.default_rng(0).normal(0, 0.1, (1, sample_rate // 4))
    features = ops.convert_to_numpy(leaf(noise.astype("float32")))
    assert features.shape == (1, 25, 40)
    assert np.isfinite(features).all()
    # The initializer has taken its settings from the Leaf.
    (kernel,) = (w for w in leaf.weights if "complex_conv" in w.path)
    explicit = initializers.GaborInit(
        sample_rate, 60.0, "auto", window_len=25.0, method=method
    )
    if method not in spacing.RANDOM:
        np.testing.assert_allclose(
            ops.convert_to_numpy(kernel), values(explicit, (40, 2)), rtol=1e-6
        )


@pytest.mark.parametrize(
    "method, to_scale",
    [
        ("linear", lambda hz: hz),
        ("bark", spacing.hz_to_bark),
        ("erb", spacing.hz_to_erb_rate),
    ],
)
def test_centres_and_edges_are_equally_far_apart_on_a_scale(method, to_scale):
    init = initializers.GaborInit(16000, 100.0, 7000.0, method=method)
    centre, sigma = values(init, (20, 2)).T
    hz = np.concatenate([[100.0], centre * 8000 / np.pi, [7000.0]])
    steps = np.diff(to_scale(hz))
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-3)
    np.testing.assert_allclose(sigma, 8000 / (hz[2:] - hz[:-2]), rtol=1e-4)


def test_scales_have_their_published_values():
    # From Traunmüller's table. An ERB is 24.7 Hz at 0 Hz and 132.6 Hz at 1 kHz.
    np.testing.assert_allclose(spacing.hz_to_bark(1000.0), 8.53, atol=0.01)
    slope = np.diff(spacing.hz_to_erb_rate(np.array([0, 0.1, 1000, 1000.1])))
    np.testing.assert_allclose(0.1 / slope[[0, 2]], [24.7, 132.6], rtol=0.01)
    hz = np.array([0.0, 50.0, 1000.0, 22050.0])
    for there, back in (
        (spacing.hz_to_bark, spacing.bark_to_hz),
        (spacing.hz_to_erb_rate, spacing.erb_rate_to_hz),
    ):
        np.testing.assert_allclose(back(there(hz)), hz, atol=1e-6)


def test_constant_filters_are_all_alike():
    init = initializers.GaborInit(16000, 100.0, 6400.0, method="constant")
    parameters = values(init, (5, 2))
    assert (parameters == parameters[0]).all()
    np.testing.assert_allclose(parameters[0, 0] * 8000 / np.pi, 800, rtol=1e-5)


@pytest.mark.parametrize("method", ["mel_analytic", "constant", "uniform"])
def test_a_bandwidth_is_that_of_the_response(method):
    init = initializers.GaborInit(
        16000, 1000.0, 7000.0, method=method, bandwidth_hz=300.0, seed=None
    )
    layer = convolution.GaborConv1D(10, 1601, kernel_initializer=init)
    layer.build((None, None, 1))
    real, imag = map(ops.convert_to_numpy, layer.impulse_responses())
    response = np.abs(np.fft.fft(real + 1j * imag, 16000, axis=0))
    above_half = (response >= response.max(axis=0) / 2).sum(axis=0)
    np.testing.assert_allclose(above_half, 300, atol=2)


@pytest.mark.parametrize("method", spacing.RANDOM)
def test_random_filters_are_their_seeds(method):
    def drawn(seed):
        init = initializers.GaborInit(
            16000, 60.0, 7800.0, method=method, seed=seed
        )
        return values(init, (1000, 2))

    np.testing.assert_array_equal(drawn(3), drawn(3))
    assert (drawn(3) != drawn(4)).any()
    hz, fwhm = drawn(5).T
    hz = hz * 8000 / np.pi
    fwhm = 16000 * np.sqrt(2 * np.log(2)) / (np.pi * fwhm)
    for found, low, high in ((hz, 60, 7800), (fwhm, 16000 / 401, 774)):
        assert found.min() >= low - 1e-2 and found.max() <= high + 1e-2
        # Standard deviation divided by the range: of a normal distribution
        # that is cut off at two standard deviations, and of a uniform one.
        deviation = 0.22 if method == "truncated_normal" else 0.289
        assert abs(found.mean() - (low + high) / 2) < 0.03 * (high - low)
        assert abs(found.std() / (high - low) - deviation) < 0.02


@pytest.mark.parametrize("method", spacing.RANDOM)
def test_a_seed_left_open_is_drawn_once_and_kept(method):
    first = initializers.GaborInit(method=method)
    np.testing.assert_array_equal(
        values(first, (40, 2)), values(first, (40, 2))
    )
    copy = initializers.GaborInit.from_config(first.get_config())
    np.testing.assert_array_equal(values(first, (40, 2)), values(copy, (40, 2)))
    other = initializers.GaborInit(method=method)
    assert (values(first, (40, 2)) != values(other, (40, 2))).any()
    keras.utils.set_random_seed(1)
    determined = initializers.GaborInit(method=method).seed
    keras.utils.set_random_seed(1)
    assert initializers.GaborInit(method=method).seed == determined


def test_arrays_are_given_as_they_are():
    array = np.array([[0.1, 40.0], [0.9, 20.0]], "float32")
    leaf = frontend.Leaf(
        n_filters=2,
        complex_conv_init=initializers.ArrayInit(array),
        pooling_init=initializers.ArrayInit([0.4, 0.3]),
    )
    leaf.build((None, 1600))
    found = {w.path: ops.convert_to_numpy(w) for w in leaf.weights}
    np.testing.assert_array_equal(found["leaf/complex_conv/kernel"], array)
    np.testing.assert_allclose(
        found["leaf/learnable_pooling/kernel"].ravel(), [0.4, 0.3], rtol=1e-6
    )


def test_a_model_starts_from_what_another_has_learned(tmp_path):
    trained = frontend.Leaf(n_filters=4)
    trained.build((None, 1600))
    rng = np.random.default_rng(0)
    trained.set_weights(
        [
            w + 0.01 * rng.normal(size=w.shape).astype("float32")
            for w in trained.get_weights()
        ]
    )
    classifier = models.AudioClassifier(2, frontend=trained, encoder=None)
    noise = rng.normal(0, 0.1, (1, 1600)).astype("float32")
    classifier(noise)
    path = tmp_path / "classifier.keras"
    classifier.save(path)
    expected = {
        "/".join(w.path.split("/")[-2:]): ops.convert_to_numpy(w)
        for w in trained.weights
    }
    for source in (trained, classifier, path, str(path)):
        leaf = frontend.Leaf(
            n_filters=4,
            complex_conv_init=initializers.from_trained(source),
            pooling_init=initializers.from_trained(
                source, "learnable_pooling/kernel"
            ),
        )
        leaf.build((None, 1600))
        for weight in leaf.weights:
            name = "/".join(weight.path.split("/")[-2:])
            if "kernel" in name:
                np.testing.assert_array_equal(
                    ops.convert_to_numpy(weight), expected[name]
                )


@pytest.mark.parametrize(
    "settings",
    [
        {"complex_conv_init": initializers.GaborInit(method="erb")},
        {"complex_conv_init": initializers.GaborInit(method="uniform")},
        {"complex_conv_init": initializers.ArrayInit([[0.5, 30.0]] * 3)},
        {"pooling_init": initializers.ArrayInit([0.4, 0.3, 0.2])},
        {"pooling_init": keras.initializers.RandomUniform(0.2, 0.5)},
    ],
    ids=["erb", "uniform", "filters", "pooling", "random pooling"],
)
def test_a_leaf_is_loaded_without_custom_objects(settings, tmp_path):
    leaf = frontend.Leaf(n_filters=3, **settings)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 1600)).astype("f")
    expected = ops.convert_to_numpy(leaf(noise))
    leaf.save(tmp_path / "leaf.keras")
    loaded = keras.models.load_model(tmp_path / "leaf.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(noise)), expected, rtol=1e-5
    )


def test_sinc_parameters_are_the_published_ones(golden):
    expected = golden("components")["sinc_init/40_16k"]
    init = initializers.SincInit()
    np.testing.assert_allclose(values(init, (40, 2)), expected, rtol=1e-5)


def test_preemphasis_is_the_published_one(golden):
    expected = golden("components")["preemp_init"]
    init = initializers.PreempInit()
    np.testing.assert_allclose(values(init, (2, 1, 1)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "window_type", ["hamming", "hanning", "squared_hanning"]
)
@pytest.mark.parametrize("shape", [(401, 1, 3), (1, 401, 3, 1)])
def test_lowpass_windows_are_the_published_ones(golden, window_type, shape):
    expected = golden("components")[f"window_401/{window_type}"]
    init = initializers.LowpassInit(window_type=window_type)
    kernel = values(init, shape).reshape(401, 3)
    for channel in kernel.T:
        np.testing.assert_allclose(channel, expected, atol=1e-6)


@pytest.mark.parametrize(
    "init",
    [
        initializers.PreempInit(0.9),
        initializers.GaborInit(8000, 100.0, 3000.0, 1024, True, 12, 20.0),
        initializers.GaborInit(
            8000, 10.0, method="uniform", bandwidth_hz=9.0, seed=3
        ),
        initializers.ArrayInit([[1.0, 2.0]]),
        initializers.SincInit(8000, 30.0, 40.0),
        initializers.LowpassInit(8000, 25.0, "hamming"),
    ],
)
def test_config_is_complete(init):
    config = keras.saving.serialize_keras_object(init)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(init)
    assert vars(copy) == vars(init)
    assert set(init.get_config()) == set(vars(init))


def test_settings_left_open_follow_a_frontend():
    init = initializers.GaborInit(min_freq=60.0)
    following = init.following(sample_rate=8000, window_len=32.0)
    assert (following.sample_rate, following.window_len) == (8000, 32.0)
    settled = initializers.GaborInit(16000).following(8000, 32.0)
    assert settled.sample_rate == 16000


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: initializers.GaborInit(16000, 60.0, 9000.0), "Nyquist"),
        (lambda: initializers.GaborInit(16000, 500.0, 400.0), "min_freq=500.0"),
        (lambda: initializers.GaborInit()((4, 3)), r"shape=\(4, 3\)"),
        (lambda: initializers.GaborInit()((9, 1, 3)), r"shape=\(9, 1, 3\)"),
        (lambda: initializers.GaborInit(n_filters=4)((5, 2)), "n_filters=4"),
        (lambda: initializers.GaborInit(n_fft=64)((40, 2)), "without a bin"),
        (lambda: initializers.GaborInit(sample_rate=-1), "sample_rate=-1"),
        (lambda: initializers.GaborInit(n_fft=-4), "n_fft=-4"),
        (lambda: initializers.GaborInit(n_filters=0), "n_filters=0"),
        (lambda: initializers.GaborInit(window_len=-3.0), "window_len=-3.0"),
        (lambda: initializers.GaborInit(16000, "60"), "min_freq='60'"),
        (lambda: initializers.GaborInit(method="melody"), "method='melody'"),
        (
            lambda: initializers.GaborInit(n_fft=512, method="erb"),
            "n_fft=512, method='erb'",
        ),
        (
            lambda: initializers.GaborInit(bandwidth_hz=50.0),
            "bandwidth_hz=50.0, method='mel'",
        ),
        (
            lambda: initializers.GaborInit(bandwidth_hz=-1, method="erb"),
            "bandwidth_hz=-1",
        ),
        (lambda: initializers.GaborInit(seed=1), "seed=1, method='mel'"),
        (
            lambda: initializers.GaborInit(method="uniform", seed=0.5),
            "seed=0.5",
        ),
        (lambda: initializers.GaborInit(method="constant"), "min_freq=0.0"),
        (
            lambda: initializers.GaborInit(max_freq=9000.0, method="erb")(
                (4, 2)
            ),
            "Nyquist",
        ),
        (
            lambda: initializers.GaborInit(n_filters=4, method="bark")((5, 2)),
            "n_filters=4",
        ),
        (lambda: initializers.ArrayInit([[1.0], [1.0, 2.0]]), "values="),
        (lambda: initializers.ArrayInit([np.nan]), "values="),
        (lambda: initializers.ArrayInit("many"), "values='many'"),
        (
            lambda: initializers.ArrayInit([[1.0, 2.0]])((2, 1, 2)),
            r"shape \(1, 2\) for a weight of shape \(2, 1, 2\)",
        ),
        (lambda: initializers.from_trained(3), "source=3"),
        (
            lambda: initializers.from_trained(built_leaf(), "gabor"),
            "weight='gabor', which matches 0 .* All .*complex_conv/kernel",
        ),
        (
            lambda: initializers.from_trained(built_leaf(), "kernel"),
            "weight='kernel', which matches 2 weights",
        ),
        (lambda: initializers.SincInit(200)((4, 2)), "sample_rate=200"),
        (lambda: initializers.SincInit(sample_rate=-1), "sample_rate=-1"),
        (lambda: initializers.SincInit(min_low_hz=-5.0), "min_low_hz=-5.0"),
        (lambda: initializers.PreempInit(alpha=7.0), "alpha=7.0"),
        (lambda: initializers.PreempInit(alpha="x"), "alpha='x'"),
        (lambda: initializers.LowpassInit(window_len=0), "window_len=0"),
        (lambda: initializers.SincInit()((4, 3)), r"shape=\(4, 3\)"),
        (lambda: initializers.PreempInit()((3, 1, 1)), r"shape=\(3, 1, 1\)"),
        (lambda: initializers.LowpassInit(window_type="kaiser"), "kaiser"),
        (lambda: initializers.LowpassInit()((4,)), r"shape=\(4,\)"),
        (
            lambda: initializers.LowpassInit(8000, 25.0)((401, 1, 1)),
            "201 samples",
        ),
    ],
)
def test_impossible_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
