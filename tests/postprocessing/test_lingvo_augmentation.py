"""LingvoSpecAugment, and SpecAugment against it.

Where lingvo is not installed, only the errors are tested.
"""

import importlib.util
import sys

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats
from spectrograms import OFF, ones, ramp, run

from leaf_audio.postprocessing import LingvoSpecAugment, SpecAugment

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LingvoSpecAugment needs the TensorFlow backend",
)
HAS_LINGVO = importlib.util.find_spec("lingvo") is not None
needs_lingvo = pytest.mark.skipif(
    not HAS_LINGVO or keras.backend.backend() != "tensorflow",
    reason="needs the TensorFlow backend and the extra `lingvo`",
)
EXAMPLES = 4096


def both(inputs, mask=None, **settings) -> list[np.ndarray]:
    kwargs = {} if mask is None else {"mask": mask}
    return [
        run(layer_cls(**settings, seed=1), inputs, **kwargs)
        for layer_cls in (SpecAugment, LingvoSpecAugment)
    ]


def assert_same_distribution(ours: np.ndarray, lingvos: np.ndarray) -> None:
    """Chi-square test of two samples of integers; rare values are pooled."""
    values = np.union1d(ours, lingvos)
    table = np.stack(
        [(sample[:, None] == values).sum(0) for sample in (ours, lingvos)]
    )
    rare = table.sum(axis=0) < 10
    pooled = np.concatenate(
        [table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1
    )
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    # The same draw passes for 999 seeds in 1000.
    assert stats.chi2_contingency(pooled).pvalue > 1e-3


@needs_lingvo
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"freq_mask_max_bins": 30, "freq_mask_count": 1},
        {"time_mask_count": 3, "time_mask_max_ratio": 0.1},
        {"time_mask_max_frames": 60, "time_mask_max_ratio": 0.5},
    ],
)
def test_mask_statistics_are_lingvos(settings):
    ours, lingvos = both(ones(EXAMPLES, 40, 20), **settings)
    for axis in (1, 2):
        counts = [
            (outputs == 0).all(axis=axis).sum(axis=1)
            for outputs in (ours, lingvos)
        ]
        assert_same_distribution(*counts)


@needs_lingvo
def test_masks_start_where_lingvos_do():
    settings = {**OFF, "freq_mask_count": 1, "time_mask_count": 1}
    ours, lingvos = both(ones(EXAMPLES, 20, 15), **settings)
    for axis in (1, 2):
        starts = [
            np.argmax((outputs == 0).all(axis=axis), axis=1)
            for outputs in (ours, lingvos)
        ]
        assert_same_distribution(*starts)


@needs_lingvo
@pytest.mark.parametrize(
    "settings",
    [
        {"time_warp_max_frames": 8},
        {"time_warp_max_frames": 3},
        {"time_warp_max_frames": 8, "time_warp_max_ratio": 0.1},
    ],
)
def test_ramps_are_displaced_as_lingvos_are(settings):
    ours, lingvos = both(ramp(EXAMPLES, 40, 1), **{**OFF, **settings})
    for frame in (1, 10, 20, 39):
        moved = [outputs[:, frame, 0] - frame for outputs in (ours, lingvos)]
        assert stats.ks_2samp(*moved).pvalue > 1e-3
    largest = [
        np.abs(outputs[:, :39, 0] - np.arange(1, 40)).max(axis=1).round(3)
        for outputs in (ours, lingvos)
    ]
    assert_same_distribution(*largest)


@needs_lingvo
def test_warp_of_both_comes_from_the_same_set_of_maps():
    """Anchors are integers, so a short input has few possible warps."""
    ours, lingvos = (
        {tuple(row) for row in outputs[..., 0].round(3)}
        for outputs in both(
            ramp(EXAMPLES, 6, 1), **{**OFF, "time_warp_max_frames": 2}
        )
    )
    # Origins 1 to 4 have 2, 3, 4 and 3 destinations in [1, 5] other than
    # themselves; the identity makes 13.
    assert len(ours) == len(lingvos) == 13
    np.testing.assert_allclose(sorted(ours), sorted(lingvos), atol=2e-3)


