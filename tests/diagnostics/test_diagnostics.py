"""What is told of filters is what their responses show."""

import csv
import io

import keras
import numpy as np
import pytest
import rich.console

from leaf_audio import (
    callbacks,
    convolution,
    diagnostics,
    frontend,
    postprocessing,
)
from leaf_audio.frontend.layer_calls import find_layers


def built(make=frontend.Leaf, **settings):
    layer = make(**settings)
    layer.build((None, None))
    return layer


def measured(response, sample_rate):
    """Centre and width at half power, of a complex impulse response."""
    power = np.abs(np.fft.fft(response, 2**17)) ** 2
    power = power[: 2**16]
    above = np.flatnonzero(power > power.max() / 2)
    step = sample_rate / 2**17
    return power.argmax() * step, (above[-1] - above[0]) * step


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_gabor_bands_are_those_of_the_responses(sample_rate):
    # Filters that the window does not cut off.
    leaf = built(
        n_filters=8, sample_rate=sample_rate, window_len=100.0, tolerance=0
    )
    filters = diagnostics.impulse_responses(leaf)
    found = diagnostics.filters(leaf)
    for n in range(8):
        centre, width = measured(filters[:, n], sample_rate)
        assert found["centre_hz"][n] == pytest.approx(centre, rel=2e-3)
        assert found["bandwidth_hz"][n] == pytest.approx(width, rel=2e-2)
    # 0.4 of half a window.
    np.testing.assert_allclose(found["pooling_ms"], 20, rtol=1e-2)


def test_free_kernels_are_measured():
    """Time-domain filterbanks begin with LEAF's filters."""
    free = diagnostics.filters(built(frontend.TimeDomainFilterbanks))
    gabor = diagnostics.filters(built())
    np.testing.assert_allclose(
        free["centre_hz"], gabor["centre_hz"], atol=2, rtol=1e-3
    )
    # The lowest ones are cut off, and wider for it.
    np.testing.assert_allclose(
        free["bandwidth_hz"][10:], gabor["bandwidth_hz"][10:], atol=4, rtol=0.02
    )
    assert "pooling_ms" not in free


def test_sinc_bands_lie_between_the_cutoffs():
    found = diagnostics.filters(built(frontend.SincNet, n_filters=10))
    assert (np.diff(found["centre_hz"]) > 0).all()
    layer = convolution.SincConv1D(filters=4, kernel_size=101)
    layer.build((None, None, 1))
    layer.kernel.assign([[50.0, 100.0], [900.0, 150.0]])
    centre, width = (
        keras.ops.convert_to_numpy(part) for part in layer.bands_hz(16000)
    )
    np.testing.assert_allclose(centre, [175, 1050])
    np.testing.assert_allclose(width, [150, 200])


def test_drift_is_what_has_changed_since_the_beginning():
    leaf = built(n_filters=6)
    for values in diagnostics.drift(leaf).values():
        np.testing.assert_array_equal(values, 0)
    kernel = leaf.filter_layer().kernel
    before = diagnostics.filters(leaf)
    shift = np.zeros((6, 2), "float32")
    shift[2, 0] = 2 * np.pi * 100 / 16000
    kernel.assign(keras.ops.convert_to_numpy(kernel) + shift)
    (widths,) = [w for w in leaf.weights if "learnable_pooling" in w.path]
    widths.assign(widths * 0.5)
    moved = diagnostics.drift(leaf)
    np.testing.assert_allclose(moved["centre_hz"], [0, 0, 100, 0, 0, 0], atol=1)
    np.testing.assert_array_equal(moved["bandwidth_hz"], 0)
    np.testing.assert_allclose(
        moved["pooling_ms"], -before["pooling_ms"] / 2, rtol=1e-5
    )


def test_pcen_parameters_come_by_filter():
    found = diagnostics.pcen(built(n_filters=6))
    expected = {"alpha": 0.96, "delta": 2.0, "exponent": 0.5, "smooth": 0.04}
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.shape == (6,)
        np.testing.assert_allclose(values, [expected[name]] * 6)
    assert diagnostics.pcen(built(compression_fn=None)) == {}


def test_initial_pcen_parameters_are_those_that_it_was_made_with():
    pcen = postprocessing.PCENLayer(alpha=0.8, trainable=True)
    made = built(n_filters=6, compression_fn=pcen)
    before = diagnostics.pcen(made)
    (own,) = find_layers(made, postprocessing.PCENLayer)
    own.alpha.assign(own.alpha / 2)
    assert diagnostics.pcen(made)["alpha"][3] == pytest.approx(0.4)
    for name, values in diagnostics.pcen(made, initial=True).items():
        np.testing.assert_allclose(values, before[name])


def test_a_table_has_a_row_for_each_filter():
    leaf = built(n_filters=6)
    # As long as numbers get.
    leaf.set_weights([w * 0.93456 for w in leaf.get_weights()])
    out = io.StringIO()
    console = rich.console.Console(file=out, width=80)
    console.print(diagnostics.table(leaf))
    text = out.getvalue()
    words = text.split()
    headings = ("centre", "hz", "width", "pooling", "Δ", "exponent", "smooth")
    assert set(headings) <= set(words)
    assert "…" not in text
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row and row[0].isdigit()]
    assert [row[0] for row in rows] == list("012345")
    moved = diagnostics.drift(leaf)["centre_hz"]
    centres = diagnostics.filters(leaf)["centre_hz"]
    for row, centre, by in zip(rows, centres, moved, strict=True):
        assert len(row) == 11
        assert row[1:3] == [f"{centre:.4g}", f"{by:+.2f}"]


