"""Steps that a frontend computes outside its plan are counted and told."""

import keras
import numpy as np
import pytest
from keras import ops
from tones import LEAF
from training_runs import rows, train_with

from leaf_audio import frontend
from leaf_audio.training import fitting, step_watch

pytestmark = pytest.mark.usefixtures("fresh_gin")

EPOCHS, STEPS = 3, 2


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
    x = np.random.default_rng(0).standard_normal((4, 400), np.float32)
    with step_watch.watched_steps(model):
        model.fit(
            *(x, np.array([0, 1, 0, 1])),
            batch_size=4 // STEPS,
            epochs=EPOCHS,
            callbacks=[counter, Move(), Read()],
            verbose=0,
        )
    # PyTorch computes eagerly, and an eager call plans anew.
    slow = 0 if keras.backend.backend() == "torch" else STEPS
    assert counted == [(0, STEPS), (slow, STEPS), (0, STEPS)]


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
