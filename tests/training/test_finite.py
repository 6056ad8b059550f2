"""Gradients and weights that are not finite stop a run, losses or not."""

import functools
import os
import signal

import keras
import numpy as np
import pytest
from keras import ops
from tones import SAMPLE_RATE, python, write_tones

from leaf_audio import data, frontend, models, training
from leaf_audio.data import audio_folder
from leaf_audio.training import Workdir, finite, step_watch, strategies
from leaf_audio.training.processes import Terminated
from leaf_audio.training.progress import Progress
from leaf_audio.training.within_epoch import SaveWithin

# What watches the gradients is part of the compiled step.
pytestmark = pytest.mark.compiled

BACKEND = keras.backend.backend()


@keras.saving.register_keras_serializable("tests")
class Trap(keras.layers.Layer):
    """Adds a number to its inputs; at one step its gradient is not finite.

    Args:
      step: The step of training, from 0, at which it happens; None for never.
      value: What a weight is set to at this step, instead, or None.
    """

    def __init__(self, step=None, value=None, **kwargs):
        # Under mixed precision too: it counts steps.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.step = step
        self.value = value

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer="ones")
        fixed = {"initializer": "zeros", "trainable": False}
        # Several devices need to be told how their values become one.
        fixed["aggregation"] = "mean"
        self.steps = self.add_weight(shape=(), name="steps", **fixed)
        self.mean = self.add_weight(shape=(), name="mean", **fixed)

    def call(self, inputs, training=None):
        if self.step is None or not training:
            return inputs
        left = ops.abs(self.steps - self.step)
        self.steps.assign_add(1.0)
        if self.value is not None:
            now = ops.where(left < 0.5, self.value, 0.0)
            self.mean.assign(ops.cast(now, "float32"))
            return inputs * ops.cast(self.factor, inputs.dtype)
        # The square root of 0 is finite, and its derivative is not.
        return inputs + ops.cast(ops.sqrt(self.factor * left), inputs.dtype)

    def get_config(self):
        config = {"step": self.step, "value": self.value}
        return {**super().get_config(), **config}


def fit(folder, workdir, step=None, value=None, devices=None, **settings):
    """Trains for three epochs of four steps."""
    create = strategies.create
    if devices:
        settings["strategy"] = "mirrored"
        create = functools.partial(
            create,
            factories={"mirrored": lambda: strategies.mirrored(devices)},
        )

    def make_model(num_outputs):
        return models.AudioClassifier(
            num_outputs,
            frontend=frontend.MelFilterbanks(
                n_filters=8, sample_rate=SAMPLE_RATE
            ),
            encoder=keras.Sequential([models.ConvNet([4]), Trap(step, value)]),
        )

    reader = functools.partial(audio_folder, path=str(folder / "tones"))
    align = functools.partial(data.align, seq_len=500)
    return training.train(
        training.TrainingConfig(
            workdir,
            dataset="audio_folder",
            data_dir=str(folder / "prepared"),
            batch_size=6,
            num_epochs=3,
            **settings,
        ),
        make_model=make_model,
        load=functools.partial(
            data.load, sample_rate=SAMPLE_RATE, readers={"audio_folder": reader}
        ),
        prepare=functools.partial(data.prepare, transform_fns=[align]),
        make_strategy=create,
    )


def saved_epochs(workdir):
    progress = Workdir(workdir).read_progress()
    return 0 if progress is None else len(progress.history)


@pytest.mark.parametrize(
    "step, where, epochs, settings",
    [
        (2, "step 3 of epoch 1", 0, {"dtype_policy": "mixed_bfloat16"}),
        (5, "step 2 of epoch 2", 1, {}),
        (5, "step 2 of epoch 2", 1, {"jit_compile": True}),
    ],
)
def test_gradients_that_are_not_finite_stop_a_run_and_the_step_is_named(
    folder, tmp_path, step, where, epochs, settings
):
    if BACKEND == "torch" and "jit_compile" in settings:
        pytest.skip("torch.compile needs a C++ compiler")
    with pytest.raises(training.TrainingStopped) as error:
        fit(folder, tmp_path / "run", step, **settings)
    assert f"The gradients are not finite at {where}" in str(error.value)
    assert saved_epochs(tmp_path / "run") == epochs
    if epochs:
        model = Workdir(tmp_path / "run").load_best()
        assert not finite.not_finite(model.variables)


