"""Runs from configs and bindings, with the results printed as a table."""

import shlex
import sys
from collections.abc import Sequence

import gin

from leaf_audio.app import configuration, report
from leaf_audio.app import train as gin_training
from leaf_audio.app.data_configurables import DATA_CONFIGURABLES
from leaf_audio.training import TrainingStopped, Workdir

# Errors that a mistake in the configuration or in the data leads to.
EXPECTED_ERRORS = (ValueError, OSError, TrainingStopped)

# The bindings of `train` that apply to an evaluation too.
_DATA_ARGUMENTS = ("dataset", "data_dir", "batch_size")
_FRACTIONS = {
    "audio_folder.validation_fraction",
    "audio_folder.test_fraction",
}


def train(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Trains as configs and bindings say, and prints the results.

    Args:
        configs: Gin configs. Later ones override earlier ones.
        bindings: Lines in gin's syntax. They override the configs.

    Raises:
        ValueError: If a setting, a binding, the data or the workdir cannot be
            used.
        TrainingStopped: If a loss, a gradient or a weight is not finite.
    """
    configuration.parse(configs, bindings)
    results = gin_training.train()
    folder = Workdir(gin.query_parameter("train.workdir"))
    workdir = shlex.quote(str(folder.path))
    report.print_metrics(
        f"{results['data']['name']}, best epoch {results['best_epoch']} of "
        f"{results['timings']['epochs']}",
        results["metrics"],
    )
    report.print_lines(
        f"best model: {folder.best}",
        f"log: {folder.metrics}",
        *([f"filters: {folder.filters}"] if folder.filters.exists() else []),
        f"config: {folder.config}",
        f"results: {folder.results}",
        "next:",
        f"  {_command('eval')} --workdir={workdir}",
        f"  {_command('predict')} --workdir={workdir} RECORDING.wav",
        f"  tensorboard --logdir={shlex.quote(str(folder.tensorboard))}",
    )


def evaluate(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Evaluates the best model of a run, and prints the metrics.

    The configuration is the one that the run has recorded, then `configs`,
    then `bindings`. They may choose other data. A binding that would need
    another model is an error.

    Args:
        configs: Gin configs.
        bindings: Lines in gin's syntax. They must bind `train.workdir` unless
            a config does.

    Raises:
        ValueError: If there is no run, or a binding or the data cannot be
            used.
    """
    configuration.parse(configs, bindings)
    asked = configuration.bound()
    workdir = gin.get_bindings("train.train").get("workdir")
    if workdir is None:
        raise ValueError(
            "`workdir` must be given, as --workdir or train.workdir. "
            "Received: workdir=None."
        )
    folder = Workdir(workdir)
    if not folder.config.exists():
        raise ValueError(
            f"`workdir` must hold a run. Received: workdir={workdir!r} "
            f"without {folder.config.name}."
        )
    run_config = str(folder.config.resolve())
    configuration.parse([run_config], [])
    recorded = configuration.bound()
    # The folder may have been moved since the run was made.
    more = [f"train.workdir = {workdir!r}"]
    # A share of the files that is asked for replaces both recorded shares.
    if not _FRACTIONS.isdisjoint(asked):
        more += [f"{name} = None" for name in _FRACTIONS.difference(asked)]
    configuration.parse([run_config, *configs], [*bindings, *more])
    settings = gin.get_bindings("train.train")
    arguments = {k: settings[k] for k in _DATA_ARGUMENTS if k in settings}
    exempt = recorded | {
        f"train.{name}": configuration.bound().get(f"train.{name}", "")
        for name in ("workdir", *_DATA_ARGUMENTS)
    }
    configuration.check_all_used(exempt, later=DATA_CONFIGURABLES)
    metrics = gin_training.evaluate(workdir, **arguments)
    configuration.check_all_used(exempt)
    report.print_metrics(
        f"{arguments['dataset']}, best model of {folder.path}", metrics
    )
    report.print_lines(f"results: {folder.evaluation}")


def _command(name: str) -> str:
    """Returns how to start a command, in the way this one was started."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or not spec.name.startswith("example."):
        return f"leaf-audio {name}"
    module = {"eval": "main --mode=eval", "predict": "predict"}[name]
    return f"python -m example.{module}"
