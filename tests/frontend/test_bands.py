"""The band of a frontend: `min_freq` and `max_freq`."""

import keras
import numpy as np
import pytest
from frontend_makers import FRONTENDS, filter_weight, noise
from keras import ops

from leaf_audio import convolution, diagnostics, frontend, initializers

GABOR = ("leaf", "efficient_leaf", "tfbanks")
SINC = ("sincnet", "sincnet_plus")


def band_hz(layer):
    found = diagnostics.filters(layer)
    return found["centre_hz"], found["bandwidth_hz"]


def test_the_published_call_of_efficient_leaf_works():
    # README of github.com/CPJKU/EfficientLEAF.
    efficient = frontend.EfficientLeaf(
        n_filters=80,
        min_freq=60,
        max_freq=7800,
        sample_rate=16000,
        num_groups=8,
        conv_win_factor=6,
        stride_factor=16,
    )
    default = frontend.EfficientLeaf(
        n_filters=80, num_groups=8, conv_win_factor=6.0, stride_factor=16.0
    )
    assert efficient(noise(1, 1600)).shape == (1, 10, 80, 2)
    default.build((None, 1600))
    np.testing.assert_array_equal(
        filter_weight(efficient), filter_weight(default)
    )


@pytest.mark.parametrize("name", GABOR)
def test_a_band_is_that_of_the_initializer(name):
    layer = FRONTENDS[name](n_filters=8, min_freq=500.0, max_freq=3000)
    layer.build((None, None))
    method = "mel_analytic" if name == "efficient_leaf" else "mel"
    init = initializers.GaborInit(16000, 500.0, 3000, method=method)
    kernel = filter_weight(layer)
    np.testing.assert_allclose(
        kernel, ops.convert_to_numpy(init(kernel.shape, "float32")), rtol=1e-5
    )


@pytest.mark.parametrize("name", GABOR)
def test_one_edge_may_be_left_out(name):
    settings = {"n_filters": 4, "sample_rate": 8000}
    for given, whole in (
        ({"max_freq": None}, {"min_freq": 60.0, "max_freq": 4000.0}),
        ({"min_freq": 0}, {"min_freq": 0.0, "max_freq": 3900.0}),
    ):
        kernels = []
        for band in (given, whole):
            layer = FRONTENDS[name](**settings, **band)
            layer.build((None, None))
            kernels.append(filter_weight(layer))
        np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize("name", SINC)
@pytest.mark.parametrize("low_hz, high_hz", [(60, 4000.0), (1000.0, 8000)])
def test_the_cutoffs_of_a_sincnet_lie_on_the_edges(name, low_hz, high_hz):
    layer = FRONTENDS[name](n_filters=8, min_freq=low_hz, max_freq=high_hz)
    layer.build((None, None))
    centre, width = band_hz(layer)
    np.testing.assert_allclose(centre[0] - width[0] / 2, low_hz, atol=0.01)
    np.testing.assert_allclose(centre[-1] + width[-1] / 2, high_hz, atol=0.01)


@pytest.mark.parametrize("name", SINC)
def test_the_default_band_of_a_sincnet_is_the_releases(name):
    given = FRONTENDS[name](min_freq=100.0, max_freq=8000.0)
    default = FRONTENDS[name]()
    for layer in (given, default):
        layer.build((None, None))
    np.testing.assert_allclose(
        filter_weight(given), filter_weight(default), rtol=1e-6
    )


@pytest.mark.parametrize("center", [False, True])
def test_a_spectrogram_keeps_the_bins_of_its_band(center):
    whole = frontend.Spectrogram(center=center)
    part = frontend.Spectrogram(center=center, min_freq=1000, max_freq=2000.0)
    # There is a bin every 31.25 Hz.
    features = ops.convert_to_numpy(part(noise(1, 4000)))
    assert features.shape[-1] == part.n_filters == 33
    np.testing.assert_array_equal(
        features, ops.convert_to_numpy(whole(noise(1, 4000)))[..., 32:65]
    )
    with pytest.raises(ValueError, match="leave a bin"):
        frontend.Spectrogram(min_freq=1001.0, max_freq=1010.0)


@pytest.mark.parametrize("name", [*FRONTENDS, "spectrogram"])
def test_a_band_is_saved(name, tmp_path):
    make = {**FRONTENDS, "spectrogram": frontend.Spectrogram}[name]
    size = {} if name == "spectrogram" else {"n_filters": 4}
    layer = make(min_freq=200.0, max_freq=3000.0, **size)
    expected = ops.convert_to_numpy(layer(noise(1, 1600)))
    layer.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    assert (loaded.min_freq, loaded.max_freq) == (200.0, 3000.0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(noise(1, 1600))), expected, atol=1e-5
    )


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(
    "band, message",
    [
        ({"max_freq": 9000.0}, "Nyquist frequency.*max_freq=9000.0"),
        ({"min_freq": 500, "max_freq": 400}, "below `max_freq`.*min_freq=500"),
        ({"min_freq": "low"}, "min_freq='low'"),
        ({"min_freq": None}, "min_freq=None"),
        ({"max_freq": "nyquist"}, "max_freq='nyquist'"),
        ({"min_freq": -3.0}, "min_freq=-3.0"),
    ],
)
def test_an_impossible_band_is_rejected(name, band, message):
    with pytest.raises(ValueError, match=message):
        FRONTENDS[name](**band)


@pytest.mark.parametrize(
    "name, filters",
    [
        ("leaf", {"complex_conv_init": initializers.GaborInit(min_freq=60.0)}),
        ("leaf", {"complex_conv_init": initializers.GaborInit(method="erb")}),
        ("leaf", {"complex_conv_init": "glorot_uniform"}),
        ("leaf", {"conv1d_cls": convolution.SincConv1D}),
        ("leaf", {"conv1d_cls": convolution.GaborConv1D(80, 401)}),
        (
            "efficient_leaf",
            {"complex_conv_init": initializers.GaborInit(max_freq=900.0)},
        ),
    ],
)
@pytest.mark.parametrize("band", [{"min_freq": 100.0}, {"max_freq": None}])
def test_a_band_beside_given_filters_is_an_error(name, filters, band):
    (argument,) = filters
    with pytest.raises(ValueError, match=f"together with `{argument}`"):
        FRONTENDS[name](**band, **filters)


@pytest.mark.parametrize("name", SINC)
def test_a_sincnet_cannot_begin_below_its_lowest_cutoff(name):
    with pytest.raises(ValueError, match="min_freq=10, min_low_hz=50"):
        FRONTENDS[name](min_freq=10)
