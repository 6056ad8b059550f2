"""SpecAugment against the original's numbers, and as a Keras layer."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats
from spectrograms import OFF, ones, ramp, run

from leaf_audio.postprocessing import SpecAugment
from leaf_audio.postprocessing import spec_augment as augmentation


def masked_bins(outputs: np.ndarray) -> np.ndarray:
    return (outputs == 0).all(axis=1).sum(axis=1)


def masked_frames(outputs: np.ndarray) -> np.ndarray:
    return (outputs == 0).all(axis=2).sum(axis=1)


def interpolation_matrix(positions) -> np.ndarray:
    """Weights of linear interpolation, `(batch, outputs, inputs)`."""
    positions = ops.convert_to_numpy(positions)
    frames = np.arange(positions.shape[1])
    return np.maximum(1 - np.abs(positions[..., None] - frames), 0)


@pytest.mark.parametrize("name", ["warp0", "warp1"])
def test_warp_positions_are_the_originals(golden, name):
    arrays = golden("specaugment")
    expected = arrays[f"{name}/matrix"]
    positions = augmentation.time_warp_positions(
        arrays[f"{name}/origin"],
        arrays[f"{name}/destination"],
        arrays[f"{name}/length"],
        expected.shape[1],
    )
    # The original's float32 positions near 100 carry an error of 1e-5.
    np.testing.assert_allclose(
        interpolation_matrix(positions), expected, rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("name", ["warp0", "warp1"])
def test_resampling_is_the_originals_matrix_product(golden, name):
    arrays = golden("specaugment")
    matrix = arrays[f"{name}/matrix"]
    inputs = np.random.default_rng(0).normal(size=matrix.shape[:2] + (7,))
    positions = augmentation.time_warp_positions(
        arrays[f"{name}/origin"],
        arrays[f"{name}/destination"],
        arrays[f"{name}/length"],
        matrix.shape[1],
    )
    outputs = augmentation.resample(
        ops.convert_to_tensor(inputs, "float32"), positions
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), matrix @ inputs, rtol=0, atol=1e-4
    )


def test_resampling_interpolates_for_every_anchor():
    length = 9
    origin, destination = np.meshgrid(
        np.arange(1.0, length), np.arange(-3.0, length + 4)
    )
    origin, destination = origin.ravel(), destination.ravel()
    lengths = np.full_like(origin, length)
    inputs = np.random.default_rng(0).normal(size=(origin.size, 12, 2))
    inputs = inputs.astype("float32")
    positions = augmentation.time_warp_positions(
        origin, destination, lengths, 12
    )
    outputs = ops.convert_to_numpy(augmentation.resample(inputs, positions))
    np.testing.assert_allclose(
        outputs, interpolation_matrix(positions) @ inputs, rtol=0, atol=1e-5
    )


def test_warp_moves_the_anchor_and_fixes_both_ends_and_the_padding():
    positions = ops.convert_to_numpy(
        augmentation.time_warp_positions([30.0], [38.0], [90.0], 100)
    )[0]
    assert positions[0] == 0
    assert positions[38] == 30
    np.testing.assert_array_equal(positions[90:], np.arange(90, 100))
    assert (np.diff(positions) > 0).all()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_warp_of_an_example_without_inner_frames_is_the_identity(length):
    origin, destination = augmentation.warp_anchor(
        np.float32([0.0, 0.5, 0.99]),
        np.float32([0.0, 0.5, 0.99]),
        np.full(3, length),
        8,
        1.0,
    )
    positions = ops.convert_to_numpy(
        augmentation.time_warp_positions(
            origin, destination, np.full(3, length), 4
        )
    )
    np.testing.assert_array_equal(positions, np.tile(np.arange(4.0), (3, 1)))


def test_anchor_covers_its_range_evenly():
    draws = np.linspace(0, 1, 1700, endpoint=False, dtype="float32")
    origin, destination = augmentation.warp_anchor(
        np.zeros_like(draws), draws, np.full(1700, 40), 8, 1.0
    )
    shift = ops.convert_to_numpy(destination - origin)
    values, counts = np.unique(shift, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(-8, 9))
    assert np.ptp(counts) <= 1
    origin, _ = augmentation.warp_anchor(
        draws, draws, np.full(1700, 19), 8, 1.0
    )
    values, counts = np.unique(ops.convert_to_numpy(origin), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, 18))
    assert np.ptp(counts) <= 1


def test_warp_ratio_bounds_the_shift():
    draws = np.linspace(0, 1, 100, endpoint=False, dtype="float32")
    origin, destination = augmentation.warp_anchor(
        draws, draws[::-1], np.full(100, 25), 8, 0.1
    )
    shift = ops.convert_to_numpy(destination - origin)
    assert set(shift) == {-2.0, -1.0, 0.0, 1.0, 2.0}


def test_spans_are_the_definition_worked_out_in_numpy():
    rng = np.random.default_rng(0)
    sizes, starts = rng.uniform(size=(2, 500, 3)).astype("float32")
    lengths = rng.integers(0, 21, size=500)
    marked = ops.convert_to_numpy(
        augmentation.spans(sizes, starts, lengths, 12, 0.5, 20)
    )
    expected = np.zeros((500, 20), bool)
    for example in range(500):
        length = int(lengths[example])
        for u, v in zip(sizes[example], starts[example], strict=True):
            size = min(int(u * 12), max(length // 2, 1), length)
            start = int(v * np.float32(length - size + 1))
            expected[example, start : start + size] = True
    np.testing.assert_array_equal(marked, expected)


@pytest.mark.parametrize(
    "part,count",
    [
        ("masked_freq_bins_per_example", masked_bins),
        ("masked_time_frames_per_example", masked_frames),
    ],
)
def test_mask_statistics_are_the_originals(golden, part, count):
    arrays = golden("specaugment")
    expected = arrays[f"mask_stats/{part}/hist"] * 4096
    counts = count(run(SpecAugment(seed=1), ones(4096, 100, 40)))
    observed = np.bincount(counts, minlength=expected.size)
    # Sizes run from 0 to 9, so two masks cover 18 at the most.
    assert observed[19:].sum() == expected[19:].sum() == 0
    # Both are samples of 4096; the right draw passes for 999 seeds in 1000.
    test = stats.chi2_contingency([observed[:19], expected[:19]])
    assert test.pvalue > 1e-3


def test_mask_statistics_test_rejects_a_size_off_by_one(golden):
    arrays = golden("specaugment")
    expected = arrays["mask_stats/masked_freq_bins_per_example/hist"] * 4096
    layer = SpecAugment(freq_mask_max_bins=11, seed=1)
    observed = np.bincount(masked_bins(run(layer, ones(4096, 100, 40))))[:19]
    assert stats.chi2_contingency([observed, expected[:19]]).pvalue < 1e-6


def test_masks_lie_everywhere_alike():
    layer = SpecAugment(
        **{**OFF, "time_mask_count": 1}, time_mask_max_frames=2, seed=1
    )
    # Half the masks are empty, half are one frame at a uniform place.
    outputs = run(layer, ones(4000, 10, 2))
    starts = np.argmax((outputs == 0).all(axis=2), axis=1)
    starts = starts[masked_frames(outputs) == 1]
    assert stats.binomtest(starts.size, 4000, 0.5).pvalue > 1e-3
    assert stats.chisquare(np.bincount(starts, minlength=10)).pvalue > 1e-3


def test_time_and_frequency_masks_are_independent():
    outputs = run(SpecAugment(seed=1), ones(2000, 60, 60))
    correlation = stats.pearsonr(masked_bins(outputs), masked_frames(outputs))
    assert correlation.pvalue > 1e-3


def test_inference_leaves_inputs_alone():
    inputs = ramp(4, 20)
    outputs = SpecAugment(seed=1)(inputs, training=False)
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), inputs)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(SpecAugment(seed=1)(inputs)), inputs
    )


def test_every_step_draws_anew():
    layer = SpecAugment(seed=1)
    inputs = ramp(8, 50, 20)
    first, second = run(layer, inputs), run(layer, inputs)
    assert (first != second).any(axis=(1, 2)).all()


def test_every_example_gets_its_own_draw():
    outputs = run(SpecAugment(seed=1), ramp(8, 50, 20))
    for example in range(1, 8):
        assert (outputs[0] != outputs[example]).any()


def test_seed_reproduces_the_sequence_of_draws():
    inputs = ramp(4, 30, 10)
    layers = SpecAugment(seed=5), SpecAugment(seed=5), SpecAugment(seed=6)
    for _ in range(3):
        first, same, other = (run(layer, inputs) for layer in layers)
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()


def test_without_a_seed_two_layers_draw_differently():
    inputs = ramp(4, 30, 10)
    assert (run(SpecAugment(), inputs) != run(SpecAugment(), inputs)).any()


@pytest.mark.parametrize(
    "settings",
    [
        OFF,
        {
            "freq_mask_max_bins": 0,
            "time_mask_max_frames": 0,
            "time_warp_max_ratio": 0.0,
        },
        {**OFF, "time_mask_count": 1, "time_mask_max_ratio": 0.0},
    ],
)
def test_parts_switched_off_return_the_inputs_untouched(settings):
    layer = SpecAugment(**settings)
    inputs = ops.convert_to_tensor(ramp(2, 20))
    assert layer(inputs, training=True) is inputs


@pytest.mark.parametrize(
    "part", ["freq_mask_count", "time_mask_count", "time_warp_max_frames"]
)
def test_each_part_works_alone(part):
    layer = SpecAugment(**{**OFF, part: 2}, seed=1)
    inputs = ramp(64, 30, 30)
    outputs = run(layer, inputs)
    assert (masked_bins(outputs) > 0).any() == (part == "freq_mask_count")
    assert (masked_frames(outputs) > 0).any() == (part == "time_mask_count")
    kept = outputs != 0
    moved = (outputs[kept] != inputs[kept]).any()
    assert moved == (part == "time_warp_max_frames")


def test_time_mask_ratio_bounds_each_mask():
    layer = SpecAugment(
        **{**OFF, "time_mask_count": 1}, time_mask_max_ratio=0.1, seed=1
    )
    counts = masked_frames(run(layer, ones(500, 30, 2)))
    assert counts.max() == 3


def test_channels_share_warp_and_masks():
    inputs = ramp(6, 30, 20)[..., None] * np.float32([1.0, 2.0])
    outputs = run(SpecAugment(seed=1), inputs)
    np.testing.assert_allclose(
        outputs[..., 1], 2 * outputs[..., 0], rtol=1e-6, atol=0
    )
    np.testing.assert_array_equal(
        outputs[..., 0], run(SpecAugment(seed=1), inputs[..., 0])
    )


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("bins", [1, 4])
def test_short_inputs_stay_finite(frames, bins):
    inputs = ramp(64, frames, bins)
    outputs = run(SpecAugment(seed=1), inputs)
    assert (outputs == 0).any()
    # Up to three frames leave the warp too little room for more than a cell's
    # neighbour: whatever is not masked lies within the input's range.
    kept = outputs[outputs != 0]
    assert ((kept >= 1) & (kept <= frames)).all()
    warped = run(SpecAugment(**{**OFF, "time_warp_max_frames": 8}), inputs)
    assert ((warped >= 1 - 1e-6) & (warped <= frames)).all()


def test_masked_cells_are_zero_whatever_they_held():
    inputs = np.full((16, 30, 20), np.nan, "float32")
    outputs = run(SpecAugment(time_warp_max_frames=0, seed=1), inputs)
    assert (outputs == 0).any()


def test_padding_is_left_alone_and_spans_keep_to_the_valid_frames():
    lengths = np.array([0, 1, 2, 5, 12, 20] * 50)
    mask = np.arange(20) < lengths[:, None]
    inputs = ramp(len(lengths), 20, 4)
    layer = SpecAugment(freq_mask_count=0, time_mask_max_frames=6, seed=1)
    outputs = run(layer, inputs, mask=mask)
    np.testing.assert_array_equal(outputs[~mask], inputs[~mask])
    counts = masked_frames(outputs)
    for length in (1, 2, 5, 12, 20):
        assert counts[lengths == length].max() > 0
    assert (outputs[lengths == 12] != inputs[lengths == 12]).any()


class MaskSpy(keras.layers.Layer):
    """Remembers the mask that came with its input."""

    def call(self, inputs, mask=None):
        self.seen = ops.convert_to_numpy(mask)
        return inputs

    def compute_mask(self, inputs, previous_mask):
        return None


def test_a_keras_mask_reaches_the_layer_and_goes_on():
    inputs = np.zeros((32, 20, 3), "float32")
    inputs[:, :8] = 1
    layer = SpecAugment(
        **{**OFF, "time_mask_count": 1}, time_mask_max_frames=9, seed=1
    )
    spy = MaskSpy()
    outputs = spy(layer(keras.layers.Masking()(inputs), training=True))
    np.testing.assert_array_equal(spy.seen, inputs.any(axis=-1))
    # Spans of 0 to 8 frames, all within the first 8: half of these on average.
    # Among 20 frames, most of a span would lie behind them.
    kept = ops.convert_to_numpy(outputs)[:, :8].any(axis=-1).sum(axis=1)
    assert 3 < kept.mean() < 5


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_dtype_and_draws(dtype):
    inputs = ramp(8, 50, 20)
    reference = run(SpecAugment(seed=1), inputs)
    layer = SpecAugment(seed=1, dtype=dtype)
    outputs = layer(inputs, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype[6:]
    values = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    np.testing.assert_array_equal(values == 0, reference == 0)
    np.testing.assert_allclose(values, reference, rtol=1e-2, atol=1e-2)


def test_gradient_is_the_transposed_warp_and_zero_under_masks():
    """Sum of squares has gradient 2x; fed back through the layer."""
    dense = keras.layers.Dense(4, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential(
        [keras.Input((None, 4)), dense, SpecAugment(seed=1)]
    )
    model.compile(keras.optimizers.SGD(1.0), "mean_squared_error")
    inputs = ramp(8, 30, 4)
    before = dense.get_weights()[0]
    reference = run(SpecAugment(seed=1), inputs @ before)
    # The same draw applied to one input channel at a time gives d out / d w.
    gradient = np.stack(
        [
            (
                2
                * reference
                * run(
                    SpecAugment(seed=1), np.repeat(inputs[..., [i]], 4, axis=-1)
                )
            ).mean(axis=(0, 1))
            / 4
            for i in range(4)
        ]
    )
    model.train_on_batch(inputs, np.zeros((8, 30, 4), "float32"))
    step = before - dense.get_weights()[0]
    np.testing.assert_allclose(step, gradient, rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.slow_on_jax
@pytest.mark.slow
def test_unknown_batch_and_time_train_in_fit(jit_compile):
    inputs = keras.Input((None, 6))
    outputs = keras.layers.GlobalAveragePooling1D()(
        keras.layers.Dense(3)(SpecAugment(seed=1)(inputs))
    )
    model = keras.Model(inputs, outputs)
    if keras.backend.backend() == "torch":
        # torch.compile needs a C++ compiler, which a user may not have.
        jit_compile = False
    model.compile("sgd", "mse", jit_compile=jit_compile)
    for frames in (1, 25):
        history = model.fit(
            ramp(6, frames, 6), np.ones((6, 3)), batch_size=4, verbose=0
        )
        assert np.isfinite(history.history["loss"][0])


def test_model_with_the_layer_survives_save_and_load(tmp_path):
    layer = SpecAugment(
        freq_mask_max_bins=3,
        freq_mask_count=1,
        time_mask_max_frames=4,
        time_mask_count=3,
        time_mask_max_ratio=0.5,
        time_warp_max_frames=2,
        time_warp_max_ratio=0.25,
        seed=7,
        name="augment",
    )
    model = keras.Sequential([keras.Input((None, 6)), layer])
    inputs = ramp(4, 20, 6)
    expected = run(model, inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config() == layer.get_config()
    # Keras saves no seed states: a loaded layer starts its sequence again.
    np.testing.assert_array_equal(run(loaded, inputs), expected)


def test_config_names_every_argument():
    layer = SpecAugment()
    assert set(layer.get_config()) == {
        "name",
        "trainable",
        "dtype",
        "freq_mask_max_bins",
        "freq_mask_count",
        "time_mask_max_frames",
        "time_mask_count",
        "time_mask_max_ratio",
        "time_warp_max_frames",
        "time_warp_max_ratio",
        "seed",
    }
    assert (
        SpecAugment.from_config(layer.get_config()).get_config()
        == layer.get_config()
    )


@pytest.mark.parametrize("value", [-1, 2.5, True, "3", None])
@pytest.mark.parametrize(
    "argument",
    [
        "freq_mask_max_bins",
        "freq_mask_count",
        "time_mask_max_frames",
        "time_mask_count",
        "time_warp_max_frames",
    ],
)
def test_impossible_count_is_an_error(argument, value):
    message = f"`{argument}` must be .* Received: {argument}={value!r}"
    with pytest.raises(ValueError, match=message):
        SpecAugment(**{argument: value})


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), True, "1", None])
@pytest.mark.parametrize(
    "argument", ["time_mask_max_ratio", "time_warp_max_ratio"]
)
def test_impossible_ratio_is_an_error(argument, value):
    message = f"`{argument}` must be .* Received: {argument}={value!r}"
    with pytest.raises(ValueError, match=message):
        SpecAugment(**{argument: value})


def test_impossible_seed_is_an_error():
    with pytest.raises(ValueError, match="`seed` must be .* seed='a'"):
        SpecAugment(seed="a")


@pytest.mark.parametrize("shape", [(4, 20), (1, 2, 3, 4, 5)])
def test_wrong_rank_is_an_error(shape):
    with pytest.raises(ValueError, match="takes inputs of shape"):
        SpecAugment()(ones(*shape))


def test_integer_input_is_an_error():
    with pytest.raises(ValueError, match="inputs.dtype=int32"):
        SpecAugment()(np.ones((2, 20, 4), "int32"), training=True)
