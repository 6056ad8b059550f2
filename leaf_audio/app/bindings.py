"""Tells which bindings are in force, used, replaced, or wait to be used."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin

from leaf_audio.app.gin_files import Binding, Key, Macro, Reference, read_text

Values = Mapping[Key, Any]


def in_force() -> dict[Key, Any]:
    """Returns the values of all bindings that gin holds now."""
    return _values(gin.config_str())


def used() -> dict[Key, Any]:
    """Returns the arguments of all calls so far, defaults included.

    Arguments that the caller passed itself are left out.
    """
    return _values(gin.operative_config_str())


def called() -> set[tuple[str, str]]:
    """Returns the scope and the name of each configurable called so far."""
    titles = _configurables(gin.operative_config_str())
    parts = (title.rpartition("/") for title in titles)
    return {(scope, name) for scope, _, name in parts}


def bound_objects() -> dict[str, Any]:
    """Returns the values that gin holds, by their names.

    Unlike the text of a config, they include values that no config can state,
    such as arrays. References are gin's own objects.
    """
    config = gin.config_str()
    objects = {
        f"{name}.{argument}": value
        for name in _configurables(config)
        for argument, value in gin.get_bindings(
            name, resolve_references=False, inherit_scopes=False
        ).items()
    }
    # What belongs to a value of several lines is indented.
    for name in re.findall(r"^([\w./]+) = ", _macros(config), re.MULTILINE):
        key = f"{name}/gin.macro.value"
        objects[key] = gin.query_parameter(key)
    return objects


def text_without_macros() -> str:
    """Returns gin's configuration as the text of a config, macros apart.

    gin writes all macros into such a text, also where no config can state the
    value.
    """
    config = gin.config_str()
    return config.replace(_macros(config), "")


def _configurables(config: str) -> list[str]:
    """Returns what a config of gin has parameters for, scopes included."""
    return re.findall(r"^# Parameters for (.+):$", config, re.MULTILINE)


def _macros(config: str) -> str:
    """Returns the part of a config of gin that sets macros."""
    pattern = r"^# Macros:$.*?(?=^# Parameters for |\Z)"
    found = re.search(pattern, config, re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def replaced(statements: Iterable[Binding]) -> dict[Key, Binding]:
    """Finds the bindings of parts that a later statement replaces.

    An example: a config says `AudioClassifier.encoder = @ConvNet()` and
    `ConvNet.filters = [64, 64]`. Then a binding on the command line says
    `AudioClassifier.encoder = @PANN()`. Nothing builds a ConvNet any more, and
    `ConvNet.filters` is returned.

    Args:
        statements: All statements, in the order in which gin has read them.

    Returns:
        For each key that was bound before the replacement, and not again after
        it, the statement that was replaced.
    """
    found: dict[Key, Binding] = {}
    last: dict[Key, Binding] = {}
    for statement in statements:
        key = statement.key
        if key in last and last[key].value != statement.value:
            values = {k: one.value for k, one in last.items()}
            for reached in reached_from(last[key].value, values):
                found[reached] = last[key]
        found.pop(key, None)
        last[key] = statement
    return found


def check_macros(statements: Sequence[Binding]) -> None:
    """Raises a ValueError if a binding in force refers to an unknown macro.

    Args:
        statements: All statements, in the order in which gin has read them.
    """
    bound = {statement.key: statement for statement in statements}
    known = {key.argument for key in bound if key.is_macro}
    for statement in bound.values():
        for one in references(statement.value):
            if (
                isinstance(one, Macro)
                and one.name not in known
                and not _is_constant(one.name)
            ):
                near = difflib.get_close_matches(one.name, known)
                hint = f" Did you mean %{near[0]}?" if near else ""
                raise ValueError(
                    f"`{one}` must be defined, by a line such as "
                    f"{one.name} = 1. Received: {statement.key} = "
                    f"{text(statement.value, {})} ({statement.place}).{hint}"
                )


def check_macro_cycles(statements: Iterable[Binding]) -> None:
    """Raises a ValueError if a macro refers to itself, also by others.

    gin would follow it until Python gives up.

    Args:
        statements: All statements, in the order in which gin has read them.
    """
    bound = {
        one.key.argument: one
        for one in statements
        if one.key.is_macro and not _is_constant(one.key.argument)
    }
    for name in bound:
        cycle = [bound[one] for one in _way_back(name, bound)]
        if cycle:
            told = (f"{b.key} = {text(b.value, {})} ({b.place})" for b in cycle)
            raise ValueError(
                f"`%{name}` must not refer to itself. Received: "
                f"{', '.join(told)}."
            )


def _way_back(name: str, bound: Mapping[str, Binding]) -> list[str]:
    """Returns the macros from one to itself, or an empty list."""
    ways, seen = [[name]], set()
    while ways:
        way = ways.pop(0)
        for one in references(bound[way[-1]].value):
            if not isinstance(one, Macro) or one.name not in bound:
                continue
            if one.name == name:
                return way
            if one.name not in seen:
                seen.add(one.name)
                ways.append([*way, one.name])
    return []


def _is_constant(name: str) -> bool:
    """Returns whether `gin.constant` has defined a name."""
    try:
        gin.query_parameter(name)
    except ValueError:
        return False
    return True


def reached_from(value: Any, values: Values) -> set[Key]:
    """Finds the bindings of everything that the references in a value lead to.

    Args:
        value: The value of a binding.
        values: The bindings to look among, by key.

    Returns:
        The keys of bindings of each configurable and macro in `value`, of each
        in the values of those, and so on.
    """
    reached: set[Key] = set()
    open_ends = list(references(value))
    while open_ends:
        configures = _configures(open_ends.pop())
        for key in filter(configures, set(values) - reached):
            reached.add(key)
            open_ends += references(values[key])
    return reached


def references(value: Any) -> Iterator[Reference | Macro]:
    """Yields all references and macros in a value, also in nested ones."""
    if isinstance(value, Reference | Macro):
        yield value
    elif isinstance(value, Mapping):
        yield from references(list(value.items()))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for one in value:
            yield from references(one)


def text(value: Any, values: Values) -> str:
    """Writes a value, in the same way however it was written in a config.

    Args:
        value: The value of a binding.
        values: The bindings in force. A macro among them is replaced by its
            value.

    Returns:
        The value in gin's syntax, a tuple as a list.
    """
    if isinstance(value, dict):
        items = [(text(k, values), text(v, values)) for k, v in value.items()]
        return "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text(v, values) for v in value) + "]"
    if isinstance(value, Macro):
        key = Key("", "", value.name)
        return text(values[key], values) if key in values else str(value)
    return str(value) if isinstance(value, Reference) else repr(value)


def _values(config: str) -> dict[Key, Any]:
    return {binding.key: binding.value for binding in read_text(config)}


def _configures(target: Reference | Macro) -> Callable[[Key], bool]:
    if isinstance(target, Macro):
        return lambda key: key.is_macro and key.argument == target.name
    return lambda key: key.configurable == target.configurable
