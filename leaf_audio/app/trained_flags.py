"""The flags by which commands are given a trained classifier."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import math
import os
import pathlib
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from leaf_audio.app.startup import import_backend
from leaf_audio.common import files
from leaf_audio.common.export_formats import MEMBER
from leaf_audio.common.included import included
from leaf_audio.common.run_folders import check_not_of_run

if TYPE_CHECKING:
    from leaf_audio.serving import TrainedClassifier

# What a workdir must hold that has a model, though the run has not ended.
AN_EPOCH = "a run with one completed epoch at least"


def define_flags() -> None:
    """Defines `--workdir`, `--model` and `--gin_config`."""
    define_run_flags()
    flags.DEFINE_string(
        "model",
        None,
        "Instead of `workdir`, a .keras file of a classifier, or the name of a "
        "model that comes with the package: speech_commands.",
    )


def define_run_flags() -> None:
    """Defines `--workdir` and `--gin_config`."""
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder of the run. Its config.gin is not executed.",
    )
    flags.DEFINE_multi_string(
        "gin_config",
        [],
        "A gin config that imports classes and functions of your own which the "
        "run or file uses; may be repeated. It overrides settings of a run. A "
        "config is code: its import lines run. Give only configs that you "
        "trust.",
    )


def define_window_flags(without_hop: str) -> None:
    """Defines `--window` and `--hop`.

    Args:
        without_hop: What the hop is by default, in words.
    """
    flags.DEFINE_float(
        "window",
        None,
        "The length in seconds of the windows that recordings are cut into, at "
        "most that of a clip of the model, which is the default.",
    )
    flags.DEFINE_float(
        "hop",
        None,
        "The distance in seconds between the beginnings of windows; by default "
        f"{without_hop}.",
    )
    # Bounds of absl let NaN and infinity pass.
    for name in ("window", "hop"):
        flags.register_validator(
            name,
            lambda value: value is None or 0 < value < math.inf,
            f"`{name}` must be a positive number of seconds.",
        )


def define_choice_flags(without_top: str) -> None:
    """Defines `--top` and `--threshold`, which labels are told.

    Args:
        without_top: How many are told by default, in words.
    """
    flags.DEFINE_integer(
        "top",
        None,
        f"The number of labels to tell; by default {without_top}.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "threshold",
        None,
        "Tell labels only from this probability on.",
    )
    # Bounds of absl let NaN pass.
    flags.register_validator(
        "threshold",
        lambda value: value is None or 0 <= value <= 1,
        "`threshold` must be a number from 0 to 1.",
    )


class LeftOut:
    """Tells recordings that cannot be read on stderr, and counts them."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, recording: str, error: ValueError) -> None:
        """Tells one recording, and what is wrong with it."""
        # The error names the recording too. Its cause is the reason alone.
        self._tell(recording, error.__cause__ or error)

    def files_of(self, recordings: Sequence[str]) -> list[str]:
        """Lists the files that recordings and folders stand for.

        Those that are not there are told. If none is left, or a folder cannot
        be read, the program ends with one line.

        Args:
            recordings: Names of audio files and folders.
        """
        from leaf_audio.data.recordings import files_of

        try:
            listed = files_of(recordings)
        except OSError as error:
            sys.exit(f"Error: {error}")
        found = []
        for file in listed:
            if os.path.exists(file):
                found.append(file)
            else:
                self._tell(file, os.strerror(errno.ENOENT))
        if not found:
            self.exit_if_any()
        return found

    def _tell(self, recording: str, reason: object) -> None:
        self._count += 1
        print(f"left out: {recording}: {reason}", file=sys.stderr, flush=True)

    def exit_if_any(self) -> None:
        """Ends the program with one line if any was left out."""
        if self._count:
            sys.exit(
                f"Error: {self._count} recording{'s' * (self._count != 1)} "
                "left out."
            )


def check_output(output: str, suffix: str = "") -> None:
    """Ends the program with one line unless a file can be written there.

    It is called before the work, whose result would otherwise be lost.

    Args:
        output: The name of the file.
        suffix: What the name must end in. Default: anything.
    """
    path = pathlib.Path(output)
    is_place = path.parent.is_dir() and (path.is_file() or not path.exists())
    if not (is_place and output.endswith(suffix)):
        ending = f"that ends in {suffix}, " if suffix else ""
        sys.exit(
            f"Error: `output` must be a file {ending}in a folder that exists. "
            f"Received: output={output}.{files.remedy_of_folder(path)}"
        )
    check_folder_of(path)


