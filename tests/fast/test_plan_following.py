"""When plans hold, when they are made anew, and how they are kept in files."""

import keras
import numpy as np
import pytest
from keras import ops
from leaf_pairs import kernels, leaf_and_exact, log_error, noise

from leaf_audio import callbacks, fast, frontend
from leaf_audio.common.serialization import load_model
from leaf_audio.fast import filterbank


def test_filters_that_have_left_the_plan_are_computed_exactly():
    """Compiled before they moved; the graph itself must take the other way."""
    leaf, exact = leaf_and_exact()
    model = keras.Sequential([keras.Input((None,)), leaf])
    x = noise(2, 4000)
    model.predict(x, verbose=0)
    for scale in (0.5, 1.4):
        for part in (leaf, exact):
            kernel, _ = kernels(part)
            kernel.assign(kernel * np.array([[1.0, scale]], "float32"))
        error = log_error(model.predict(x, verbose=0), exact(x))
        # PyTorch does not compile, and plans anew.
        planned = keras.backend.backend() == "torch"
        assert error < (3e-3 if planned else 1e-5)


@pytest.mark.slow_on_jax
def test_a_called_frontend_plans_for_its_filters_of_now():
    leaf, exact = leaf_and_exact(n_filters=12)
    x = noise(2, 4000)
    leaf(x)
    for part in (leaf, exact):
        kernel, pooling = kernels(part)
        kernel.assign(kernel * np.array([[1.0, 0.5]], "float32"))
        pooling.assign(pooling * 0.8)
    before = leaf.planned_for
    assert 0 < log_error(leaf(x), exact(x)) < 3e-3
    np.testing.assert_allclose(
        leaf.planned_for / before, [[0.5, 0.8, 1.0]] * 12, rtol=0.05
    )


def test_replan_plans_when_there_is_need():
    leaf, _ = leaf_and_exact()
    assert not leaf.replan(if_needed=True)
    kernel, _ = kernels(leaf)
    kernel.assign(kernel * np.array([[1.0, 1.01]], "float32"))
    assert not leaf.replan(if_needed=True)
    kernel.assign(kernel * np.array([[1.0, 0.9]], "float32"))
    assert leaf.replan(if_needed=True)
    assert leaf.replan()


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("width", [0.55, 1.2])
def test_pooling_widths_have_room(width):
    leaf, exact = leaf_and_exact()
    model = keras.Sequential([keras.Input((None,)), leaf])
    x = noise(2, 4000)
    model.predict(x, verbose=0)
    before = leaf.planned_for
    for part in (leaf, exact):
        kernel, pooling = kernels(part)
        kernel.assign(kernel * np.array([[1.0, 1.02]], "float32"))
        pooling.assign(pooling * width)
    # By plan, neither exactly nor less exactly than promised.
    assert 1e-6 < log_error(model.predict(x, verbose=0), exact(x)) < 3e-3
    assert not leaf.replan(if_needed=True)
    np.testing.assert_array_equal(leaf.planned_for, before)


@pytest.mark.slow_on_jax
def test_centre_frequencies_have_room_where_they_matter():
    """A filter that has left the bins planned for is computed exactly."""
    if keras.backend.backend() == "torch":
        pytest.skip("it does not compile, and plans anew at each step")
    leaf, exact = leaf_and_exact(n_filters=64, sample_rate=8000)
    model = keras.Sequential([keras.Input((None,)), leaf])
    x = noise(2, 4000)
    model.predict(x, verbose=0)

    def move(hz):
        for part in (leaf, exact):
            kernel, _ = kernels(part)
            by = [[2 * np.pi * hz / 8000, 0.0]]
            kernel.assign(kernel + np.array(by, "float32"))

    # They may move by 239 Hz.
    move(200)
    assert 1e-6 < log_error(model.predict(x, verbose=0), exact(x)) < 3e-3
    assert not leaf.replan(if_needed=True)
    move(50)
    assert log_error(model.predict(x, verbose=0), exact(x)) < 1e-6
    assert leaf.replan(if_needed=True)


def test_centre_frequencies_do_not_matter_without_spectra():
    leaf, _ = leaf_and_exact(n_filters=8)
    groups = leaf.plan.groups
    assert not any(isinstance(g, fast.SpectralGroup) for g in groups)
    kernel, _ = kernels(leaf)
    kernel.assign(kernel + np.array([[0.2, 0.0]], "float32"))
    assert not leaf.replan(if_needed=True)


def test_weights_that_are_not_finite_need_no_plan():
    leaf, _ = leaf_and_exact()
    kernel, _ = kernels(leaf)
    kernel.assign(np.full((40, 2), np.nan, "float32"))
    assert np.isnan(ops.convert_to_numpy(leaf(noise(1, 1000)))).any()


