"""Reads gin configs, and checks that each of their bindings has an effect.

A "binding" is a key such as `Leaf.n_filters` or `data.align.seq_len`, or the
name of a macro, with its value as text in gin's syntax. Macros in a value are
replaced by what they stand for.

gin keeps one configuration for the whole process, and so does this module. A
command of the package runs within `restored`, so that a program that uses gin
for itself finds its configuration unchanged.

A config is code: its `import` lines run when it is read.
`leaf_audio.app.recorded` reads the settings of a run without that.
"""

import contextlib
import difflib
import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence

import gin

from leaf_audio.app import any_frontend, configurables, gin_files
from leaf_audio.app import bindings as _bindings
from leaf_audio.app.gin_files import CONFIGS, Binding, Key
from leaf_audio.app.unused import explain, unused

__all__ = [
    "CONFIGS",
    "bound",
    "check_all_used",
    "defaults",
    "dropped",
    "macros",
    "message",
    "operative",
    "operative_text",
    "parse",
    "restored",
]

# All statements of the last parse, in their order.
_STATEMENTS: list[Binding] = []


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Gives gin back the configuration that it has now, after a `with` block.

    The bindings and whether they are locked are restored. gin's record of the
    arguments that were used, and its singletons, begin anew.
    """
    statements = list(_STATEMENTS)
    text, objects = _bindings.text_without_macros(), _bindings.bound_objects()
    is_locked = gin.config_is_locked()
    try:
        yield
    finally:
        gin.clear_config()
        gin.parse_config(text)
        for key, value in objects.items():
            gin.bind_parameter(key, value)
        if is_locked:
            gin.finalize()
        _STATEMENTS[:] = statements


def parse(
    files: Sequence[str],
    bindings: Sequence[str],
    recorded: Sequence[str] = (),
) -> None:
    """Replaces gin's configuration by that of `files`, then `bindings`.

    The configuration is not locked: it can be changed later.

    Args:
        files: Names of configs. A config is looked for in the current folder,
            then among those that come with the package, which may also be
            named `example/configs/leaf.gin`.
        bindings: Lines in gin's syntax, which override those of the files.
        recorded: Lines in gin's syntax, which the files override. Default:
            none.

    Raises:
        ValueError: A file, a configurable, a parameter or a macro does not
            exist, a file is not text in UTF-8, a line is not valid gin, or a
            macro refers to itself.
    """
    gin.clear_config()
    _STATEMENTS.clear()
    gin_files.check_there(files)
    with gin_files.as_value_errors(bindings):
        # gin follows a config that includes itself until Python gives up.
        statements = gin_files.read(files, bindings)
        _bindings.check_macro_cycles(statements)
        # gin logs an error for each place in which it does not find a file.
        logging.disable(logging.ERROR)
        try:
            # gin checks the whole and then locks it. This takes the lock off.
            with gin.unlock_config(), gin_files.same_for_gin():
                gin.parse_config(list(recorded))
                gin.parse_config_files_and_bindings(
                    files, bindings, finalize_config=False
                )
                _STATEMENTS.extend(gin_files.read_text("\n".join(recorded)))
                _STATEMENTS.extend(statements)
                for more in list(any_frontend.for_chosen(_STATEMENTS)):
                    text = _bindings.text(more.value, {})
                    gin.parse_config(f"{more.key} = {text}")
                    _STATEMENTS.append(more)
                gin.finalize()
        except ValueError:
            # gin shows the whole config where a macro is not defined.
            _bindings.check_macros(statements)
            raise
        finally:
            logging.disable(logging.NOTSET)


def bound() -> dict[str, str]:
    """Returns all bindings that are in force."""
    in_force = _bindings.in_force()
    return {
        str(key): _bindings.text(value, in_force)
        for key, value in in_force.items()
    }


def operative() -> dict[str, str]:
    """Returns the arguments of all calls so far, defaults included."""
    return _operative(are_macros=False)


def defaults() -> dict[str, str]:
    """Returns the defaults of the arguments that `operative` returns."""
    found = {}
    for key in _bindings.used():
        if key.is_macro:
            continue
        called = gin.get_configurable(key.configurable)
        parameter = inspect.signature(called).parameters.get(key.argument)
        if parameter is not None and parameter.default is not parameter.empty:
            found[str(key)] = _bindings.text(parameter.default, {})
    return found


def macros() -> dict[str, str]:
    """Returns the macros that have been used so far."""
    return _operative(are_macros=True)


def operative_text() -> str:
    """Returns the arguments of all calls so far as the text of a config."""
    return gin.operative_config_str() + "\n"


def check_all_used(
    exempt: Mapping[str, str] | None = None, later: Sequence[str] = ()
) -> None:
    """Raises an error if a binding has had no effect on anything built so far.

    A binding is exempt if it configures a part that a later binding has
    replaced. An example: a config says `AudioClassifier.encoder = @ConvNet()`,
    and a binding on the command line says `AudioClassifier.encoder = @PANN()`.
    Then `ConvNet.filters` may stay in the config.

    Args:
        exempt: More bindings that are exempt, as `bound` returns them.
        later: Names of configurables that are called later. Their bindings, and
            those of everything that they refer to, are not checked.

    Raises:
        ValueError: At least one binding had no effect. The message names each,
            with its file, its line and the reason.
    """
    in_force, used = _bindings.in_force(), _bindings.used()
    names = {gin_files.short_name(name) for name in later}
    waiting = {key for key in in_force if key.configurable in names}
    for key in list(waiting):
        waiting |= _bindings.reached_from(in_force[key], in_force)
    excused = {
        *waiting,
        *_bindings.replaced(_STATEMENTS),
        *any_frontend.excused(_STATEMENTS),
    }
    found = [
        key
        for key in unused(in_force, used)
        if key not in excused
        and (exempt or {}).get(str(key))
        != _bindings.text(in_force[key], in_force)
    ]
    if not found:
        return
    found.sort(key=str)
    places = {one.key: f" ({one.place})" for one in _STATEMENTS}
    by_reason: dict[str, list[str]] = {}
    for key in found:
        reason = explain(key, in_force, used)
        by_reason.setdefault(reason, []).append(f"{key}{places.get(key, '')}")
    reasons = [
        f"\n  {', '.join(keys)}: {reason}" for reason, keys in by_reason.items()
    ]
    raise ValueError(
        "Every binding must be used by what it configures. Received, without "
        f"any effect: {', '.join(map(str, found))}.{''.join(reasons)}"
    )


def dropped() -> list[str]:
    """Tells which settings have gone with the part that they configure.

    A config that refers to a part and sets its arguments loses nothing if
    another part is chosen. Another config has lost what it asked for: after
    `leaf.gin` and a config that sets `ConvNet.filters`,
    `AudioClassifier.encoder = @PANN()` drops this setting.

    Returns:
        A line for each part that was replaced, with the bindings of other
        files that have had no effect on anything built so far.
    """
    idle = set(unused(_bindings.in_force(), _bindings.used()))
    last = {one.key: one for one in _STATEMENTS}
    lost: dict[Key, list[str]] = {}
    for key, reference in _bindings.replaced(_STATEMENTS).items():
        if key in idle and last[key].file != reference.file:
            told = f"{key} ({last[key].place})"
            lost.setdefault(reference.key, []).append(told)
    return [
        f"no effect, since {replaced} is another: {', '.join(sorted(keys))}"
        for replaced, keys in lost.items()
    ]


def message(error: Exception) -> str:
    """Returns an error's message, with what gin adds to it made readable."""
    # gin appends a line for each configurable that the error went through.
    through = (
        r"\n +In call to configurable '(\w+)' \(.*\)(?: in scope '([\w./]+)')?"
    )
    calls = [c for c in re.findall(through, str(error)) if c[0] != "train"]
    text = re.sub(through, "", str(error)).strip()
    if calls:
        text = _in_configurable(text, *calls[0])
    return text + _suggestion(text)