def check_folder_of(output: str | os.PathLike) -> None:
    """Ends the program with one line unless files can be written to a folder.

    Args:
        output: The name of a file or folder. If the folder that would hold it
            does not exist, the nearest one above it is tried.
    """
    folder = pathlib.Path(output).absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        # The file has no name, and is gone at once.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        sys.exit(
            "Error: `output` must be in a folder that can be written to. "
            f"Received: output={output}: {error.strerror}."
        )


def check_installed(*libraries: str, extra: str) -> None:
    """Ends the program with one line unless libraries are installed.

    Args:
        *libraries: Names of modules.
        extra: The extra of this package that installs them.
    """
    missing = [
        name for name in libraries if importlib.util.find_spec(name) is None
    ]
    if missing:
        sys.exit(
            f"Error: {' and '.join(missing)} must be installed, by pip install "
            f"'leaf_audio[{extra}]', or in a clone pip install -e '.[{extra}]'."
        )


def check_configs(configs: Sequence[str], bindings: Sequence[str] = ()) -> None:
    """Ends the program with one line unless configs can be found and parsed.

    Args:
        configs: Names of gin configs.
        bindings: Lines in gin's syntax. Default: none.
    """
    if not (configs or bindings):
        return
    from leaf_audio.app import gin_files

    try:
        gin_files.check(configs, bindings)
    except ValueError as error:
        sys.exit(f"Error: {error}")


def check_not_read(output: str, recordings: Sequence[str]) -> None:
    """Ends the program with one line if what is read would be replaced.

    So it does if a file of any run would be.

    Args:
        output: The name of the file.
        recordings: The names of the recordings.
    """
    try:
        check_not_of_run("output", output)
    except ValueError as error:
        sys.exit(f"Error: {error}")
    path = os.path.realpath(output)
    model = flags.FLAGS.model
    if model and os.path.realpath(model) == path:
        sys.exit(
            "Error: `output` must be another file than that of the model, "
            f"since it is replaced. Received: output={output}."
        )
    for recording in recordings:
        if os.path.realpath(recording) == path:
            sys.exit(
                "Error: `output` must be another file than the recordings, "
                f"since it is replaced. Received: output={output}."
            )


@contextlib.contextmanager
def classifier_of_flags() -> Iterator[TrainedClassifier]:
    """Loads the classifier that the flags name. Call `check_flags` before.

    It is to be used in the `with` block. Functions that a config binds have no
    bindings after it. The program ends with one line if the classifier cannot
    be loaded, or the `with` block raises an error of wrong input, such as a
    ValueError.
    """
    given = flags.FLAGS
    import_backend()
    source = given.workdir or given.model
    try:
        with (
            plain_warnings(),
            trained(source, given.gin_config) as classifier,
        ):
            yield classifier
    except BrokenPipeError:
        # Whoever reads the output has read enough: see `run_main`.
        raise
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"Error: {describe(error)}")


def check_flags(needs_labels: bool = True) -> None:
    """Ends the program with one line unless the flags name a classifier.

    This and other checks of flags come before the backend is imported, which
    takes seconds.

    Args:
        needs_labels: Whether the classifier must have labels. A model that was
            trained without them has embeddings only. Default: True.
    """
    given = flags.FLAGS
    if (given.workdir is None) == (given.model is None):
        sys.exit(
            "Error: one of `workdir` and `model` must be given, such as "
            "--workdir=runs/leaf or --model=speech_commands. Received: "
            f"workdir={given.workdir}, model={given.model}."
        )
    if given.workdir is not None:
        check_workdir(given.workdir, "a finished run")
    elif given.model not in included():
        file = pathlib.Path(given.model)
        if file.suffix != ".keras" or not file.is_file():
            sys.exit(
                "Error: `model` must be a .keras file that exists, or one of "
                f"{', '.join(included())}. Received: model={given.model}."
            )
    if needs_labels:
        _check_labels(given.workdir, given.model)
    check_configs(given.gin_config)


