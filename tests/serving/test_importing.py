"""Frontends with the weights of other systems give their features."""

import pathlib

import keras
import numpy as np
import pytest
import soundfile
from foreign_leafs import (
    efficientleaf,
    efficientleaf_leaf,
    efficientleaf_state,
    leaf,
    leaf_state,
)

import leaf_audio
from leaf_audio import callbacks, frontend, postprocessing
from leaf_audio.serving import import_frontend

# 8 kHz: windows of 201 samples, a hop of 80.
SETTINGS = {"sample_rate": 8000}
SIZE, STRIDE = 201, 80
TORCH_LEAFS = ("leaf_pytorch", "speechbrain")
YES = pathlib.Path(__file__).parents[1] / "recordings" / "yes.flac"


@pytest.fixture(scope="module")
def waveforms():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.2, (2, 2011))
    loud_then_quiet = np.r_[np.full(900, 1.0), np.full(1111, 0.01)]
    return (noise * loud_then_quiet).astype("float32")


def features(imported, waveforms):
    return keras.ops.convert_to_numpy(imported(waveforms))


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("system", ["original", *TORCH_LEAFS])
@pytest.mark.parametrize("with_pcen", [True, False])
def test_a_leaf_gives_the_features_of_its_system(system, with_pcen, waveforms):
    state = leaf_state(system, with_pcen=with_pcen)
    settings = SETTINGS if with_pcen else SETTINGS | {"compression_fn": None}
    imported = import_frontend(state, **settings)
    assert type(imported) is frontend.Leaf
    expected = leaf(waveforms, state, SIZE, STRIDE)
    assert_same(features(imported, waveforms), expected)


def test_the_release_may_have_more_parts(waveforms):
    rng = np.random.default_rng(2)
    state = leaf_state("original")
    extra = {
        "_preemp_conv/kernel": np.array([-0.9, 1.1]).reshape(2, 1, 1),
        "_instance_norm/gamma": rng.uniform(0.5, 2, 6),
        "_instance_norm/beta": rng.normal(0, 1, 6),
    }
    imported = import_frontend(state | extra, **SETTINGS)
    padded = np.pad(waveforms, ((0, 0), (0, 1)))
    emphasised = -0.9 * padded[:, :-1] + 1.1 * padded[:, 1:]
    x = leaf(emphasised, state, SIZE, STRIDE)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    expected = x * extra["_instance_norm/gamma"] + extra["_instance_norm/beta"]
    np.testing.assert_allclose(
        features(imported, waveforms), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("kind", ["pcen", "pcen of logarithms", "logtbn"])
@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"num_groups": 2, "conv_win_factor": 6.0, "stride_factor": 4.0},
    ],
    ids=["default", "given"],
)
def test_an_efficientleaf_gives_the_features_of_its_system(
    kind, groups, waveforms
):
    state = efficientleaf_state(kind)
    imported = import_frontend(
        state, system="efficientleaf", **SETTINGS, **groups
    )
    assert type(imported) is frontend.EfficientLeaf
    expected = efficientleaf(
        waveforms,
        state,
        size=200,
        stride=STRIDE,
        **{
            "num_groups": 4,
            "conv_win_factor": 4.77,
            "stride_factor": 1.0,
            **groups,
        },
    )
    assert_same(features(imported, waveforms), expected)


@pytest.mark.parametrize("kind", ["pcen", "pcen of logarithms"])
@pytest.mark.parametrize("sample_rate", [8000, 11025])
def test_the_leaf_of_efficientleaf_gives_its_features(
    kind, sample_rate, waveforms
):
    state = efficientleaf_state(kind)
    imported = import_frontend(
        state, system="efficientleaf_leaf", sample_rate=sample_rate
    )
    expected = efficientleaf_leaf(
        waveforms, state, sample_rate * 25 // 1000, sample_rate * 10 // 1000
    )
    assert_same(features(imported, waveforms), expected)


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_pcen": False}, {"use_legacy_complex": True}],
    ids=str,
)
def test_a_live_speechbrain_gives_the_same_features(settings, waveforms):
    pytest.importorskip("speechbrain", exc_type=ImportError)
    import torch
    from speechbrain.lobes.features import Leaf

    torch.manual_seed(0)
    module = Leaf(40, sample_rate=8000, in_channels=1, **settings)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(torch.empty_like(parameter).uniform_(0.7, 1.3))
        expected = module(torch.tensor(waveforms)).numpy()
    imported = import_frontend(module, **SETTINGS)
    assert_same(features(imported, waveforms), expected)


