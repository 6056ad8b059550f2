"""The settings of a run, read as data.

A gin config is code: its `import` lines run when gin reads it. So a command
that uses a run does not give the run's `config.gin` to gin. The run may come
from somebody else. Training writes the same settings to `settings.json`, which
holds text only. What is read from there are values of arguments that are known
here: those of the functions that load and prepare recordings.
"""

import dataclasses
import tokenize
from collections.abc import Collection, Mapping
from typing import Any

from leaf_audio import data
from leaf_audio.app import bindings, gin_files
from leaf_audio.app.data_configurables import (
    DATA_CONFIGURABLES,
    INDEXES,
    TRANSFORMS,
)
from leaf_audio.app.gin_files import Binding, Reference
from leaf_audio.serving.finished import read_settings
from leaf_audio.training import Workdir

# The parameters of `train` that an evaluation needs too.
DATA_ARGUMENTS = ("dataset", "data_dir", "batch_size")


def read(folder: Workdir) -> dict[str, str]:
    """Reads all settings of a run. Nothing is executed.

    They are those of `settings.json`. A run of an earlier version has no such
    file; its `config.gin` is then read as text: `import` and `include` lines
    have no effect.

    Args:
        folder: The folder of the run.

    Returns:
        Values as text in gin's syntax, by names such as `align.seq_len`.

    Raises:
        ValueError: If there is no run, or its settings cannot be read.
    """
    if folder.settings.exists():
        return read_settings(folder)
    if not folder.config.exists():
        raise ValueError(
            "`workdir` must hold a run of this program. Received: workdir="
            f"{str(folder.path)!r} without {folder.settings.name}."
        )
    try:
        text = folder.config.read_text("utf-8-sig")
        statements = list(gin_files.read_text(text, follow_includes=False))
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError) as error:
        raise ValueError(
            f"{folder.config} must be a gin config. Received: {error}."
        ) from error
    bindings.check_macro_cycles(statements)
    values = {one.key: one.value for one in statements}
    return {
        str(key): bindings.text(value, values) for key, value in values.items()
    }


def data_bindings(
    settings: Mapping[str, str], replaced: Collection[str] = ()
) -> list[str]:
    """Returns the settings of loading and preparing data, as bindings.

    Args:
        settings: What `read` has returned.
        replaced: Names of settings that are bound otherwise, and left out.

    Returns:
        Lines in gin's syntax. Their values are plain values, and references to
        the transforms, indexes and readers of `leaf_audio.data`.

    Raises:
        ValueError: If such a setting has another value. It may refer to a
            function of the user's own.
    """
    lines = []
    for name, text in settings.items():
        if not _is_of_data(name):
            continue
        binding = _without_augmentations(_parse(name, text))
        if str(binding.key) in replaced:
            continue
        for reference in bindings.references(binding.value):
            _check_reference(binding.key, reference)
        # Written anew, and not `text`, so that nothing else can be in it.
        lines.append(f"{binding.key} = {bindings.text(binding.value, {})}")
    return lines


def of_task(settings: Mapping[str, str], task: str) -> dict[str, str]:
    """Returns the settings of one task from those of a run of several.

    Args:
        settings: The settings of the run, as in `settings.json`.
        task: The name of the task.

    Returns:
        The settings with the data set of the task alone. Those that are in the
        scope of its data set have no scope.

    Raises:
        ValueError: The run has no such task.
    """
    sets = _parse("tasks.sets", settings["tasks.sets"]).value
    scopes = [one.scope for one in sets.values() if isinstance(one, Reference)]
    if task not in sets:
        raise ValueError(
            f"`task` must be one of {', '.join(map(repr, sets))}. "
            f"Received: task={task!r}."
        )
    own = sets[task]
    found = {}
    for name, text in settings.items():
        scope, _, _ = name.rpartition("/")
        if name.startswith("tasks.") or (scope and scope in scopes):
            continue
        found[name] = text
    if not isinstance(own, Reference):
        return found | {"train.dataset": repr(own)}
    if own.scope:
        # Also those of functions that the reader calls.
        inside = f"{own.scope}/"
        found |= {
            name.removeprefix(inside): text
            for name, text in settings.items()
            if name.startswith(inside)
        }
    return found | {"train.dataset": repr(own.configurable)}


def _is_of_data(name: str) -> bool:
    """Returns whether a setting is one of loading and preparing data."""
    configurable, _, argument = name.rpartition("/")[2].rpartition(".")
    if configurable == "train":
        return argument in DATA_ARGUMENTS
    short_names = map(gin_files.short_name, (*DATA_CONFIGURABLES, *TRANSFORMS))
    return gin_files.short_name(configurable) in set(short_names)


def _parse(name: str, text: str) -> Binding:
    line = f"{name} = {text}"
    try:
        # In a line of its own there might be another statement.
        (line,) = line.splitlines()
        (binding,) = gin_files.read_text(line, follow_includes=False)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise ValueError(
            "The recorded settings of a run must each be one value in gin's "
            f"syntax. Received: {name} = {text}."
        ) from error
    return binding


def _without_augmentations(binding: Binding) -> Binding:
    """Leaves out what changes no clip in evaluation, and imports a library."""
    if not isinstance(binding.value, (list, tuple)):
        return binding
    value = [
        one
        for one in binding.value
        if not isinstance(one, Reference)
        or gin_files.short_name(one.configurable) != "Audiomentation"
    ]
    return dataclasses.replace(binding, value=value)


def _check_reference(key: gin_files.Key, reference: Any) -> None:
    names = {
        ("audio_folder", "index"): INDEXES,
        ("tasks", "sets"): tuple(data.READERS),
    }.get((key.configurable, key.argument), TRANSFORMS)
    known = {gin_files.short_name(name) for name in names}
    is_known = (
        isinstance(reference, Reference)
        and not reference.is_called
        and reference.configurable in known
    )
    if not is_known:
        raise ValueError(
            f"The recorded {key} must refer to nothing but "
            f"{', '.join(sorted(known))}. Received: {reference}. For "
            "functions of your own, give a config that imports them and binds "
            f"{key}. It is executed. If you trust the run, give its own: "
            "--gin_config=WORKDIR/config.gin"
        )
