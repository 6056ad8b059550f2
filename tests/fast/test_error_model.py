"""Errors as they are predicted, and as they are on the input assumed."""

import itertools

import numpy as np
import pytest

from leaf_audio import fast, impulse_responses
from leaf_audio.fast import error_model

FRAMES = 400
GEOMETRIES = {
    "16 kHz": fast.Geometry(401, 401, 160),
    "8 kHz": fast.Geometry(201, 201, 80),
    "long window": fast.Geometry(401, 801, 160),
    "even sizes": fast.Geometry(300, 240, 100),
}
SIGMAS = (9.0, 16.0, 30.0, 64.0)
HOPS = (4, 8, 16, 32)  # some do not divide the strides


def kernel_of(sigma, geometry):
    return impulse_responses.gabor_envelope(
        np.array([sigma]), geometry.kernel_size
    )[:, 0]


def window_of(width, geometry):
    return impulse_responses.gaussian_lowpass(
        np.array([width]), geometry.window_size
    )[:, 0]


def random_input(sigma, count):
    """Gaussian noise, 20 dB louder away from frequency 0, and its spectrum."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    distance = 2 * np.pi * np.fft.fftfreq(count) * sigma
    power = 1 + 100 * -np.expm1(-((distance / 3) ** 2) / 2)
    return np.fft.fft(noise) * np.sqrt(power)


def energies(spectrum, kernel):
    response = np.fft.fft(kernel, len(spectrum))
    return np.abs(np.fft.ifft(spectrum * response)) ** 2


def frames(energy, size):
    """Cuts out frames that hardly overlap."""
    starts = np.linspace(0, len(energy) - 2 * size, FRAMES).astype(int)
    return energy[starts[:, None] + np.arange(size)]


def relative_error(pooled, exact):
    return np.sqrt(np.mean((pooled - exact) ** 2)) / exact.mean()


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_energies_at_some_samples_err_as_predicted(geometry):
    ratios = []
    for sigma, width in itertools.product(SIGMAS, (0.25, 0.4)):
        spectrum = random_input(sigma, FRAMES * geometry.window_size)
        energy = energies(spectrum, kernel_of(sigma, geometry))
        window = window_of(width, geometry)
        some = frames(energy, geometry.window_size)
        for hop in HOPS:
            positions = geometry.sample_positions(hop)
            matrix = error_model.weight_matrix(sigma, hop, geometry)
            measured = relative_error(
                some[:, positions] @ (matrix @ window), some @ window
            )
            predicted = error_model.sampling_error(sigma, width, hop, geometry)
            # Predictions are for the worst filter and window within the
            # margins of a plan.
            assert measured < max(1.2 * predicted, 1e-4)
            if predicted > 1e-3:
                ratios.append(measured / predicted)
    assert len(ratios) > 8
    assert 0.3 < np.median(ratios) < 1


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_shortened_kernels_err_as_predicted(geometry):
    """It is a bound for this input. `truncation_weight` adds to it."""
    ratios = []
    for sigma, share in itertools.product(SIGMAS, (0.2, 0.3, 0.5, 0.7)):
        taps = 2 * int(share * geometry.kernel_size / 2) + 1
        spectrum = random_input(sigma, FRAMES * geometry.window_size)
        kernel = kernel_of(sigma, geometry)
        first = geometry.kernel_size // 2 - taps // 2
        short = np.zeros_like(kernel)
        short[first : first + taps] = kernel[first : first + taps]
        short[first : first + taps] *= error_model.taper(
            taps, geometry.kernel_size
        )
        window = window_of(0.4, geometry)
        exact, pooled = (
            frames(energies(spectrum, one), geometry.window_size) @ window
            for one in (kernel, short)
        )
        measured = relative_error(pooled, exact)
        predicted = error_model.truncation_error(
            sigma, taps, geometry.kernel_size
        )
        if 1e-4 < predicted < 0.3:
            assert 0.03 * predicted < measured < predicted
            ratios.append(measured / predicted)
    assert len(ratios) > 3


@pytest.mark.parametrize("sigma", [70.0, 100.0, 200.0])
def test_products_of_distant_bins_err_at_most_as_predicted(sigma):
    """The prediction also covers bursts, which this input does not have."""
    geometry = GEOMETRIES["16 kHz"]
    size, length = geometry.frame_length, geometry.fft_length
    count = FRAMES * geometry.window_size
    noise = np.fft.ifft(random_input(sigma, count))
    some = frames(noise, size)
    response = np.fft.fft(kernel_of(sigma, geometry), length)
    energy = np.abs(np.fft.ifft(np.fft.fft(some, length) * response)) ** 2
    # The first samples of a convolution do not depend on all of the kernel.
    window = np.zeros(length)
    window[geometry.kernel_size - 1 : size] = window_of(0.4, geometry)
    distance = np.abs(np.fft.fftfreq(length, 1 / length))
    predicted = error_model.offset_errors(sigma, 0.4, geometry)
    measured = []
    for offset in fast.CONSTANTS.offsets:
        kept = np.fft.fft(window) * (distance <= offset)
        pooled = energy @ np.fft.ifft(kept).real
        measured.append(relative_error(pooled, energy @ window))
    assert all(
        one < most for one, most in zip(measured, predicted, strict=True)
    )
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > 1e-3
