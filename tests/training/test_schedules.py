"""Learning rates that follow validation, and those of Keras."""

import json

import keras
import numpy as np
import pytest
from training_runs import train_with

from leaf_audio.training import (
    ReduceOnPlateau,
    TrainingConfig,
    Workdir,
    fitting,
    schedules,
)
from leaf_audio.training.progress import Progress, check_unfinished

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@pytest.mark.parametrize(
    "losses, scale",
    [
        ([], 1),
        ([3, 2, 2], 1),
        # Equal is not lower.
        ([3, 2, 2, 2], 0.1),
        # It takes as long again for the next plateau.
        ([3, 2, 2, 2, 2], 0.1),
        ([3, 2, 2, 2, 2, 2], 0.01),
        ([3, 2, 2, 1, 2, 2], 0.1),
    ],
)
def test_a_plateau_is_a_number_of_epochs_without_a_lower_loss(losses, scale):
    plateau = ReduceOnPlateau(factor=0.1, patience=2)
    assert plateau.scale(losses) == pytest.approx(scale)


def test_the_floor_may_be_reached_and_not_crossed():
    plateau = ReduceOnPlateau(min_learning_rate=1e-5)
    # A rate that rounding has moved.
    assert not plateau.is_below_floor(np.nextafter(1e-5, 0))
    assert plateau.is_below_floor(0.99e-5)


@pytest.mark.parametrize(
    "name, value",
    [
        *(("factor", 1.0), ("factor", -0.1), ("patience", 0)),
        *(("patience", 1.5), ("min_learning_rate", -1.0)),
    ],
)
def test_a_plateau_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        ReduceOnPlateau(**{name: value})


def test_a_scaled_rate_follows_its_schedule_and_is_saved():
    made = schedules.create(ReduceOnPlateau(), 0.1, 3, 10)
    made.scale = 0.5
    loaded = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(made)
    )
    for rate in (made, loaded):
        found = [float(rate(step)) for step in range(5)]
        np.testing.assert_allclose(
            found, [0.0125, 0.025, 0.0375, 0.05, 0.05], rtol=1e-6
        )
    constant = schedules.create(ReduceOnPlateau(), 0.1, 0, 10)
    assert float(constant(7)) == pytest.approx(0.1)


def test_a_warm_up_does_not_depend_on_the_length_of_a_constant_rate():
    short, long = (
        schedules.create("constant", 1.0, warmup_steps=4, total_steps=total)
        for total in (4, 8)
    )
    rates = [[float(one(step)) for step in range(4)] for one in (short, long)]
    np.testing.assert_allclose(rates[0], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    assert rates[0] == rates[1]


def test_a_run_that_has_ended_at_its_floor_is_not_trained_further(tmp_path):
    results = {"timings": {"epochs": 3}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    config = TrainingConfig(
        tmp_path,
        num_epochs=20,
        learning_rate=1e-3,
        learning_rate_schedule=schedules.ReduceOnPlateau(patience=1),
    )
    folder = Workdir(tmp_path)
    for losses in ([3, 2, 1], [1, 1, 1]):
        progress = Progress({}, [{"val_loss": loss} for loss in losses])
        check_unfinished(folder, progress, config)
    # Three plateaus of a factor of 0.1 are below 1e-5.
    results["timings"]["epochs"] = 4
    (tmp_path / "results.json").write_text(json.dumps(results))
    progress = Progress({}, [{"val_loss": 1.0}] * 4)
    with pytest.raises(ValueError, match="ended at the floor .* epoch 4"):
        check_unfinished(folder, progress, config)
    # The run was killed before its results.
    (tmp_path / "results.json").unlink()
    check_unfinished(folder, progress, config)


@pytest.mark.slow
def test_training_ends_at_the_floor_and_stays_ended(folder, tmp_path, capsys):
    lines = [
        "train.learning_rate_schedule = @ReduceOnPlateau()",
        "train.learning_rate = 1e-9",
        # Nothing is learned at such a rate.
        "ReduceOnPlateau.patience = 1",
        "ReduceOnPlateau.min_learning_rate = 5e-10",
        "train.num_epochs = 8",
    ]
    results = train_with(folder, tmp_path, *lines)
    assert results["timings"]["epochs"] < 8
    assert "reached its floor" in capsys.readouterr().out
    for longer in ((), ("train.num_epochs = 20",)):
        with pytest.raises(ValueError, match="ended at the floor"):
            train_with(folder, tmp_path, *lines, *longer)
    # As if the process had been killed before.
    (tmp_path / "results.json").unlink()
    again = train_with(folder, tmp_path, *lines)
    assert again["timings"]["epochs"] == results["timings"]["epochs"]
    assert again["metrics"] == results["metrics"]


def test_a_schedule_of_keras_is_a_learning_rate(folder, tmp_path, monkeypatch):
    rates = []

    def record(self, batch, logs=None):
        rates.append(float(self.model.optimizer.learning_rate))

    monkeypatch.setattr(fitting.Recorder, "on_train_batch_end", record)
    train_with(
        folder,
        tmp_path,
        "train.learning_rate = @PolynomialDecay()",
        "PolynomialDecay.initial_learning_rate = 0.01",
        "PolynomialDecay.decay_steps = 4",
        "PolynomialDecay.end_learning_rate = 0.0",
        "train.steps_per_epoch = 2",
        "train.num_epochs = 2",
    )
    np.testing.assert_allclose(rates, [0.0075, 0.005, 0.0025, 0], rtol=1e-5)


@pytest.mark.parametrize(
    "more",
    [{"warmup_epochs": 1}, {"learning_rate_schedule": "cosine"}],
)
def test_a_schedule_of_keras_stands_alone(more):
    rate = keras.optimizers.schedules.CosineDecay(0.1, 100)
    with pytest.raises(ValueError, match="`learning_rate` must be a number"):
        TrainingConfig("runs/x", learning_rate=rate, **more)


def test_an_unknown_schedule_names_what_there_is():
    with pytest.raises(ValueError, match="'cosine'.*ReduceOnPlateau"):
        TrainingConfig("runs/x", learning_rate_schedule="plateau")
