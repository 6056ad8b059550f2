"""Without `n_fft`, the filters are those of the LEAF release at any rate."""

import keras
import numpy as np
import pytest
from keras import ops

from leaf_audio import frontend, initializers
from leaf_audio.initializers import mel


def release_parameters(n_filters, sample_rate, low_hz, high_hz, n_fft=512):
    """Returns the release's parameters, or None where it has a NaN.

    Written from the definition, in float64 and without the package's code.
    """
    low, high = 1127 * np.log1p(np.array([low_hz, high_hz]) / 700)
    mels = np.linspace(low, high, n_filters + 2)
    hz = np.arange(1, n_fft // 2 + 1) * sample_rate / n_fft
    bins = 1127 * np.log1p(hz / 700)
    up = (bins - mels[:-2, None]) / np.diff(mels)[:-1, None]
    down = (mels[2:, None] - bins) / np.diff(mels)[1:, None]
    response = np.sqrt(np.maximum(0, np.minimum(up, down)))
    peak = response.max(axis=1, keepdims=True)
    if not peak.all():
        return None
    centre = (1 + response.argmax(axis=1)) * 2 * np.pi / n_fft
    fwhm = (response >= peak / 2).sum(axis=1)
    sigma = np.sqrt(2 * np.log(2)) * n_fft / (np.pi * fwhm)
    return np.stack([centre, sigma], axis=1)


@pytest.mark.any_backend
@pytest.mark.parametrize("window_len", [None, 25.0, 64.0])
@pytest.mark.parametrize(
    "n_filters, sample_rate, low_hz, high_hz",
    [
        (40, 16000, 60.0, 7800.0),
        (64, 24000, 60.0, 7800.0),  # LEAF's README
        (40, 8000, 60.0, 3900.0),
        (40, 11025, 60.0, 5400.0),
        (40, 22050, 60.0, 7800.0),
        (40, 44100, 60.0, 7800.0),
        (32, 48000, 100.0, 24000.0),
        (80, 8000, 300.0, 3400.0),
    ],
)
def test_gabor_parameters_are_the_releases(
    n_filters, sample_rate, low_hz, high_hz, window_len
):
    expected = release_parameters(n_filters, sample_rate, low_hz, high_hz)
    init = initializers.GaborInit(
        sample_rate, low_hz, high_hz, window_len=window_len
    )
    found = ops.convert_to_numpy(init((n_filters, 2), "float64"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "n_filters, sample_rate, expected",
    [
        (40, 16000, 512),
        (128, 16000, 512),
        (200, 16000, 1024),
        (80, 44100, 1024),
    ],
)
def test_the_fft_is_doubled_only_while_a_filter_has_no_bin(
    n_filters, sample_rate, expected
):
    band = (60.0, 0.975 * sample_rate / 2)
    shorter = release_parameters(n_filters, sample_rate, *band, expected // 2)
    assert shorter is None or expected == 512
    parameters = release_parameters(n_filters, sample_rate, *band, expected)
    init = initializers.GaborInit(sample_rate, *band)
    found = ops.convert_to_numpy(init((n_filters, 2), "float64"))
    np.testing.assert_allclose(found, parameters, rtol=1e-6)


@pytest.mark.parametrize("sample_rate", [8000, 24000, 44100])
def test_default_filters_of_a_frontend_have_the_releases_bins(sample_rate):
    expected = release_parameters(
        40, sample_rate, 60.0, 0.975 * sample_rate / 2
    )
    leaf = frontend.Leaf(sample_rate=sample_rate, tolerance=0)
    leaf.build((None, None))
    (kernel,) = (w for w in leaf.weights if "complex_conv" in w.path)
    np.testing.assert_allclose(
        ops.convert_to_numpy(kernel), expected, rtol=1e-5
    )
    tfbanks = frontend.TimeDomainFilterbanks(
        sample_rate=sample_rate, n_filters=8
    )
    tfbanks.build((None, None))
    explicit = initializers.GaborInit(sample_rate, 60.0, "auto", n_fft=512)
    np.testing.assert_allclose(
        ops.convert_to_numpy(tfbanks.weights[0]),
        ops.convert_to_numpy(explicit(tfbanks.weights[0].shape, "float32")),
        atol=1e-7,
    )


@pytest.mark.parametrize(
    "sample_rate, n_filters, expected",
    [
        (8000, 40, 512),
        (16000, 40, 512),
        (16000, 200, 1024),
        (24000, 40, 1024),  # The window has 601 samples.
        (44100, 40, 2048),
    ],
)
def test_mel_filters_have_512_bins_or_as_many_as_the_window_needs(
    sample_rate, n_filters, expected
):
    settings = {"sample_rate": sample_rate, "n_filters": n_filters}
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 4000)).astype("f")
    default = frontend.MelFilterbanks(**settings)
    explicit = frontend.MelFilterbanks(**settings, n_fft=expected)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(default(waveform)),
        ops.convert_to_numpy(explicit(waveform)),
    )


def test_configs_that_were_saved_before_keep_their_fft():
    """They hold None, which has always followed the window."""
    config = frontend.MelFilterbanks(sample_rate=8000).get_config()
    old = frontend.MelFilterbanks.from_config({**config, "n_fft": None})
    same = frontend.MelFilterbanks(sample_rate=8000, n_fft=256)
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 2000)).astype("f")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(old(waveform)),
        ops.convert_to_numpy(same(waveform)),
    )
    init = initializers.GaborInit(8000, 60.0, 3900.0)
    assert init.get_config()["n_fft"] == "auto"
    old = initializers.GaborInit.from_config(
        {**init.get_config(), "n_fft": None, "window_len": 25.0}
    )
    expected = initializers.GaborInit(8000, 60.0, 3900.0, n_fft=256)
    for shape in ((40, 2), (201, 1, 80)):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(old(shape, "float32")),
            ops.convert_to_numpy(expected(shape, "float32")),
        )
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(old)
    )
    assert copy.n_fft is None


@pytest.mark.parametrize("n_fft", ["window", -1, 512.0, True])
@pytest.mark.parametrize(
    "cls", [initializers.GaborInit, frontend.MelFilterbanks]
)
def test_other_lengths_of_the_fft_are_rejected(cls, n_fft):
    with pytest.raises(ValueError, match="`n_fft` must be a positive integer"):
        cls(n_fft=n_fft)


def test_the_matrix_is_that_of_tensorflow_at_any_rate():
    tf = pytest.importorskip("tensorflow")
    for sample_rate, high_hz in ((8000, 3900.0), (24000, 7800.0), (44100, 2e4)):
        expected = tf.signal.linear_to_mel_weight_matrix(
            64, 257, sample_rate, 60.0, high_hz
        ).numpy()
        weights = mel.mel_matrix(64, 512, sample_rate, 60.0, high_hz)
        np.testing.assert_allclose(weights, expected.T, atol=1e-4)