def test_the_recorded_features_of_speechbrain_are_met(golden):
    # Recorded with SpeechBrain 1.1.2, `Leaf(40, in_channels=1)`, each of its
    # parameters times a random number from 0.7 to 1.3.
    arrays = golden("speechbrain")
    state = {
        name.removeprefix("weight/"): value
        for name, value in arrays.items()
        if name.startswith("weight/")
    }
    samples, _ = soundfile.read(YES, dtype="float32")
    outputs = features(import_frontend(state), samples[None])
    assert_same(outputs, arrays["output"])


GOLDEN_STATES = {
    "leaf": {
        "_complex_conv/_kernel": "kernel",
        "_pooling/kernel": "leaf.learnable_pooling.kernel",
        "_compress_fn/alpha": "leaf.PCEN.alpha",
        "_compress_fn/delta": "leaf.PCEN.delta",
        "_compress_fn/root": "leaf.PCEN.root",
        "_compress_fn/ema/_weights": "leaf.PCEN.EMA.smooth",
    },
    "tfbanks": {
        "_complex_conv/kernel": "tfbanks.tfbanks_complex_conv.kernel",
        "_pooling/pool/kernel": "tfbanks.learnable_pooling.conv2d.kernel",
    },
    "sincnet": {
        "_complex_conv/_kernel": "kernel",
        "_compress_fn/gamma": "sincnet.layer_normalization.gamma",
        "_compress_fn/beta": "sincnet.layer_normalization.beta",
    },
    "sincnet_plus": {
        "_complex_conv/_kernel": "kernel",
        "_pooling/kernel": "sincnet_plus.learnable_pooling.kernel",
        **{
            f"_compress_fn/{n}": f"sincnet_plus.PCEN.{n}"
            for n in ("alpha", "delta", "root")
        },
        **{
            f"_compress_fn/ema/cell/{n}": (
                f"sincnet_plus.PCEN.simple_rnn.simple_rnn_cell.{n}"
            )
            for n in ("kernel", "recurrent_kernel")
        },
    },
}


@pytest.mark.parametrize("name", GOLDEN_STATES)
def test_weights_of_the_release_give_its_golden_outputs(name, golden):
    arrays = golden("frontends")
    state = {
        f"_frontend/{k}/.ATTRIBUTES/VARIABLE_VALUE": arrays[
            f"{name}/weight/{v}"
        ]
        for k, v in GOLDEN_STATES[name].items()
    }
    outputs = features(import_frontend(state), arrays["waveform"])
    expected = arrays[f"{name}/output"]
    limit = 1e-4 * np.ptp(expected)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=limit)


def test_weights_of_efficientleaf_give_its_golden_outputs(golden):
    arrays = golden("efficientleaf")
    state = {
        "filterbank.center_freqs": arrays[
            "mel_filter_params/40_16k/center_freqs"
        ],
        "filterbank.bandwidths": arrays["mel_filter_params/40_16k/sigmas"],
        "filterbank.pooling_widths": np.full(40, 0.4),
        "compression.log1p.a": np.full(40, 5.0),
        "compression.TBN.bn.weight": np.ones(80),
        "compression.TBN.bn.bias": np.zeros(80),
        "compression.TBN.bn.running_mean": np.zeros(80),
        "compression.TBN.bn.running_var": np.ones(80),
    }
    imported = import_frontend(
        {f"network._frontend.{k}": v for k, v in state.items()},
        system="efficientleaf",
        num_groups=8,
        conv_win_factor=6,
        stride_factor=16,
    )
    outputs = features(imported, arrays["waveform"])
    expected = arrays["efficientleaf_8g_opt/output_inference"]
    expected = expected.transpose(0, 3, 2, 1)
    limit = 1e-4 * np.ptp(expected)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("system", TORCH_LEAFS)
