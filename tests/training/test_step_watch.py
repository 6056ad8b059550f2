"""Steps that a frontend computes outside its plan are counted and told."""

import keras
import numpy as np
import pytest
from keras import ops
from tones import LEAF
from training_runs import rows, train_with

from leaf_audio import callbacks, frontend
from leaf_audio.training import (
    ReduceOnPlateau,
    fitting,
    schedules,
    step_watch,
)
from leaf_audio.training.progress import Progress

pytestmark = pytest.mark.usefixtures("fresh_gin")

EPOCHS, STEPS = 3, 2


def classifier(leaf):
    """Returns a compiled model that learns nothing, four clips and labels."""
    model = keras.Sequential(
        [
            keras.Input((400,)),
            leaf,
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x = np.random.default_rng(0).standard_normal((4, 400), np.float32)
    return model, x, np.array([0, 1, 0, 1])


@pytest.mark.compiled
@pytest.mark.parametrize("learn_filters", [True, False])
def test_steps_outside_the_plan_are_counted_on_every_backend(learn_filters):
    """In the second of three epochs, the filters are elsewhere."""
    leaf = frontend.Leaf(
        n_filters=2,
        sample_rate=4000,
        compression_fn=None,
        learn_filters=learn_filters,
    )
    model, x, y = classifier(leaf)
    kernel = leaf.filter_layer().kernel
    inside = ops.convert_to_numpy(kernel)
    # A standard deviation, in samples.
    elsewhere = inside * np.array([1, 1.5], "float32")
    counted = []

    class Move(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kernel.assign(elsewhere if epoch == 1 else inside)

    class Read(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counted.append((counter.slow, counter.steps))
            assert step_watch.OUTSIDE_PLAN not in logs
            assert np.isfinite(logs["loss"])

    counter = fitting.CountSlowSteps()
    with step_watch.watched_steps(model):
        model.fit(
            *(x, y),
            batch_size=len(x) // STEPS,
            epochs=EPOCHS,
            callbacks=[counter, Move(), Read()],
            verbose=0,
        )
    # PyTorch computes eagerly, and an eager call plans anew.
    slow = 0 if keras.backend.backend() == "torch" else STEPS
    assert counted == [(0, STEPS), (slow, STEPS), (0, STEPS)]


@pytest.mark.compiled
def test_a_new_plan_is_used_from_the_next_step_on():
    """The filters move before the second of three epochs, to stay there."""
    leaf = frontend.Leaf(n_filters=2, sample_rate=4000, compression_fn=None)
    model, x, y = classifier(leaf)
    kernel = leaf.filter_layer().kernel
    elsewhere = ops.convert_to_numpy(kernel) * np.array([1, 1.5], "float32")
    slow = []

    class Move(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                kernel.assign(elsewhere)

    class Read(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            slow.append(counter.slow)

    counter = fitting.CountSlowSteps()
    with step_watch.watched_steps(model):
        model.fit(
            *(x, y),
            batch_size=len(x) // STEPS,
            epochs=EPOCHS,
            callbacks=[counter, callbacks.Replan(), Move(), Read()],
            verbose=0,
        )
    # PyTorch computes eagerly, and an eager call plans anew.
    is_eager = keras.backend.backend() == "torch"
    assert slow == [0, 0 if is_eager else STEPS, 0]


@pytest.mark.compiled
def test_a_step_is_compiled_for_the_rate_after_a_plateau():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plateau = ReduceOnPlateau(factor=0.5, patience=1, min_learning_rate=0.3)
    rate = schedules.create(plateau, 1.0, 0, 10)
    model.compile(
        keras.optimizers.SGD(rate),
        "mse",
        jit_compile=keras.backend.backend() == "jax",
    )
    progress, told = Progress({}), []

    class Recorded(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.append(model.get_weights()[1].item())
            progress.history.append({"val_loss": 1.0})

    lower = fitting.LowerRate(plateau, rate, 1.0, progress, told.append)
    weights = [0.0]
    # The gradient of the bias is 2 * bias + 2 for inputs of 0.
    with step_watch.watched_steps(model):
        model.fit(
            np.zeros((1, 1)),
            -np.ones((1, 1)),
            epochs=9,
            verbose=0,
            callbacks=[Recorded(), lower],
        )
    steps = np.diff(weights) / (-2 * np.array(weights[:-1]) - 2)
    np.testing.assert_allclose(steps, [1, 1, 0.5], rtol=1e-5)


def test_a_frontend_without_a_plan_has_never_left_it():
    exact = frontend.Leaf(n_filters=2, tolerance=0)
    exact.build((None, 400))
    assert not ops.convert_to_numpy(exact.has_left_plan())
    assert step_watch.exact_outside_plan(exact) == []


@pytest.mark.parametrize("outside, told", [(0.0, False), (1.0, True)])
def test_a_run_tells_slow_steps(
    folder, tmp_path, monkeypatch, capsys, outside, told
):
    monkeypatch.setattr(step_watch, "_is_outside", lambda *unused: outside)
    train_with(
        *(folder, tmp_path / "run", "train.num_epochs = 1"), frontend=LEAF
    )
    (row,) = rows(tmp_path / "run")
    # 21 clips in batches of 6.
    assert float(row["slow_steps"]) == 4 * outside
    assert ("4 of 4 steps were slow" in capsys.readouterr().out) == told


def test_a_run_without_a_plan_has_no_such_column(folder, tmp_path):
    train_with(folder, tmp_path / "run", "train.num_epochs = 1")
    (row,) = rows(tmp_path / "run")
    assert "slow_steps" not in row
