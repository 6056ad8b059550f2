"""Training and evaluation as gin has configured them.

The parameters of `leaf_audio.training.TrainingConfig` are bound under the name
`train`, as in `train.num_epochs = 20`. Importing this module registers them
with gin, together with the parameters of `leaf_audio.training.study.Study`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import gin
import keras

from leaf_audio import data, training
from leaf_audio.app import (
    configuration,
    data_configurables,
    recorded,
    report,
)
from leaf_audio.app.factory import without_gin
from leaf_audio.training import TrainingStopped, schedules, strategies
from leaf_audio.training.study import Study

__all__ = ["TrainingStopped", "evaluate", "train"]

_STRATEGIES = ("mirrored", "multi_worker_mirrored", "tpu", "data_parallel")


def train(**settings: Any) -> dict[str, Any]:
    """Trains a classifier, or continues its training, as gin is configured.

    The model is the `AudioClassifier` that gin configures, the data comes from
    the configured `data.load` and `data.prepare`. Each binding must have an
    effect.

    Args:
        **settings: Arguments of `TrainingConfig`. They replace what is bound.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: If a setting, a binding, the data or the workdir cannot be
            used.
        TrainingStopped: If a loss, a gradient or a weight is not finite.
    """
    config = gin.get_configurable("train.train")(**settings)
    if config.optimizer is None:
        # Not keras.optimizers.Adam, to which no binding would apply.
        adam = gin.get_configurable("keras.optimizers.Adam")
        config = dataclasses.replace(config, optimizer=adam)
    return training.train(
        config,
        make_model=make_model,
        load=load,
        prepare=prepare,
        sample_rate=gin.get_bindings("data.load").get("sample_rate"),
        example_shape=lambda: data.example_shape(
            data_configurables.transform_fns()
        ),
        make_strategy=make_strategy,
        observer=_TrainingObserver(config),
    )


def evaluate(
    workdir: str | os.PathLike, **arguments: Any
) -> tuple[dict[str, Any], pathlib.Path]:
    """Evaluates the model of a run on data that gin has configured.

    Args:
        workdir: The folder of the run.
        **arguments: `dataset`, and if needed `data_dir` and `batch_size`; see
            `leaf_audio.training.evaluate`.

    Returns:
        The metrics of each split, and the `evaluation.json` that was written.

    Raises:
        ValueError: If there is no model, or it does not fit the data.
    """
    observer = Observer()
    metrics = training.evaluate(
        workdir, **arguments, load=load, prepare=prepare, observer=observer
    )
    return metrics, observer.report_file


def make_model(num_outputs: int) -> keras.Model:
    """Makes the `AudioClassifier` that gin has configured."""
    return gin.get_configurable("AudioClassifier")(num_outputs=num_outputs)


def load(*args: Any, **kwargs: Any) -> data.AudioData:
    """Calls the `data.load` that gin has configured."""
    return gin.get_configurable("data.load")(*args, **kwargs)


def load_for_training() -> data.AudioData:
    """Loads the data set of the run that gin has configured, to train on it."""
    pretraining = gin.get_bindings("train.train").get("pretraining")
    return load_of_run(for_training=pretraining is None)


def load_of_run(for_training: bool) -> data.AudioData:
    """Loads the data set of the run that gin has configured.

    Args:
        for_training: bool. See `data.load`.
    """
    bound = gin.get_bindings("train.train")
    dataset = bound.get("dataset", training.TrainingConfig.dataset)
    return load(
        dataset, data_dir=bound.get("data_dir"), for_training=for_training
    )


def prepare(*args: Any, **kwargs: Any) -> data.Batches:
    """Calls the `data.prepare` that gin has configured."""
    return gin.get_configurable("data.prepare")(*args, **kwargs)


def make_strategy(name: str) -> strategies.Strategy:
    """Creates a strategy from its name, with the devices that gin binds."""
    factories = {
        one: gin.get_configurable(f"strategies.{one}") for one in _STRATEGIES
    }
    return strategies.create(name, factories)


class Observer(training.Observer):
    """Records the bindings that were used, and prints what the data is.

    Attributes:
        report_file: The file that the run or the evaluation will write, once
            the data is loaded.
    """

    report_file: pathlib.Path

    def settings(self) -> dict[str, str]:
        return configuration.operative()

    def defaults(self) -> dict[str, str]:
        return configuration.defaults()

    def settings_of_task(
        self, settings: Mapping[str, str], task: str
    ) -> Mapping[str, str]:
        return recorded.of_task(settings, task)

    def shared_values(self) -> dict[str, str]:
        return configuration.macros()

    def config_text(self) -> str:
        return configuration.operative_text()

    def data_loaded(
        self,
        audio_data: data.AudioData,
        batches: data.Batches,
        report_file: pathlib.Path,
    ) -> None:
        self.report_file = report_file
        report.print_data(
            audio_data, report_file, uses_labels=batches.views == 1
        )
        report.print_lengths(audio_data, batches)

    def tell(self, line: str) -> None:
        report.print_lines(line)


class _TrainingObserver(Observer):
    """Also checks that every binding has an effect.

    Args:
        config: The settings of the run.
    """

    def __init__(self, config: training.TrainingConfig):
        self._config = config

    def model_checked(self) -> None:
        configuration.check_all_used(
            later=data_configurables.DATA_CONFIGURABLES
        )

    def data_loaded(
        self,
        audio_data: data.AudioData,
        batches: data.Batches,
        report_file: pathlib.Path,
    ) -> None:
        configuration.check_all_used()
        report.print_lines(*configuration.dropped())
        super().data_loaded(audio_data, batches, report_file)
        if batches.views == 1:
            report.print_few(audio_data)
        report.print_sources(self._config)


@functools.wraps(training.TrainingConfig, updated=())
def _config(*args: Any, **kwargs: Any) -> training.TrainingConfig:
    """Makes the settings. `@Hinge` without parentheses stands for the class."""
    bound = inspect.signature(_config).bind(*args, **kwargs)
    for name in ("loss", "pretraining"):
        if name in bound.arguments:
            bound.arguments[name] = without_gin(bound.arguments[name])
    return training.TrainingConfig(*bound.args, **bound.kwargs)


# gin does not look through `functools.wraps`.
setattr(_config, "__signature__", inspect.signature(training.TrainingConfig))  # noqa: B010


def _register() -> None:
    gin.external_configurable(_config, name="train", module="train")
    gin.external_configurable(Study, name="Study", module="study")
    gin.external_configurable(
        schedules.ReduceOnPlateau, name="ReduceOnPlateau", module="schedules"
    )
    for name in _STRATEGIES:
        function = getattr(strategies, name)
        gin.external_configurable(function, name=name, module="strategies")


_register()