def test_a_plan_stays_within_its_tolerance(system, waveforms):
    state = leaf_state(system)
    exact = features(import_frontend(state, **SETTINGS), waveforms)
    planned = import_frontend(state, tolerance=None, **SETTINGS)
    assert planned.plan is not None
    outputs = features(planned, waveforms)
    assert 0 < np.abs(outputs - exact).max() < 0.02 * np.ptp(exact)


def test_a_frontend_goes_on_learning_and_can_be_saved(tmp_path, waveforms):
    imported = import_frontend(
        leaf_state("speechbrain"), tolerance=None, **SETTINGS
    )
    before = [keras.ops.convert_to_numpy(w) for w in imported.trainable_weights]
    model = keras.Sequential(
        [
            keras.Input((None,)),
            imported,
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(True),
    )
    model.fit(
        waveforms,
        np.array([0, 1]),
        epochs=2,
        verbose=0,
        callbacks=[callbacks.Replan()],
    )
    after = [keras.ops.convert_to_numpy(w) for w in imported.trainable_weights]
    assert len(after) == 7
    for one, other in zip(before, after, strict=True):
        assert np.abs(one - other).max() > 1e-4

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        features(loaded, waveforms), features(model, waveforms), atol=1e-5
    )


def changed(state, **changes):
    """Returns a state with other values; None leaves one out."""
    names = {k.replace(".", "_").replace("/", "_"): k for k in state}
    state = dict(state)
    for key, value in changes.items():
        name = names.get(key, key)
        state.pop(name, None)
        if value is not None:
            state[name] = np.asarray(value)
    return state


SPEECHBRAIN = leaf_state("speechbrain")
TBN = efficientleaf_state("logtbn")
MOVED = np.r_[1.0, 0.5, 2.0, 0.1, 3.0, 3.1]


