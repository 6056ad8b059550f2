"""Figures show what they say, and a run's are written."""

import numpy as np
import pytest

from leaf_audio import frontend
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


def test_responses_peak_at_the_centre_frequencies(leaf):
    (axes,) = figures.responses(leaf).axes
    lines = axes.get_lines()
    assert len(lines) == 12
    assert axes.get_xlabel() == "frequency (kHz)"
    for line, begun in zip(lines[6:], lines[:6], strict=True):
        khz = line.get_xdata()
        now, then = (khz[one.get_ydata().argmax()] for one in (line, begun))
        assert now == pytest.approx(1.1 * then, rel=0.02)


def test_bands_lead_from_the_beginning_to_now(leaf):
    (axes,) = figures.bands(leaf).axes
    for line in axes.get_lines():
        x, y = line.get_data()
        assert x[1] == pytest.approx(1.1 * x[0], rel=1e-3)
        assert y[1] == pytest.approx(y[0] / 0.8, rel=1e-3)


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
    assert len(figure.axes) == 6


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