@needs_lingvo
def test_lengths_limit_both_alike():
    lengths = np.tile([2, 5, 12, 20], EXAMPLES // 4)
    mask = np.arange(20) < lengths[:, None]
    inputs = ramp(EXAMPLES, 20, 4)
    settings = {"freq_mask_count": 0, "time_mask_max_frames": 6}
    ours, lingvos = both(inputs, mask, **settings)
    for outputs in (ours, lingvos):
        np.testing.assert_allclose(outputs[~mask], inputs[~mask], rtol=1e-5)
    for length in (2, 5, 12, 20):
        assert_same_distribution(
            *(
                (outputs[lengths == length] == 0).all(axis=2).sum(axis=1)
                for outputs in (ours, lingvos)
            )
        )


@needs_lingvo
@pytest.mark.parametrize(
    "settings",
    [
        OFF,
        {
            "freq_mask_max_bins": 0,
            "time_mask_max_frames": 0,
            "time_warp_max_ratio": 0.0,
        },
    ],
)
def test_switched_off_both_leave_the_inputs_alone(settings):
    inputs = ramp(4, 20)
    for outputs in both(inputs, **settings):
        np.testing.assert_array_equal(outputs, inputs)


@needs_lingvo
def test_inference_leaves_inputs_alone():
    inputs = ramp(4, 20)
    outputs = LingvoSpecAugment()(inputs, training=False)
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), inputs)


@needs_lingvo
def test_every_step_draws_anew():
    layer = LingvoSpecAugment(seed=1)
    inputs = ramp(8, 50, 20)
    assert (run(layer, inputs) != run(layer, inputs)).any(axis=(1, 2)).all()


@needs_lingvo
def test_seed_reproduces_the_sequence_of_draws():
    inputs = ramp(4, 30, 10)
    layers = [LingvoSpecAugment(seed=seed) for seed in (5, 5, 6)]
    for _ in range(3):
        first, same, other = (run(layer, inputs) for layer in layers)
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()


@needs_lingvo
def test_time_and_frequency_masks_are_independent():
    outputs = run(LingvoSpecAugment(seed=1), ones(2000, 60, 60))
    frames = (outputs == 0).all(axis=2).sum(axis=1)
    bins = (outputs == 0).all(axis=1).sum(axis=1)
    assert stats.pearsonr(frames, bins).pvalue > 1e-3


@needs_lingvo
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_inputs_stay_finite(frames):
    inputs = ramp(64, frames, 4)
    warped = run(
        LingvoSpecAugment(**{**OFF, "time_warp_max_frames": 8}), inputs
    )
    assert ((warped >= 1 - 1e-5) & (warped <= frames + 1e-5)).all()
    assert np.isfinite(run(LingvoSpecAugment(), inputs)).all()


@needs_lingvo
def test_channels_share_warp_and_masks():
    inputs = ramp(6, 30, 20)[..., None] * np.float32([1.0, 2.0])
    outputs = run(LingvoSpecAugment(seed=1), inputs)
    np.testing.assert_allclose(
        outputs[..., 1], 2 * outputs[..., 0], rtol=1e-6, atol=0
    )


@needs_lingvo
@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_batch_and_time_train_in_fit(jit_compile):
    inputs = keras.Input((None, 6))
    outputs = keras.layers.GlobalAveragePooling1D()(
        keras.layers.Dense(3)(LingvoSpecAugment(seed=1)(inputs))
    )
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    for frames in (1, 25):
        history = model.fit(
            ramp(6, frames, 6), np.ones((6, 3)), batch_size=4, verbose=0
        )
        assert np.isfinite(history.history["loss"][0])


@needs_lingvo
def test_mixed_precision_keeps_the_dtype():
    layer = LingvoSpecAugment(seed=1, dtype="mixed_bfloat16")
    outputs = layer(ramp(4, 30, 8), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"


@needs_lingvo
def test_model_with_the_layer_survives_save_and_load(tmp_path):
    layer = LingvoSpecAugment(time_mask_count=3, seed=7, name="augment")
    model = keras.Sequential([keras.Input((None, 6)), layer])
    inputs = ramp(4, 20, 6)
    expected = run(model, inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is LingvoSpecAugment
    assert loaded.layers[0].get_config() == layer.get_config()
    np.testing.assert_array_equal(run(loaded, inputs), expected)


@needs_lingvo
def test_no_stand_in_for_lingvos_op_library_is_left_behind():
    LingvoSpecAugment()
    module = sys.modules.get("lingvo.core.ops.gen_x_ops")
    assert module is None or module.__file__


@needs_tensorflow
def test_missing_lingvo_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lingvo", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[lingvo\]'"):
        LingvoSpecAugment()


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="for the other backends"
)
def test_other_backend_is_an_error_that_names_it():
    backend = keras.backend.backend()
    with pytest.raises(RuntimeError, match=f"Received: .*{backend!r}"):
        LingvoSpecAugment()


def test_impossible_argument_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="`freq_mask_count` must be"):
        LingvoSpecAugment(freq_mask_count=-1)
