"""From configs and bindings to a finished run and a table to read."""

import shlex
from collections.abc import Sequence

import gin

from leaf_audio.app import configurables, configuration, report
from leaf_audio.training import train as training
from leaf_audio.training.workdir import Workdir

# What comes of a mistake in what was asked for, or of data.
EXPECTED_ERRORS = (ValueError, OSError, training.TrainingStopped)

# What an evaluation takes from the bindings of `train`.
_DATA_ARGUMENTS = ("dataset", "data_dir", "batch_size")
_FRACTIONS = {
    "audio_folder.validation_fraction",
    "audio_folder.test_fraction",
}


def train(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Trains as the configs and bindings say, and prints the result."""
    configuration.parse(configs, bindings)
    results = training.train()
    folder = Workdir(gin.query_parameter("train.workdir"))
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
        "  python -m example.main --mode=eval "
        f"--workdir={shlex.quote(str(folder.path))}",
        "  python -m example.predict "
        f"--workdir={shlex.quote(str(folder.path))} RECORDING.wav",
        f"  tensorboard --logdir={shlex.quote(str(folder.tensorboard))}",
    )


def evaluate(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Evaluates the best model of a run, and prints the result.

    Args:
        configs: on top of the configuration that the run has recorded. The data
            may be another; a binding that would need another model is an error.
        bindings: the same; they must name the workdir where no config does.
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
    # Where a run lies now may differ from where it was made, and who asks for
    # a share of the files need not know what share was another's.
    more = [f"train.workdir = {workdir!r}"]
    if not _FRACTIONS.isdisjoint(asked):
        more += [f"{name} = None" for name in _FRACTIONS.difference(asked)]
    configuration.parse([run_config, *configs], [*bindings, *more])
    settings = gin.get_bindings("train.train")
    arguments = {k: settings[k] for k in _DATA_ARGUMENTS if k in settings}
    exempt = recorded | {
        f"train.{name}": configuration.bound().get(f"train.{name}", "")
        for name in ("workdir", *_DATA_ARGUMENTS)
    }
    configuration.check_all_used(exempt, later=configurables.DATA_CONFIGURABLES)
    metrics = training.evaluate(workdir, **arguments)
    configuration.check_all_used(exempt)
    report.print_metrics(
        f"{arguments['dataset']}, best model of {folder.path}", metrics
    )
    report.print_lines(f"results: {folder.evaluation}")
