"""Runs from configs and bindings, with the results printed as a table."""

import importlib.util
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from leaf_audio.app import configuration, recorded, report
from leaf_audio.app import train as gin_training
from leaf_audio.app.data_configurables import DATA_CONFIGURABLES
from leaf_audio.training import NotWritten, TrainingStopped, Workdir, processes

# Errors that a mistake in the configuration or in the data leads to.
EXPECTED_ERRORS = (ValueError, OSError, TrainingStopped)

_SPLIT_SETTINGS = {
    "audio_folder.validation_fraction",
    "audio_folder.test_fraction",
    "audio_folder.validation_folds",
    "audio_folder.test_folds",
}


def train(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Trains as configs and bindings say, and prints the results.

    gin is left as it was.

    Args:
        configs: Gin configs. Later ones override earlier ones.
        bindings: Lines in gin's syntax. They override the configs.

    Raises:
        ValueError: If a setting, a binding, the data or the workdir cannot be
            used.
        TrainingStopped: If a loss, a gradient or a weight is not finite.
    """
    with configuration.restored():
        configuration.parse(configs, bindings)
        if any(key.startswith("Study.") for key in configuration.bound()):
            raise ValueError(
                "A config of a run must bind nothing of `Study`. Received: one "
                f"of a study, for which there is {_command('study')}."
            )
        results = gin_training.train()
        folder = Workdir(gin.query_parameter("train.workdir"))
    if not processes.is_main():
        return
    report.print_metrics(
        f"{results['data']['name']}, model of epoch {results['kept_epoch']} of "
        f"{results['timings']['epochs']}",
        report.by_task(results["metrics"], results.get("tasks", ())),
    )
    report.print_lines(
        f"model: {folder.best}",
        f"log: {folder.metrics}",
        *([f"filters: {folder.filters}"] if folder.filters.exists() else []),
        f"config: {folder.config}",
        f"results: {folder.results}",
        *_tables(folder, results),
        "next:",
        *(f"  {line}" for line in _next(folder, results)),
        f"  tensorboard --logdir={shlex.quote(str(folder.tensorboard))}",
    )


def _tables(folder: Workdir, results: Mapping[str, Any]) -> list[str]:
    """Says which tables there are."""
    if "tasks" in results:
        runs = [folder.of_task(name).path for name in results["tasks"]]
        return [
            "a model and tables for each task, as of a run of its own:",
            *(f"  {run}" for run in runs),
        ]
    if not results["data"]["labels"]:
        return []
    return [f"tables: {folder.path / 'classes_*.csv'}"]


def _next(folder: Workdir, results: Mapping[str, Any]) -> list[str]:
    """Says what the model can be used for, in five commands at most."""
    run, name = folder.path, folder.path.name
    if "tasks" in results:
        name = next(iter(results["tasks"]))
        run = folder.of_task(name).path
    workdir = f"--workdir={shlex.quote(str(run))}"
    if _has_own_code(folder):
        # Functions of one's own are imported by a config that is trusted.
        workdir += f" --gin_config={shlex.quote(str(folder.config))}"
    report_line = f"{_command('report')} {workdir}"
    if not all(map(importlib.util.find_spec, ("matplotlib", "jinja2"))):
        report_line += "  # needs pip install 'leaf_audio[plot]'"
    embed_line = f"{_command('embed')} {workdir} --output=embeddings.npz FOLDER"
    if not results["data"]["labels"]:
        return [
            report_line,
            embed_line,
            f"{_command('classify_embeddings')} {workdir} --recordings=FOLDER",
            f'--gin_bindings="train.init_from = {str(run)!r}", for a run with '
            "labels",
        ]
    return [
        report_line,
        f"{_command('predict')} {workdir} RECORDING.wav",
        f"{_command('stream')} {workdir} RECORDING.wav",
        embed_line,
        f"{_command('export')} {workdir} --format=litert "
        f"--output={shlex.quote(name)}.tflite",
    ]


def prepare(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Prepares the data of a training run, and says what it is.

    Bindings that have no effect on data are left alone, so that the command
    line of a run can be used. gin is left as it was.

    Args:
        configs: Gin configs. Later ones override earlier ones.
        bindings: Lines in gin's syntax. They override the configs.

    Raises:
        ValueError: If a setting, a binding or the data cannot be used.
    """
    with configuration.restored():
        configuration.parse(configs, bindings)
        audio_data = gin_training.load_for_training()
    report.print_data(audio_data, pathlib.Path(audio_data.path, "info.json"))
    report.print_lengths_of_recordings(audio_data)
    report.print_storage(audio_data)


def evaluate(configs: Sequence[str], bindings: Sequence[str]) -> None:
    """Evaluates the model of a run, and prints the metrics.

    The data is the one that the run has recorded, then that of `configs`, then
    that of `bindings`. A binding that would need another model is an error.
    The `config.gin` of the run is not executed; see
    `leaf_audio.app.recorded`. gin is left as it was.

    Args:
        configs: Gin configs.
        bindings: Lines in gin's syntax. They must bind `train.workdir` unless
            a config does.

    Raises:
        ValueError: If there is no run, or a binding or the data cannot be
            used.
        NotWritten: If the metrics, which are printed, cannot be written.
    """
    with configuration.restored():
        _evaluate(configs, bindings)


def _evaluate(configs: Sequence[str], bindings: Sequence[str]) -> None:
    configuration.parse(configs, bindings)
    asked = configuration.bound()
    workdir = gin.get_bindings("train.train").get("workdir")
    if workdir is None:
        raise ValueError(
            "`workdir` must be given, as --workdir or train.workdir. "
            "Received: workdir=None."
        )
    folder = Workdir(workdir)
    settings = recorded.read(folder)
    # The folder may have been moved since the run was made.
    more = [f"train.workdir = {workdir!r}"]
    # Shares or folds that are asked for replace all that are recorded.
    if not _SPLIT_SETTINGS.isdisjoint(asked):
        more += [f"{name} = None" for name in _SPLIT_SETTINGS.difference(asked)]
    configuration.parse(
        configs, [*bindings, *more], recorded.data_bindings(settings, asked)
    )
    bound = gin.get_bindings("train.train")
    names = recorded.DATA_ARGUMENTS
    arguments = {name: bound[name] for name in names if name in bound}
    exempt = settings | {
        f"train.{name}": configuration.bound().get(f"train.{name}", "")
        for name in ("workdir", *names)
    }
    configuration.check_all_used(exempt, later=DATA_CONFIGURABLES)
    title = f"{arguments['dataset']}, {_model(folder)}"
    try:
        metrics, file = gin_training.evaluate(workdir, **arguments)
    except NotWritten as error:
        report.print_metrics(title, error.metrics)
        raise
    configuration.check_all_used(exempt)
    report.print_metrics(title, metrics)
    report.print_lines(f"results: {file}", f"tables: {file.parent}")


def _model(folder: Workdir) -> str:
    """Names the model of a run, as in "model of epoch 3 of runs/leaf".

    The epoch is left out where the run has not ended.
    """
    epoch = folder.read_kept_epoch()
    which = "" if epoch is None else f"epoch {epoch} of "
    still = "" if folder.results.exists() else ", which has not ended"
    return f"model of {which}{folder.path}{still}"


def _command(name: str) -> str:
    """Returns how to start a command, in the way this one was started."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = "" if spec is None else spec.name
    if module.startswith("example."):
        return f"python -m example.{name}"
    is_module = module.startswith("leaf_audio.")
    command = "python -m leaf_audio" if is_module else "leaf-audio"
    return f"{command} {name.replace('_', '-')}"


def _has_own_code(folder: Workdir) -> bool:
    """Returns whether the config of a run imports modules of its user."""
    lines = folder.config.read_text("utf-8").splitlines()
    imported = [
        line.split()[1].partition(".")[0]
        for line in lines
        if line.startswith(("import ", "from "))
    ]
    return not {"leaf_audio", "example"}.issuperset(imported)