def test_a_table_writes_high_frequencies_in_full():
    leaf = frontend.Leaf(n_filters=4, sample_rate=48000)
    leaf.build((None, None))
    out = io.StringIO()
    rich.console.Console(file=out).print(diagnostics.table(leaf))
    centre = diagnostics.filters(leaf)["centre_hz"][-1]
    assert centre > 1e4
    assert f"{centre:.0f}" in out.getvalue().split()


@pytest.mark.parametrize(
    "layer,message",
    [
        (frontend.Leaf(), "built"),
        (built(frontend.MelFilterbanks), "filters to learn"),
        (keras.layers.Dense(1), "a frontend"),
    ],
    ids=["not built", "fixed", "another layer"],
)
def test_what_has_no_filters_is_a_clear_error(layer, message):
    with pytest.raises(ValueError, match=f"`frontend` .*{message}"):
        diagnostics.filters(layer)


def test_filters_are_logged_each_epoch(tmp_path):
    leaf = frontend.Leaf(n_filters=3)
    model = keras.Sequential([leaf, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(0, 0.1, (2, 320)).astype("float32")
    path = tmp_path / "logs" / "filters.csv"
    history = model.fit(
        x,
        np.zeros((2, 6)),
        epochs=2,
        verbose=0,
        callbacks=[callbacks.LogFilters(path)],
    )
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["epoch"], r["filter"]) for r in rows] == [
        (str(epoch), str(n)) for epoch in range(3) for n in range(3)
    ]
    last = [float(row["centre_hz"]) for row in rows[-3:]]
    now = diagnostics.filters(leaf)["centre_hz"]
    np.testing.assert_allclose(last, now, rtol=1e-5)
    drift = np.abs(diagnostics.drift(leaf)["centre_hz"]).mean()
    assert drift > 0
    logged = history.history["drift_centre_hz"][-1]
    assert logged == pytest.approx(drift, rel=1e-5)


def test_the_drift_is_from_where_a_training_began():
    """Not from where the initializer puts the filters."""
    leaf = frontend.Leaf(n_filters=3)
    model = keras.Sequential([leaf, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    x, y = np.zeros((2, 320), "float32"), np.zeros((2, 6))
    model.build(x.shape)
    kernel = leaf.filter_layer().kernel
    kernel.assign(kernel * [1.2, 1.0])
    assert np.abs(diagnostics.drift(leaf)["centre_hz"]).mean() > 10
    history = model.fit(
        x, y, epochs=2, verbose=0, callbacks=[callbacks.LogFilters()]
    )
    assert history.history["drift_centre_hz"] == pytest.approx([0, 0])


@pytest.mark.slow
def test_a_log_goes_on_where_training_does(tmp_path):
    leaf = frontend.Leaf(n_filters=3)
    model = keras.Sequential([leaf, keras.layers.Flatten()])
    model.compile("sgd", "mse", jit_compile=False)
    x, y = np.zeros((2, 320), "float32"), np.zeros((2, 6))
    log = callbacks.LogFilters(tmp_path / "filters.csv")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[log])
    model.fit(x, y, initial_epoch=1, epochs=2, verbose=0, callbacks=[log])
    with open(log.path, encoding="utf-8") as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == [0] * 3 + [1] * 3 + [2] * 3


def test_a_log_keeps_the_filters_from_before_a_begun_epoch(tmp_path):
    leaf = frontend.Leaf(n_filters=3)
    model = keras.Sequential([leaf, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(0, 0.1, (2, 320)).astype("float32")
    path = tmp_path / "filters.csv"

    def fit(goes_on):
        log = callbacks.LogFilters(path, goes_on=goes_on)
        model.fit(x, np.zeros((2, 6)), verbose=0, callbacks=[log])
        with open(path, encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["epoch"]) for row in rows] == [0] * 3 + [1] * 3
        return [float(row["centre_hz"]) for row in rows[:3]]

    before = fit(goes_on=False)
    moved = diagnostics.filters(leaf)["centre_hz"]
    assert np.abs(moved - before).max() > 0
    assert fit(goes_on=True) == before
    path.unlink()
    np.testing.assert_allclose(fit(goes_on=True), before, rtol=1e-5)


def test_filters_longer_than_the_transform_are_measured_whole():
    leaf = built(n_filters=1, sample_rate=384000, tolerance=0)
    hz, power = diagnostics.responses(leaf)
    centre, _ = measured(
        diagnostics.impulse_responses(leaf)[:, 0], leaf.sample_rate
    )
    assert hz[power[:, 0].argmax()] == pytest.approx(centre, abs=2 * hz[1])
    assert len(hz) == 2**13 + 1


def test_free_filters_of_one_output_are_real():
    leaf = built(
        n_filters=3,
        conv1d_cls=keras.layers.Conv1D(3, 401, padding="same"),
        activation="relu",
    )
    assert diagnostics.impulse_responses(leaf).shape == (401, 3)
    assert diagnostics.filters(leaf)["centre_hz"].shape == (3,)
    assert diagnostics.learned_frontends(leaf) == [leaf]
