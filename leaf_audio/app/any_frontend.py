"""Settings for whichever frontend is chosen.

A recipe such as `own_recordings.gin` does not know which frontend it is for.
What it asks for is bound as `Frontend.sample_rate` and `Frontend.spec_augment`.
When a config is read, the frontend that `AudioClassifier.frontend` refers to
gets each of these bindings, unless it does not take the argument or has a
binding of its own. So `Frontend.sample_rate = 8000` stands for
`Leaf.sample_rate = 8000` if the frontend is a Leaf.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gin

from leaf_audio.app import bindings
from leaf_audio.app.gin_files import Binding, Key, Reference

NAME = "Frontend"


def any_frontend(sample_rate: Any = None, spec_augment: Any = None) -> None:
    """Holds the settings of all frontends; gin knows it as `Frontend`.

    Args:
        sample_rate: See `leaf_audio.frontend.Leaf`.
        spec_augment: See `leaf_audio.frontend.Leaf`.

    Raises:
        ValueError: Always. It is bound, and not called.
    """
    raise ValueError(
        f"@{NAME} must not be called, it holds settings for all frontends. "
        "Choose one, such as @Leaf()."
    )


def for_chosen(statements: Iterable[Binding]) -> Iterator[Binding]:
    """Yields the bindings that the chosen frontend gets from `Frontend.*`.

    Args:
        statements: All statements, in the order in which gin has read them.

    Yields:
        Bindings of the frontend. Each has the file and line of the statement
        that it comes from.
    """
    last = {one.key: one for one in statements}
    values = {key: one.value for key, one in last.items()}
    for name in chosen(values):
        for key, statement in last.items():
            own = Key("", name, key.argument)
            if (
                _is_shared(key)
                and own not in last
                and takes(name, key.argument)
            ):
                yield Binding(
                    own, statement.value, statement.file, statement.line
                )


def chosen(values: Mapping[Key, Any]) -> set[str]:
    """Returns the names of the frontends that a classifier may be made with.

    Args:
        values: The values of all bindings, by key.
    """
    open_ends = [
        value
        for key, value in values.items()
        if (key.configurable, key.argument) == ("AudioClassifier", "frontend")
    ]
    names = set()
    seen: set[Key] = set()
    while open_ends:
        for one in bindings.references(open_ends.pop()):
            if isinstance(one, Reference):
                names.add(one.configurable)
                continue
            key = Key("", "", one.name)
            if key in values and key not in seen:
                seen.add(key)
                open_ends.append(values[key])
    return names


def excused(statements: Iterable[Binding]) -> set[Key]:
    """Returns the bindings that need not be used, for they are defaults.

    A config may set `Frontend.sample_rate` although some frontend takes none.
    This is true of the macros and parts that such a binding refers to too, if
    their values stand in the same file. A recipe in another file that sets
    `spec_augment = @SpecAugment()` asks for something, and is not excused;
    `spec_augment = False` asks for nothing. A binding of the command line is
    not excused if the chosen frontend does not take it.

    Args:
        statements: All statements, in the order in which gin has read them.
    """
    last = {one.key: one for one in statements}
    values = {key: one.value for key, one in last.items()}
    names = chosen(values)
    found = set()
    for key, statement in last.items():
        if not _is_shared(key):
            continue
        if statement.file or any(takes(name, key.argument) for name in names):
            found.add(key)
        if statement.file:
            found |= {
                one
                for one in bindings.reached_from(statement.value, values)
                if last[one].file == statement.file or last[one].value is False
            }
    return found


def takes(name: str, argument: str) -> bool:
    """Returns whether a configurable has an argument.

    Args:
        name: Its name; False if gin does not know it.
        argument: The name of the argument.
    """
    try:
        function = gin.get_configurable(name)
        return argument in inspect.signature(function).parameters
    # Functions written in C may have no signature.
    except (KeyError, ValueError):
        return False


def refusal(key: Key, values: Mapping[Key, Any]) -> str:
    """Says which frontend has not taken a setting of all frontends.

    Args:
        key: A binding that nothing has used.
        values: The values of all bindings, by key.

    Returns:
        A part of a sentence, or an empty text if `key` is something else.
    """
    names = sorted(chosen(values))
    for shared in filter(_is_shared, values):
        leads_here = key == shared or key in bindings.reached_from(
            values[shared], values
        )
        if (
            names
            and leads_here
            and not any(takes(n, shared.argument) for n in names)
        ):
            return f"@{names[0]}() takes no `{shared.argument}`"
    return ""


def _is_shared(key: Key) -> bool:
    return key.configurable == NAME and not key.scope


gin.external_configurable(any_frontend, NAME, "leaf_audio.app")