@pytest.mark.parametrize(
    "source, settings, message",
    [
        (changed(SPEECHBRAIN, pooling__bias=None), {}, "pooling._bias"),
        (changed(SPEECHBRAIN, compression_root=None), {}, "compression.root"),
        (changed(SPEECHBRAIN, other=[1.0]), {}, "unknown .'other'"),
        (
            changed(SPEECHBRAIN, pooling__bias=np.ones(5)),
            {},
            r"pooling._bias of shape \(6,\). Received: .* \(5,\)",
        ),
        (
            changed(SPEECHBRAIN, complex_conv_kernel=np.ones((6, 3))),
            {},
            r"complex_conv.kernel of shape \(6, 2\)",
        ),
        (
            changed(SPEECHBRAIN, compression_ema__weights=np.full(6, np.nan)),
            {},
            "compression.ema._weights",
        ),
        (
            changed(SPEECHBRAIN, compression_ema__weights=np.ones(3)),
            {},
            "smooth of shape",
        ),
        (
            changed(SPEECHBRAIN, compression_delta=np.full(6, -0.1)),
            {},
            "delta of PCEN",
        ),
        ({"a": np.ones(2)}, {}, "complex_conv.kernel.*Received.*'a'"),
        ({}, {}, "complex_conv.kernel"),
        (SPEECHBRAIN, {"system": "leaf_pytorch"}, "_complex_conv._kernel"),
        (SPEECHBRAIN, {"system": "audax"}, "`system` must be"),
        (
            {"a": SPEECHBRAIN, "b": SPEECHBRAIN},
            {},
            r"one frontend.*\['a.', 'b.'\]",
        ),
        (SPEECHBRAIN, {"sample_rate": 22050}, "552 samples"),
        (SPEECHBRAIN, {"num_groups": 2}, "num_groups"),
        (SPEECHBRAIN, {"compression_fn": "log"}, "PCENLayer"),
        (
            SPEECHBRAIN,
            {"compression_fn": postprocessing.PCENLayer(parametrization="log")},
            "parametrization='linear'",
        ),
        (
            leaf_state("original", with_pcen=False),
            {},
            "`compression_fn` must be given",
        ),
        (TBN, {}, "`system` must say"),
        (TBN, {"system": "efficientleaf_leaf"}, "compression.s"),
        (
            TBN,
            {"system": "efficientleaf", "tolerance": 0.1},
            "`tolerance` must be",
        ),
        (
            changed(TBN, compression_log1p_a=None),
            {"system": "efficientleaf"},
            "`compression_fn` must be a LogTBN",
        ),
        (
            changed(TBN, filterbank_center_freqs=MOVED),
            {"system": "efficientleaf"},
            r"filters \[.*\] in other groups",
        ),
        (
            changed(
                efficientleaf_state("pcen"),
                compression_s=[-0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
            ),
            {"system": "efficientleaf"},
            "compression.s from -0.1 to 0.1",
        ),
        (
            {
                k: v[..., :0, :] if v.ndim == 4 else v[:0]
                for k, v in SPEECHBRAIN.items()
            },
            {},
            r"complex_conv.kernel of shape \('n', 2\). Received: .* \(0, 2\)",
        ),
        (
            changed(SPEECHBRAIN, complex_conv_kernel=np.full((6, 2), 1j)),
            {},
            "finite real numbers. Received: complex_conv.kernel",
        ),
        (
            {k: v[:3] if "TBN" in k and v.ndim else v for k, v in TBN.items()},
            {"system": "efficientleaf"},
            r"6 filters, and .*running_mean of shape \(3,\)",
        ),
        (
            leaf_state("original", with_pcen=False),
            {"compression_fn": postprocessing.PCENLayer(alpha=0.5)},
            "alpha, delta, root, smooth in `compression_fn`, and a source wit",
        ),
        (
            leaf_state("speechbrain", with_pcen=False),
            {"compression_fn": "pcen"},
            "`compression_fn` must have the weights that `source` has",
        ),
        (
            leaf_state("leaf_pytorch", with_pcen=False),
            {"compression_fn": postprocessing.LogTBN()},
            "a source without a, beta, gamma, moving_mean, moving_variance",
        ),
        (
            TBN,
            {
                "system": "efficientleaf",
                "compression_fn": postprocessing.LogTBN(affine=False),
            },
            "a source with beta, gamma",
        ),
        (
            changed(TBN, compression_log1p_a=None),
            {
                "system": "efficientleaf",
                "compression_fn": postprocessing.LogTBN(),
            },
            "a source without a",
        ),
        (5, {}, "source=5"),
        ("no_such.pt", {}, "'no_such.pt', which is not there"),
        ("tests", {}, "'tests', which is a folder"),
    ],
)
def test_what_cannot_be_imported_is_told(source, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        import_frontend(source, **settings)
    assert "\n" not in str(error.value)


def test_sinc_filters_are_those_of_16_khz(golden):
    arrays = golden("frontends")
    state = {
        k: arrays[f"sincnet/weight/{v}"]
        for k, v in GOLDEN_STATES["sincnet"].items()
    }
    with pytest.raises(ValueError, match="`sample_rate` must be 16000"):
        import_frontend(state, sample_rate=8000)


def test_a_compression_that_the_weights_do_not_tell_can_be_given(waveforms):
    state = changed(TBN, compression_log1p_a=None)
    layer = postprocessing.LogTBN(a=3.0, learn_a=False)
    imported = import_frontend(
        state, system="efficientleaf", compression_fn=layer, **SETTINGS
    )
    told = state | {"compression.log1p.a": np.full(6, 3.0, "float32")}
    expected = efficientleaf(
        waveforms,
        told,
        size=200,
        stride=STRIDE,
        num_groups=4,
        conv_win_factor=4.77,
        stride_factor=1.0,
    )
    assert_same(features(imported, waveforms), expected)


def test_leaf_audio_has_the_function_by_its_first_name():
    assert leaf_audio.import_frontend is import_frontend
