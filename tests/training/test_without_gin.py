"""A run from Python alone: no gin, the same files."""

import functools
import json

import gin
import keras
import numpy as np
import pytest
from training_runs import train_without_gin

from leaf_audio import data, models, serving, training
from leaf_audio.training import progress

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


def test_a_run_needs_no_gin_and_goes_on(folder, tmp_path, capsys):
    align = functools.partial(data.align, seq_len=500)

    def train(**settings):
        return train_without_gin(
            folder,
            tmp_path / "run",
            align,
            # A new object each time, as in a program that is started anew.
            optimizer=functools.partial(
                keras.optimizers.AdamW, weight_decay=1e-3
            ),
            **settings,
        )

    train(num_epochs=1)
    with pytest.raises(ValueError, match=r"train.seed \(was 0, is 1\)"):
        train(num_epochs=2, seed=1)
    results = train(num_epochs=2)
    assert "going on after epoch 1" in capsys.readouterr().out
    text = (tmp_path / "run" / "results.json").read_text(encoding="utf-8")
    assert json.loads(text) == results
    assert results["config"]["train.num_epochs"] == "2"
    assert not (tmp_path / "run" / "config.gin").exists()
    assert not gin.config_str()

    recording = str(next((folder / "tones/test/low").iterdir()))
    with pytest.raises(ValueError, match="Give `transform_fns`"):
        serving.load(tmp_path / "run")
    trained = serving.TrainedClassifier.from_run(tmp_path / "run", [align])
    (found,) = serving.predict(trained, [recording])
    assert list(found.probabilities) == ["high", "low", "mid"]


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"workdir": None}, "`workdir` must be given"),
        ({"num_epochs": 0}, "`num_epochs` must be a positive integer"),
        ({"learning_rate": -1.0}, "`learning_rate` must be a positive number"),
        ({"optimizer": "adam"}, "`optimizer` must be a factory"),
        ({"warmup_epochs": 10}, "`warmup_epochs` must be a number from 0"),
        ({"workdir": 3}, "`workdir` must be a path.*workdir=3"),
        ({"seed": True}, "`seed` must be an integer.*seed=True"),
        ({"learning_rate": "a"}, "`learning_rate` must .*learning_rate='a'"),
        ({"jit_compile": 1}, "`jit_compile` must be.*jit_compile=1"),
        ({"optimizer": models.ConvNet}, "`optimizer` must be a factory"),
        ({"dtype_policy": "half"}, "`dtype_policy` must be.*='half'"),
    ],
)
def test_settings_are_checked_when_they_are_made(settings, named):
    with pytest.raises(ValueError, match=named):
        training.TrainingConfig(**{"workdir": "run", **settings})


def own_optimizer(learning_rate):
    return keras.optimizers.SGD(learning_rate)


class Factory:
    def __call__(self, learning_rate):
        return keras.optimizers.SGD(learning_rate)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: None, "None"),
        (lambda: keras.optimizers.AdamW, "AdamW"),
        (lambda: own_optimizer, "own_optimizer"),
        (lambda: Factory(), "Factory()"),
        (
            lambda: functools.partial(keras.optimizers.SGD, momentum=0.9),
            "SGD(momentum=0.9)",
        ),
        (
            lambda: functools.partial(
                functools.partial(own_optimizer),
                keras.losses.mean_squared_error,
            ),
            "own_optimizer(mean_squared_error)",
        ),
        (
            lambda: functools.partial(Factory(), clip=[keras.activations.relu]),
            "Factory()(clip=[relu])",
        ),
        (
            lambda: functools.partial(
                own_optimizer, keras.regularizers.L2(0.5)
            ),
            "own_optimizer(L2({'l2': 0.5}))",
        ),
    ],
)
def test_the_text_of_an_optimizer_is_the_same_in_each_process(make, text):
    config = training.TrainingConfig("run", optimizer=make())
    assert config.as_settings()["train.optimizer"] == text


@pytest.mark.parametrize(
    "factory, named",
    [
        (lambda learning_rate: 3, "must make a Keras optimizer"),
        (lambda rate: 3, "which failed: .*learning_rate"),
        (
            functools.partial(keras.optimizers.SGD, momentum=2.0),
            "which failed: .*momentum",
        ),
    ],
)
def test_what_makes_no_optimizer_is_named(folder, tmp_path, factory, named):
    with pytest.raises(ValueError, match=f"`optimizer`.*{named}"):
        training.train(
            training.TrainingConfig(tmp_path / "run", optimizer=factory),
            make_model=lambda num_outputs: models.AudioClassifier(num_outputs),
            load=data.load,
            prepare=data.prepare,
        )


class Momentum:
    """Makes an optimizer, with a setting of its own."""

    def __init__(self, momentum):
        self.momentum = momentum

    def __call__(self, learning_rate):
        return keras.optimizers.SGD(learning_rate, momentum=self.momentum)


def test_settings_are_plain_values(tmp_path):
    config = training.TrainingConfig(
        tmp_path / "run",
        num_epochs=np.int64(3),
        seed=np.int32(7),
        steps_per_epoch=np.int64(2),
        learning_rate=1,
        label_smoothing=np.float32(0.5),
        optimizer=Momentum(0.9),
    )
    assert type(config.num_epochs) is type(config.seed) is int
    assert type(config.learning_rate) is float
    json.dumps([config.steps_per_epoch, config.label_smoothing])
    assert config.workdir == str(tmp_path / "run")
    text = config.as_settings()["train.optimizer"]
    assert text == "Momentum(momentum=0.9)"


@pytest.mark.parametrize(
    "one, other, same",
    [("0", "0.0", True), ("'a'", '"a"', True), ("1", "2", False)],
)
def test_settings_are_compared_by_their_values(one, other, same):
    found = progress.differences({"train.x": one}, {"train.x": other})
    assert (not found) == same
    assert progress.differences({"train.x": "Adam"}, {"train.x": "None"})