@pytest.mark.slow
def test_xla_trains_on_batches_of_unknown_sizes():
    """Within the plan, and outside of it."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other backends' shapes are known when they compile")
    import tensorflow as tf

    batches = [(noise(2, 800), [[1.0]] * 2), (noise(1, 640), [[0.0]])]

    def train(jit_compile):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((None,)),
                frontend.Leaf(n_filters=4),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1),
            ]
        )
        sgd = keras.optimizers.SGD(0.1)
        model.compile(sgd, "mse", jit_compile=jit_compile)
        data = tf.data.Dataset.from_generator(
            lambda: iter(batches),
            output_signature=(
                tf.TensorSpec((None, None)),
                tf.TensorSpec((None, 1)),
            ),
        ).apply(tf.data.experimental.assert_cardinality(2))
        model.fit(data, shuffle=False, verbose=0)
        within = model.get_weights()
        # What is compiled keeps its plan.
        kernel, _ = kernels(model.layers[0])
        kernel.assign(kernel * [1.0, 1.5])
        model.fit(data, shuffle=False, verbose=0)
        return within + model.get_weights()

    for one, other in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow_on_jax
def test_training_replans_between_epochs():
    leaf = frontend.Leaf(n_filters=2)
    model = keras.Sequential(
        [leaf, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    # So fast that filters leave the plan at once.
    model.compile(keras.optimizers.Adam(0.5), "mse", jit_compile=False)
    x, y = noise(4, 1600), np.arange(4.0)[:, None]
    model(x)
    before = leaf.planned_for
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callbacks.Replan()])
    kernel, _ = kernels(leaf)
    assert (leaf.planned_for != before).any()
    sigma = ops.convert_to_numpy(kernel)[:, 1]
    np.testing.assert_allclose(leaf.planned_for[:, 0], sigma, rtol=0.03)


@pytest.mark.parametrize("check_freq,replanned", [(2, True), (5, False)])
def test_training_replans_within_a_long_epoch(check_freq, replanned):
    leaf = frontend.Leaf(n_filters=2)
    # Whatever it computes by is no reason to plan within an epoch.
    efficient = frontend.EfficientLeaf(n_filters=2, num_groups=1)
    x = keras.Input((1600,))
    model = keras.Model(x, [efficient(x), leaf(x)])
    model.compile("sgd", "mse")
    replan = callbacks.Replan(check_freq=check_freq)
    replan.set_model(model)
    replan.on_train_begin()
    before, efficient_before = leaf.planned_for, efficient.planned_for
    replan.on_epoch_begin(0)
    for part in (leaf, efficient):
        kernel = next(w for w in part.weights if "complex_conv" in w.path)
        kernel.assign(kernel * [1.0, 0.5])
    changed = []
    for step in range(4):
        replan.on_train_batch_begin(step)
        changed.append((leaf.planned_for != before).any())
    assert changed == [False, False, replanned, replanned]
    np.testing.assert_array_equal(efficient.planned_for, efficient_before)
    # The next step is compiled for the new plan.
    assert (model.train_function is not None) == replanned


@pytest.mark.parametrize(
    "before, first", [(0, 20), (1, 20), (27, 40), (40, 40), (41, 60)]
)
def test_plans_are_made_at_the_same_steps_after_an_interruption(
    monkeypatch, before, first
):
    replan = callbacks.Replan(check_freq=20, steps_before=before)
    replan.set_model(keras.Sequential([frontend.MelFilterbanks()]))
    step, looked_at = None, []
    monkeypatch.setattr(replan, "_replan", lambda _: looked_at.append(step))
    replan.on_train_begin()
    replan.on_epoch_begin(0)
    for step in range(before, 70):
        replan.on_train_batch_begin(step - before)
    at_beginning = [] if before else [None]
    assert looked_at == [*at_beginning, *range(first, 70, 20)]
    # In the next epoch, also where another `fit` trains it.
    for is_new in (False, True):
        if is_new:
            replan.on_train_begin()
        looked_at.clear()
        replan.on_epoch_begin(1)
        for step in range(50):
            replan.on_train_batch_begin(step)
        assert looked_at == [20, 40]


def test_how_often_a_plan_is_looked_at_must_be_a_number_of_steps():
    with pytest.raises(ValueError, match="`check_freq` must be a positive int"):
        callbacks.Replan(check_freq=0)
    with pytest.raises(ValueError, match="`steps_before` must be a non-neg"):
        callbacks.Replan(steps_before=-1)


@pytest.mark.slow_on_jax
@pytest.mark.slow
def test_a_model_that_fit_builds_is_computed_by_plan():
    """Not exactly, until someone plans: what is compiled is compiled."""
    leaf = frontend.Leaf(n_filters=8)
    model = keras.Sequential([leaf, keras.layers.Flatten()])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(noise(2, 800), np.zeros((2, 40)), verbose=0)
    built = frontend.Leaf(n_filters=8)
    built.build((None, None))
    np.testing.assert_array_equal(leaf.planned_for, built.planned_for)


def test_leafs_are_found_once_wherever_they_are():
    class Outer(keras.layers.Layer):
        def __init__(self, leaf):
            super().__init__()
            self.inner = keras.layers.TimeDistributed(leaf)

    leaf = frontend.Leaf(n_filters=8)
    model = keras.Sequential([Outer(leaf), Outer(leaf)])
    assert not callbacks.built_leafs(model)
    leaf.build((None, 800))
    assert callbacks.built_leafs(model) == [leaf]
    assert callbacks.built_leafs(leaf) == [leaf]


@pytest.mark.slow_on_jax
def test_a_plan_is_saved_with_the_weights(tmp_path):
    leaf, _ = leaf_and_exact()
    kernel, _ = kernels(leaf)
    x = noise(2, 4000)
    # Still within the plan, which a new one for these weights would not be.
    kernel.assign(kernel * np.array([[1.0, 0.985]], "float32"))
    model = keras.Sequential([keras.Input((None,)), leaf])
    expected = ops.convert_to_numpy(model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.layers[0].planned_for, leaf.planned_for
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(x)), expected, rtol=1e-6
    )


@pytest.mark.slow_on_jax
def test_weights_from_a_file_without_a_plan_are_planned_for(tmp_path):
    leaf, exact = leaf_and_exact()
    kernel, _ = kernels(exact)
    kernel.assign(kernel * np.array([[1.0, 0.6]], "float32"))
    exact.save_weights(tmp_path / "exact.weights.h5")
    leaf.load_weights(tmp_path / "exact.weights.h5")
    sigma = ops.convert_to_numpy(kernel)[:, 1]
    if keras.backend.backend() == "jax":
        leaf(noise(1, 1600))
    else:
        keras.Sequential([keras.Input((None,)), leaf]).predict(
            noise(1, 1600), verbose=0
        )
    np.testing.assert_allclose(leaf.planned_for[:, 0], sigma, rtol=0.02)


def test_a_plan_for_other_settings_is_rejected():
    leaf, exact = leaf_and_exact(n_filters=8)
    with pytest.raises(ValueError, match=r"\(8, 3\).*Received: \(40, 3\)"):
        leaf.planned_for = np.ones((40, 3))
    with pytest.raises(ValueError, match="takes no plan"):
        exact.planned_for = np.ones((8, 3))
    with pytest.raises(ValueError, match="positive"):
        leaf.planned_for = np.zeros((8, 3))


def test_a_plan_is_for_finite_parameters_and_for_weights_that_are_there():
    leaf = frontend.Leaf(n_filters=4)
    with pytest.raises(ValueError, match="has no weights to plan for"):
        leaf.planned_for = np.ones((4, 3))
    leaf.build((None, 1600))
    with pytest.raises(ValueError, match="must be for finite parameters"):
        leaf.planned_for = np.full((4, 3), np.nan)


def test_a_plan_of_an_earlier_release_is_made_anew():
    leaf, exact = leaf_and_exact(n_filters=4)
    store = {}
    leaf.save_own_variables(store)
    # It had no centre frequencies.
    store["planned_for"] = store["planned_for"][:, :2] * 0.5
    leaf.load_own_variables(store)
    kernel, _ = kernels(leaf)
    x = noise(1, 1000)
    assert log_error(leaf(x), exact(x)) < 5e-3
    sigma = ops.convert_to_numpy(kernel)[:, 1]
    np.testing.assert_allclose(leaf.planned_for[:, 0], sigma, rtol=0.02)


def test_weights_of_another_window_are_refused(tmp_path):
    saved = frontend.Leaf(n_filters=4)
    saved.build((None, 1600))
    saved.save_weights(tmp_path / "leaf.weights.h5")
    other = frontend.Leaf(n_filters=4, sample_rate=8000)
    other.build((None, 1600))
    with pytest.raises(ValueError, match=r"\[201, 80\].*\[401, 160\]"):
        other.load_weights(tmp_path / "leaf.weights.h5")


def test_a_file_is_loaded_with_one_search_for_a_plan(tmp_path, monkeypatch):
    """That for the weights in it, and none for initial ones before."""
    leaf, _ = leaf_and_exact()
    model = keras.Sequential([keras.Input((None,)), leaf])
    kernel, _ = kernels(leaf)
    kernel.assign(kernel * np.array([[1.0, 0.5]], "float32"))
    x = noise(2, 4000)
    expected = ops.convert_to_numpy(model(x))
    model.save(tmp_path / "model.keras")
    searched = []

    def search(parameters, *arguments):
        searched.append(parameters)
        return fast.make_plan(parameters, *arguments)

    monkeypatch.setattr(filterbank, "make_plan", search)
    loaded = load_model(tmp_path / "model.keras")
    assert len(searched) == 1
    found = ops.convert_to_numpy(loaded(x))
    np.testing.assert_array_equal(found, expected)
    assert len(searched) == 1
