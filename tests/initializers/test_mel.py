"""The mel scale and the matrices and Gabor parameters made of it."""

import numpy as np
import pytest

from leaf_audio.initializers import mel


def test_matrix_is_the_published_one(golden):
    expected = golden("components")["mel_filters/40_16k"]
    weights = mel.mel_matrix(40, 512, 16000, 60.0, 7800.0)
    # The published one was computed in float32.
    np.testing.assert_allclose(weights, expected, atol=1e-5)


@pytest.mark.parametrize("key, normalize", [("", False), ("_normalized", True)])
def test_gabor_parameters_are_the_published_ones(golden, key, normalize):
    expected = golden("components")[f"gabor_params/40_16k{key}"]
    weights = mel.mel_matrix(40, 512, 16000, 60.0, 7800.0)
    parameters = mel.gabor_parameters(weights, 512, normalize)
    np.testing.assert_allclose(parameters, expected, rtol=1e-5)


def test_gabor_kernels_are_the_published_ones(golden):
    arrays = golden("components")
    weights = mel.mel_matrix(40, 512, 16000, 60.0, 7800.0)
    kernels = mel.gabor_kernels(weights, 512, 401)
    for part, values in (("real", kernels.real), ("imag", kernels.imag)):
        expected = arrays[f"gabor_filters_scaled/40_16k/{part}"]
        np.testing.assert_allclose(
            values, expected, atol=1e-5 * np.abs(expected).max()
        )


def test_energy_normalisation_gives_every_kernel_the_same_energy():
    weights = mel.mel_matrix(40, 2048, 16000, 60.0, 7800.0)
    kernels = mel.gabor_kernels(weights, 2048, 1601, normalize_energy=True)
    energies = np.sum(np.abs(kernels) ** 2, axis=1)
    plain = np.sum(np.abs(mel.gabor_kernels(weights, 2048, 1601)) ** 2, axis=1)
    assert energies.std() / energies.mean() < 0.05
    assert plain.max() / plain.min() > 5


def test_hz_to_mel_inverts():
    hz = np.array([0.0, 50.0, 700.0, 8000.0])
    np.testing.assert_allclose(mel.mel_to_hz(mel.hz_to_mel(hz)), hz, atol=1e-9)
    # HTK's scale has 1000 mel at 1000 Hz.
    np.testing.assert_allclose(mel.hz_to_mel(1000.0), 1000.0, rtol=1e-4)


@pytest.mark.parametrize(
    "sample_rate, window, expected",
    [(16000, 401, 512), (8000, 201, 256), (44100, 1103, 2048)],
)
def test_fft_holds_the_window(sample_rate, window, expected):
    n_fft = mel.smallest_n_fft(40, window, sample_rate, 60.0, sample_rate / 2)
    assert n_fft == expected


def test_fft_grows_until_every_filter_has_a_bin():
    n_fft = mel.smallest_n_fft(200, 401, 16000, 60.0, 7800.0)
    assert n_fft > 512
    assert mel.mel_matrix(200, n_fft, 16000, 60.0, 7800.0).any(axis=1).all()
    assert not mel.mel_matrix(200, 512, 16000, 60.0, 7800.0).any(axis=1).all()


def test_a_band_too_narrow_for_its_filters_is_an_error():
    with pytest.raises(ValueError, match="n_filters=4000"):
        mel.smallest_n_fft(4000, 401, 16000, 60.0, 60.01)


@pytest.mark.parametrize(
    "max_freq, expected", [("auto", 7800.0), (None, 8000.0), (0, 8000.0)]
)
def test_upper_edge_defaults(max_freq, expected):
    assert mel.resolve_max_freq(max_freq, 16000) == expected