def _in_configurable(text: str, name: str, scope: str) -> str:
    """Says in which configurable an error arose, and in which scope.

    An argument that the message begins with gets the name of its binding, as in
    "`audio_folder.path` must be a folder".
    """
    scoped = f"{scope}/{name}" if scope else name
    # Also in what the message tells the user to bind, but not in what it has
    # received.
    advice, *rest = re.split(r"(?= Received: )", text, maxsplit=1)
    advice = re.sub(rf"(?<![\w/.]){name}\.", f"{scoped}.", advice)
    text = "".join([advice, *rest])
    if text.startswith(f"`{scoped}."):
        return text
    argument = re.match(r"`(\w+)`", text)
    if argument and argument[1] in _parameters(name):
        return f"`{scoped}.{argument[1]}`{text[argument.end() :]}"
    return f"{text} (In {scoped}.)"


def _parameters(name: str) -> set[str]:
    """Returns the names of the parameters of a configurable."""
    called = gin.get_configurable(name)
    if isinstance(called, type):
        # What gin makes of a class has no signature of its own.
        called = getattr(called, "__init__")  # noqa: B009
    return set(inspect.signature(called).parameters)


def _operative(are_macros: bool) -> dict[str, str]:
    in_force = _bindings.in_force()
    return {
        str(key): _bindings.text(value, in_force)
        for key, value in _bindings.used().items()
        if key.is_macro == are_macros
    }


def _suggestion(message: str) -> str:
    """Finds what was meant by a name that gin does not know."""
    quoted = r"'@?([\w./]+)(?:\(\))?'"
    unknown = re.search(
        f"configurable matching (?:reference )?{quoted}", message
    )
    argument = re.search(
        f"{quoted} doesn't have a parameter named {quoted}", message
    )
    if unknown:
        name = unknown[1].rpartition("/")[2].rpartition(".")[2]
        known = configurables.names()
    elif argument:
        name = argument[2]
        known = _parameters(argument[1])
    else:
        return ""
    begun = sorted(one for one in known if one.startswith(name))
    close = begun[:3] or difflib.get_close_matches(name, known)
    return f"\nDid you mean {' or '.join(close)}?" if close else ""
