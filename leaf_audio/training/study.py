"""Studies: a grid of configurations and seeds.

`study_results` compares them in a table. Each run is a process of its own, and
has a folder of its own. A study that was interrupted therefore goes on where it
stopped: runs that are finished are not repeated.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

import rich.progress

from leaf_audio.common import files
from leaf_audio.common.checks import check_path
from leaf_audio.training import signals
from leaf_audio.training.processes import Interrupted, Terminated
from leaf_audio.training.progress import differences, with_effect
from leaf_audio.training.workdir import check_no_recordings

# The command that trains, as `python -m` takes it.
_PROGRAM = ("-m", "leaf_audio.app.main")

# The formats of the figure.
FIGURES = ("png", "svg")


class Study:
    """A grid of runs: each variant is trained with each seed.

    Args:
        variants: dict. For each variant, by its name, a list of gin configs
            and bindings. An item that ends in `.gin` is the name of a config,
            any other is a binding. Must be given.
        configs: list of str. Configs and bindings of all variants. A run gets
            the variant's configs, then these configs, then the variant's
            bindings, then these bindings. What comes later overrides what came
            before. Defaults to none.
        seeds: list of int, from 0 to less than 2**32. The seeds. Defaults to
            `(0, 1, 2)`.
        workdir: str or path. The folder of the study, for runs, table and
            figure. Defaults to "runs/study".

    Raises:
        ValueError: If there is no variant or no seed, two names of variants
            differ in punctuation only, or an argument is of another type.

    Example:

    ```python
    Study(
        {"20 filters": ["Leaf.n_filters = 20"], "40 filters": []},
        configs=["example/configs/quickstart.gin"],
    )
    ```
    """

    def __init__(
        self,
        variants: Mapping[str, Sequence[str]] | None = None,
        configs: Sequence[str] = (),
        seeds: Sequence[int] = (0, 1, 2),
        workdir: str = "runs/study",
    ):
        if (
            not isinstance(variants, Mapping)
            or not variants
            or not all(isinstance(name, str) for name in variants)
            or not all(map(_is_list_of_text, variants.values()))
        ):
            raise ValueError(
                "`variants` must be a dictionary of lists of configs and "
                f"bindings, all of them text. Received: variants={variants!r}."
            )
        if (
            not isinstance(seeds, (list, tuple))
            or not seeds
            or not all(type(one) is int and 0 <= one < 2**32 for one in seeds)
            or len(set(seeds)) < len(seeds)
        ):
            raise ValueError(
                "`seeds` must be a list of different integers from 0 to less "
                f"than 2**32, with at least one. Received: seeds={seeds!r}."
            )
        if not _is_list_of_text(configs):
            raise ValueError(
                "`configs` must be a list of configs and bindings, all of them "
                f"text. Received: configs={configs!r}."
            )
        folders = [_folder_name(name) for name in variants]
        if not all(folders) or len(set(folders)) < len(folders):
            raise ValueError(
                "Names in `variants` must have letters or digits, and differ "
                f"in their letters or digits. Received: {list(variants)}."
            )
        check_path("workdir", workdir)
        self.variants = variants
        self.configs = configs
        self.seeds = seeds
        self.folder = pathlib.Path(workdir).expanduser()

    def run_folder(self, name: str, seed: int) -> pathlib.Path:
        """Returns the folder of a run.

        Args:
            name: The name of a variant.
            seed: A seed.
        """
        return self.folder / _folder_name(name) / str(seed)

    def settings(
        self, name: str, bindings: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Returns the configs and the bindings of a variant.

        Args:
            name: The name of a variant.
            bindings: Further bindings, which come last.
        """
        parts = [*self.variants[name], *self.configs]
        configs = [part for part in parts if part.endswith(".gin")]
        bound = [part for part in parts if not part.endswith(".gin")]
        return configs, [*bound, *bindings]

    def command(
        self, name: str, seed: int, bindings: Sequence[str]
    ) -> list[str]:
        """Returns the arguments that make Python do a run.

        Args:
            name: The name of a variant.
            seed: A seed.
            bindings: Further bindings, which come last.
        """
        configs, bound = self.settings(name, bindings)
        return [
            *(*_PROGRAM, f"--seed={seed}"),
            f"--workdir={self.run_folder(name, seed)}",
            *(f"--gin_config={file}" for file in configs),
            *(f"--gin_bindings={one}" for one in bound),
        ]


