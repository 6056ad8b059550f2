"""Figures show what they say, and a run's are written."""

import io

import keras
import numpy as np
import pytest

from leaf_audio import diagnostics, frontend
from leaf_audio.app import plot
from leaf_audio.diagnostics import figures

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def leaf():
    layer = frontend.Leaf(n_filters=6)
    layer.build((None, None))
    kernel = layer.filter_layer().kernel
    kernel.assign(kernel * np.array([[1.1, 0.8]], "float32"))
    return layer


def drawn_peaks(axes):
    """The frequency at which each row of a response image is brightest."""
    (mesh,) = axes.collections
    edges = np.asarray(mesh.get_coordinates())[0, :, 0]
    middle = (edges[:-1] + edges[1:]) / 2
    return middle[np.asarray(mesh.get_array()).argmax(axis=1)]


def test_responses_peak_at_the_centre_frequencies(leaf):
    then, now, bar = figures.responses(leaf).axes
    for axes, initial in ((then, True), (now, False)):
        centres = diagnostics.filters(leaf, initial)["centre_hz"]
        assert drawn_peaks(axes) == pytest.approx(centres, rel=0.02)
    assert now.get_xlabel() == "frequency (Hz)"
    assert then.get_xlim() == now.get_xlim()
    assert {one.collections[0].get_clim() for one in (then, now)} == {(-60, 0)}
    assert bar.get_ylabel() == "power, of the maximum (dB)"


def test_responses_of_mel_peak_at_its_centres():
    mel = frontend.MelFilterbanks(n_filters=12)
    axes, _ = figures.responses(mel).axes
    # As near as the bins of the FFT are.
    assert drawn_peaks(axes) == pytest.approx(
        mel.fixed_centres_hz(), abs=16000 / 512
    )


def test_responses_need_filters():
    with pytest.raises(ValueError, match="`frontend` must have filters"):
        spectrogram = frontend.Spectrogram()
        spectrogram.build((None, None))
        figures.responses(spectrogram)


def test_no_marker_is_cut_off(leaf):
    (axes,) = figures.bands(leaf).axes
    markers = axes.collections
    assert len(markers) == 2
    assert not any(one.get_clip_on() for one in markers)


def test_bands_lead_from_the_beginning_to_now(leaf):
    (axes,) = figures.bands(leaf).axes
    for line in axes.get_lines():
        x, y = line.get_data()
        assert x[1] == pytest.approx(1.1 * x[0], rel=1e-3)
        assert y[1] == pytest.approx(y[0] / 0.8, rel=1e-3)


def test_bands_may_begin_elsewhere_than_initialized(leaf):
    before = diagnostics.filters(leaf)
    (axes,) = figures.bands(leaf, before).axes
    for line in axes.get_lines():
        x, y = line.get_data()
        assert x[0] == x[1] and y[0] == y[1]
    assert axes.get_legend_handles_labels()[1] == ["at the beginning", "now"]


def test_outputs_have_a_panel_for_each_frontend(leaf):
    x = np.random.default_rng(0).normal(0, 0.1, 4000)
    mel = frontend.MelFilterbanks(n_filters=6)
    two_channels = frontend.EfficientLeaf(n_filters=6)
    figure = figures.outputs({"a": leaf, "b": mel, "c": two_channels}, x)
    panels = figure.axes[:3]
    assert [one.get_title() for one in panels] == ["a", "b", "c"]
    for axes in panels:
        assert axes.images[0].get_array().shape == (6, 25)
    # Each with its colour bar.
    bars = [one.get_ylabel() for one in figure.axes[3:]]
    assert bars == [
        "PCEN (no unit)",
        "ln(energy)",
        "log energy, normalized",
    ]


def test_outputs_to_compare_have_one_scale_and_frequencies_in_hz(leaf):
    x = np.random.default_rng(0).normal(0, 0.1, 4000)
    other = frontend.Leaf(n_filters=6)
    mel = frontend.MelFilterbanks(n_filters=6)
    named = {"mel": mel, "then": other, "now": leaf}
    figure = figures.outputs(named, x, "some $file.wav")
    assert figure.get_suptitle() == "some $file.wav"
    limits = [axes.images[0].get_clim() for axes in figure.axes[:3]]
    assert limits[1] == limits[2] != limits[0]
    for axes, one in zip(figure.axes, named.values(), strict=False):
        assert "(Hz)" in axes.get_ylabel()
        centres = np.sort(diagnostics.centres_hz(one))
        for row, text in zip(
            axes.get_yticks(), axes.get_yticklabels(), strict=True
        ):
            hz = np.interp(row, np.arange(6), centres)
            assert hz == pytest.approx(float(text.get_text()))
    figure.savefig(io.BytesIO())


def test_filters_are_drawn_in_the_order_of_their_frequencies():
    layer = frontend.Leaf(n_filters=6)
    layer.build((None, None))
    kernel = layer.filter_layer().kernel
    x = np.random.default_rng(0).normal(0, 0.1, 4000)
    before = figures.outputs({"a": layer}, x).axes[0].images[0].get_array()
    kernel.assign(keras.ops.flip(kernel, 0))
    features = keras.ops.convert_to_numpy(layer(x[None]))[0]
    after = figures.outputs({"a": layer}, x).axes[0].images[0].get_array()
    np.testing.assert_array_equal(after, features.T[::-1])
    assert after.shape == before.shape


def test_figures_of_clips_have_one_scale(leaf):
    rng = np.random.default_rng(0)
    clips = [rng.normal(0, level, 2000) for level in (0.01, 1.0)]
    drawn = figures.outputs_of_clips(leaf, clips)
    limits = [one.axes[0].images[0].get_clim() for one in drawn]
    assert len(limits) == 2 and limits[0] == limits[1]


def test_outputs_of_different_rates_are_rejected(leaf):
    other = frontend.MelFilterbanks(sample_rate=8000)
    with pytest.raises(ValueError, match="one sample rate.*8000, 16000"):
        figures.outputs({"a": leaf, "b": other}, np.zeros(1000))
    with pytest.raises(ValueError, match=r"\(2, 1000\)"):
        figures.outputs({"a": leaf}, np.zeros((2, 1000)))


@pytest.mark.parametrize("name", ["bands.png", "bands.svg"])
def test_only_figures_of_the_command_are_replaced(leaf, tmp_path, name):
    drawn = {"bands": figures.bands(leaf)}
    written = plot.save(drawn, tmp_path / "figures")
    assert plot.save(drawn, tmp_path / "figures") == written
    other = tmp_path / "figures" / name
    other.write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{name}, which would be replaced"):
        plot.save(drawn, tmp_path / "figures")
    assert other.read_bytes() == b"mine"