def _check_labels(workdir: str | None, model: str | None) -> None:
    """Ends the program with one line if a model was trained without labels."""
    labels = None
    # Of damage, which raises errors of many types, those functions tell that
    # load the model.
    with contextlib.suppress(Exception):
        if workdir is not None:
            results = pathlib.Path(workdir) / "results.json"
            labels = json.loads(results.read_text("utf-8"))["data"]["labels"]
        elif model not in included():
            with zipfile.ZipFile(model or "") as file:
                labels = json.loads(file.read(MEMBER))["labels"]
    if labels == []:
        name = "model" if workdir is None else "workdir"
        sys.exit(
            f"Error: `{name}` must have labels. Received: "
            f"{name}={model if workdir is None else workdir}, which was "
            "trained without; the commands embed and classify_embeddings "
            "take it."
        )


def check_workdir(
    workdir: str | None,
    what: str,
    names: Sequence[str] = ("best.keras", "results.json"),
) -> None:
    """Ends the program with one line unless a folder holds a run.

    Args:
        workdir: The folder.
        what: What it must hold, in words.
        names: The files that make it one. Default: those of a finished run.
    """
    if workdir is None:
        sys.exit("Error: `workdir` must be given, such as --workdir=runs/leaf.")
    folder = pathlib.Path(workdir)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        sys.exit(
            f"Error: `workdir` must hold {what}. "
            f"Received: workdir={workdir}, {_why_no_run(folder, missing)}."
        )


def _why_no_run(folder: pathlib.Path, missing: Sequence[str]) -> str:
    """Says why a folder is not that of a run that can be used."""
    if not folder.is_dir():
        return "no folder"
    why = f"without {missing[-1]}"
    if (folder / "state.npz").is_file():
        return (
            f"{why}, since the run has not ended. It goes on by the command "
            "that has begun it"
        )
    # Those of a study, or of several tasks.
    below = sorted(folder.glob("*/*/best.keras"))
    if below:
        return f"{why}. It holds other runs, such as {below[0].parent}"
    return why


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Tells warnings about recordings without the line of code."""
    from leaf_audio import data

    with warnings.catch_warnings():
        show_with_line = warnings.showwarning

        def show(message: Any, *args: Any, **kwargs: Any) -> None:
            if isinstance(message, data.DataWarning):
                print(f"warning: {message}", file=sys.stderr, flush=True)
            else:
                show_with_line(message, *args, **kwargs)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def trained(
    source: str, configs: Sequence[str] = ()
) -> Iterator[TrainedClassifier]:
    """Loads a classifier, and if configs are given, with their functions.

    Clips are prepared as the run has recorded it. Nothing of the run or file is
    executed. gin is left as it was.

    Args:
        source: The folder of a run, a `.keras` file, or the name of a model
            that comes with the package.
        configs: Gin configs, which are executed. A model with classes of your
            own, and a run with transforms of your own, need one that imports
            them. The settings of a run are overridden, those of a file are
            not. Default: none.

    Yields:
        The classifier. With configs, it is to be used in the `with` block.

    Raises:
        ValueError: If there is no such classifier, or a setting is wrong.
    """
    from leaf_audio import serving

    # A shell does not expand the ~ of --workdir=~/runs/leaf.
    source = os.path.expanduser(source)
    if not (configs or _has_only_a_config(source)):
        yield serving.load(source)
        return
    import gin

    # Importing `train` registers everything that a config may name. The program
    # may have finalized gin's configuration.
    with gin.unlock_config():
        from leaf_audio.app import (
            configuration,
            data_configurables,
            recorded,
            train,  # noqa: F401
        )

    with configuration.restored():
        # Before the model is loaded: they may import classes that it needs.
        configuration.parse(configs, [])
        if not os.path.isdir(source):
            # A file has its own preparation, and classes that it may need have
            # been imported.
            yield serving.load(source)
            return
        folder = serving.finished_run(source)
        settings = recorded.data_bindings(
            recorded.read(folder), replaced=configuration.bound()
        )
        configuration.parse(configs, [], settings)
        yield serving.TrainedClassifier.from_run(
            source,
            data_configurables.evaluating_transform_fns(),
            data_configurables.evaluation_hop(),
        )


def _has_only_a_config(source: str) -> bool:
    """Returns whether this is a run of a version before `settings.json`."""
    folder = pathlib.Path(source)
    return (folder / "config.gin").exists() and not (
        folder / "settings.json"
    ).exists()


def describe(error: Exception) -> str:
    """Returns an error's message, readable also if gin has added to it."""
    if "gin" not in sys.modules:
        return str(error)
    from leaf_audio.app import configuration

    return configuration.message(error)