def run_all(
    study: Study,
    bindings: Sequence[str],
    settings: Mapping[str, Mapping[str, str]],
    *more: str,
) -> None:
    """Does the runs that are not finished, for one seed after the other.

    The output of a run goes to a file beside its folder, such as `0.log`, its
    command and settings to another, such as `0.json`.

    Args:
        study: The study.
        bindings: Further bindings for all runs.
        settings: What configs and bindings set for each variant: text by name.
        *more: Further flags for all runs.

    Raises:
        RuntimeError: If a run fails. The runs before it are kept.
        Interrupted: After Ctrl-C; `Terminated` after SIGTERM or SIGHUP. The
            state of the present run is saved.
        ValueError: If a finished run had other settings, or the folder holds
            files that are not those of a study and would be replaced.
    """
    check_replaceable(study)
    runs = [(name, seed) for seed in study.seeds for name in study.variants]
    for name, seed in rich.progress.track(runs, "runs"):
        folder = study.run_folder(name, seed)
        command = [*study.command(name, seed, bindings), *more]
        told = folder.with_name(f"{seed}.json")
        if (folder / "results.json").exists():
            was = json.loads(told.read_text("utf-8"))["settings"]
            differing = differences(
                with_effect(was), with_effect(settings[name])
            )
            if differing:
                raise ValueError(
                    f"The finished run of {name!r} with seed {seed} must have "
                    f"the settings of this study. Received: {folder}, which "
                    f"differs in: {'; '.join(differing)}. Choose another "
                    "workdir."
                )
            continue
        log = folder.with_name(f"{seed}.log")
        print(f"{name}, seed {seed}: {log}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(
            told, {"command": command, "settings": dict(settings[name])}
        )
        with open(log, "w", encoding="utf-8") as file:
            code = run_python(command, file)
        if code:
            text = log.read_text("utf-8", "replace")
            raise RuntimeError(
                f"The run of {name!r} with seed {seed} has failed: "
                f"{failure_reason(text)} ({log})"
            )


def run_python(arguments: Sequence[str], log: IO[str]) -> int:
    """Runs Python, and passes on the signals that ask the study to end.

    The run gets them from here alone, and not from a terminal as well. After a
    first one it saves its state.

    Args:
        arguments: What comes after the name of the program.
        log: Gets the output.

    Returns:
        The exit code, if no signal has come.

    Raises:
        Interrupted: After Ctrl-C, when the run has ended.
        Terminated: After another signal, when the run has ended.
    """
    process: subprocess.Popen | None = None
    asked: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        asked.append(number)
        if number == signal.SIGINT and asked.count(number) == 1:
            signals.say(
                "\nEnding the run after its step, and saving. Ctrl-C again "
                "ends it at once."
            )
        if process is not None:
            _send(process, number)

    with signals.handled(pass_on):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for number in asked:
            _send(process, number)
        code = process.wait()
    if asked:
        raise Interrupted if asked[0] == signal.SIGINT else Terminated
    return code


def _send(process: subprocess.Popen, number: int) -> None:
    # On Windows, the process has the signal already.
    if os.name == "posix":
        process.send_signal(number)


def check_replaceable(study: Study) -> None:
    """Checks that a study replaces no file but those of a study.

    Beside the folder of each run, a study keeps its command and settings, such
    as `0.json`. These tell that the other files are its own.

    Args:
        study: The study.

    Raises:
        ValueError: If another file would be replaced, or the folder holds
            recordings. The message names one.
    """
    check_no_recordings(study.folder)
    found = []
    if not any(map(_is_run, study.folder.glob("*/*.json"))):
        names = [f"results.{suffix}" for suffix in ("md", "json", *FIGURES)]
        found += [study.folder / name for name in names]
    for name in study.variants:
        for seed in study.seeds:
            folder = study.run_folder(name, seed)
            told = folder.with_name(f"{seed}.json")
            if not _is_run(told):
                found += [told, folder.with_name(f"{seed}.log")]
                # Nothing says by which settings it came about.
                found.append(folder / "results.json")
    found = [file for file in found if os.path.lexists(file)]
    if found:
        held = ", ".join(str(one.relative_to(study.folder)) for one in found)
        raise ValueError(
            "`workdir` must be new or hold a study. Received: "
            f"workdir={str(study.folder)!r}, which holds {held}. A study "
            "would replace them: choose another workdir, or move them "
            "elsewhere."
        )


def _is_run(file: pathlib.Path) -> bool:
    """Returns whether a file holds the command and settings of a run."""
    content = files.read_json_object(file) or {}
    return set(content) == {"command", "settings"} and isinstance(
        content["settings"], dict
    )


def failure_reason(log: str) -> str:
    """Finds in the output of a run why it has failed.

    Args:
        log: The output.

    Returns:
        The error message, or the last line of a traceback.
    """
    _, is_told, message = f"\n{log}".rpartition("\nError: ")
    if is_told:
        return message.strip()
    lines = log.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, str) for one in value
    )


def _folder_name(name: str) -> str:
    name = name.replace("+", " plus")
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()