def test_the_step_is_counted_from_the_start_of_an_epoch_that_went_on(
    folder, tmp_path, monkeypatch
):
    original = SaveWithin.on_train_batch_end
    seen = []

    def asked_to_end(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(SaveWithin, "on_train_batch_end", asked_to_end)
        with pytest.raises(Terminated):
            fit(folder, tmp_path / "run", step=6)
    with pytest.raises(training.TrainingStopped, match="step 3 of epoch 2"):
        fit(folder, tmp_path / "run", step=6)


def test_a_step_that_a_loss_scale_skips_stops_nothing(folder, tmp_path):
    results = fit(
        folder, tmp_path / "run", step=2, dtype_policy="mixed_float16"
    )
    assert results["timings"]["epochs"] == 3
    weights = Workdir(tmp_path / "run").load_best().variables
    assert not finite.not_finite(weights)


def test_gradients_that_no_loss_scale_makes_finite_stop_a_run(folder, tmp_path):
    def optimizer(learning_rate):
        return keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(learning_rate), initial_scale=1.0
        )

    with pytest.raises(training.TrainingStopped, match="gradients.*at step 3"):
        fit(folder, tmp_path / "run", step=2, optimizer=optimizer)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_not_saved(folder, tmp_path, value):
    """They are no gradient's: moving statistics, which no loss reveals."""
    with pytest.raises(training.TrainingStopped) as error:
        fit(folder, tmp_path / "run", step=7, value=value)
    assert "not finite after epoch 2" in str(error.value)
    assert "mean" in str(error.value)
    assert saved_epochs(tmp_path / "run") == 1


def compiled():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def spoil(variable):
    variable.assign(np.full(variable.shape, np.nan, "float32"))


@pytest.mark.any_backend
@pytest.mark.parametrize("part", ["weight", "state of the optimizer"])
def test_the_state_before_stays_if_a_weight_is_not_finite(tmp_path, part):
    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
    progress = Progress({}, [row])
    model, folder = compiled(), Workdir(tmp_path)
    folder.save(model, progress)
    before = [file.read_bytes() for file in (folder.state, folder.best)]
    variables = model.optimizer.variables if part != "weight" else model.weights
    spoil(variables[-1])
    with pytest.raises(training.TrainingStopped, match="not finite"):
        folder.save(model, progress)
    after = [file.read_bytes() for file in (folder.state, folder.best)]
    assert before == after


@pytest.mark.any_backend
def test_a_model_of_an_earlier_version_is_not_used_if_it_is_not_finite(
    tmp_path,
):
    model = compiled()
    spoil(model.weights[0])
    model.save(tmp_path / "best.keras")
    with pytest.raises(ValueError, match="finite.*dense.*kernel"):
        Workdir(tmp_path).load_best()


@pytest.mark.any_backend
def test_fit_is_as_before_after_it_was_watched():
    model = compiled()
    apply, metrics = model.optimizer.apply, model.compute_metrics
    with step_watch.watched_steps(model):
        assert model.compute_metrics != metrics
    assert model.optimizer.apply == apply
    assert model.compute_metrics == metrics


TWO_DEVICES = """
import pathlib, sys

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
sys.path[:0] = ["tests", "tests/training"]
import test_finite

folder = pathlib.Path(sys.argv[1])
try:
    test_finite.fit(folder, folder / "run", 5, devices=["CPU:0", "CPU:1"])
except test_finite.training.TrainingStopped as error:
    print("stopped:", error)
"""


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's"
)
@pytest.mark.slow
def test_several_devices_stop_too(tmp_path):
    write_tones(tmp_path / "tones")
    done = python("-c", TWO_DEVICES, str(tmp_path))
    told = "stopped: The gradients are not finite at step 2 of epoch 2"
    assert told in done.stdout
