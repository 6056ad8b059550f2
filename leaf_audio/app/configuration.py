"""Reads gin configs and tells which of their bindings have had an effect.

A "binding" is a key such as `Leaf.n_filters` or `data.align.seq_len`, or the
name of a macro, with its value as gin would write it.
"""

import contextlib
import difflib
import inspect
import logging
import pathlib
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gin

from leaf_audio.app.configurables import BUILT_BY_DEFAULT

_Key = tuple[str, str, str]

CONFIGS = pathlib.Path(__file__).parents[2] / "example" / "configs"
_MACRO = "gin.macro"
# Names of bindings of the last parse, see `check_all_used`.
_LEFT_OVER: set[str] = set()

# Like this, `leaf.gin` and `example/configs/leaf.gin` are found from any
# folder, also by the `include` lines of a config that lies elsewhere.
for _folder in (CONFIGS.parents[1], CONFIGS):
    gin.add_config_file_search_path(str(_folder))


def parse(files: Sequence[str], bindings: Sequence[str]) -> None:
    """Replaces gin's configuration by that of `files`, then `bindings`.

    Args:
        files: looked for in the current folder, then beside the package
            `example`, then in `example/configs`.
        bindings: lines in gin's syntax, which override those of the files.

    Raises:
        ValueError: for a file, a configurable or a parameter that does not
            exist, and for a line that is not gin.
    """
    gin.clear_config()
    folders = [pathlib.Path(), CONFIGS.parents[1], CONFIGS]
    for file in files:
        if not any((folder / file).is_file() for folder in folders):
            raise ValueError(
                "`gin_config` must name a file, in the current folder or in "
                f"{CONFIGS}. Received: gin_config={file!r}."
            )
    logging.disable(logging.ERROR)  # One for each folder where a file is not.
    _LEFT_OVER.clear()
    try:
        with _recording_left_overs():
            gin.parse_config_files_and_bindings(files, bindings)
    except SyntaxError as error:
        # Python's own words for a value that is none of gin's.
        what = re.sub(r"malformed node or string.*\n *", "", error.msg)
        lines = ["", *"\n".join(bindings).splitlines()]
        where = (
            f"{what} in line {error.lineno} of {error.filename}"
            if error.filename
            else f"{what} Received: {lines[error.lineno]}"
        )
        raise ValueError(
            f"{where}\n(Text is quoted, a function is written @name, and what "
            "was opened before is closed.)"
        ) from error
    except tokenize.TokenError as error:
        raise ValueError(
            f"{error.args[0]}, in a config or a binding: something is opened "
            "and never closed."
        ) from error
    except (OSError, ImportError) as error:
        raise ValueError(str(error)) from error
    finally:
        logging.disable(logging.NOTSET)


def bound() -> dict[str, str]:
    """Returns all bindings that were parsed."""
    return {key: value for _, _, key, value in _bindings(gin.config._CONFIG)}


def operative() -> dict[str, str]:
    """Returns what has been used so far, defaults included.

    Macros are left out: what they stand for is written in their place.
    """
    return _used(lambda selector: selector != _MACRO)


def macros() -> dict[str, str]:
    """Returns the macros that have been used so far."""
    return _used(lambda selector: selector == _MACRO)


def check_all_used(
    exempt: Mapping[str, str] | None = None, later: Sequence[str] = ()
) -> None:
    """Raises where a binding has had no effect on anything built so far.

    What configures something that a later binding has replaced is exempt: where
    a config says `AudioClassifier.encoder = @ConvNet()`, and then a binding
    `@PANN()`, the config's `ConvNet.filters` need not be taken out.

    Args:
        exempt: bindings that need not have had one, as `bound` returns them.
        later: configurables that are still to be called: their bindings, and
            those of all that these lead to, are left to a later check.

    Raises:
        ValueError: naming every such binding.
    """
    used = {}
    for (scope, selector), parameters in _operative().items():
        used.setdefault(selector, []).append((scope, parameters))
    waiting = set(map(_name, _waiting(later)))
    unused = [
        key
        for scope, selector, key, value in _bindings(gin.config._CONFIG)
        if (exempt or {}).get(key) != value
        and key not in _LEFT_OVER
        and key not in waiting
        and not any(
            f"{inner}/".startswith(f"{scope}/" if scope else "")
            and (selector == _MACRO or key.rpartition(".")[2] in parameters)
            for inner, parameters in used.get(selector, ())
        )
    ]
    if unused:
        raise ValueError(
            "Every binding must be used by what it configures. Received, "
            f"without any effect: {', '.join(sorted(unused))}. Either nothing "
            "in this run builds what they configure, or it gets these "
            "arguments from elsewhere."
        )


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Describes the bindings in which two configurations differ."""
    return [
        f"{key} (was {one.get(key, 'not set')}, is {other.get(key, 'not set')})"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


def message(error: Exception) -> str:
    """Returns an error's message, with what gin adds to it made readable."""
    # gin appends a line for each configurable that the error went through.
    through = r"\n +In call to configurable '(\w+)' \(.*\)"
    calls = [c for c in re.findall(through, str(error)) if c != "train"]
    text = re.sub(through, "", str(error)).strip()
    if calls:
        text += f" (In {', in '.join(calls)}.)"
    return text + _suggestion(text)


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
        selectors = [selector for selector, _ in gin.config._REGISTRY.items()]
        known = {selector.rpartition(".")[2] for selector in selectors}
    elif argument:
        name = argument[2]
        configurable = gin.config._REGISTRY.get_match(argument[1])
        known = inspect.signature(configurable.wrapped).parameters
    else:
        return ""
    close = difflib.get_close_matches(name, known)
    return f"\nDid you mean {' or '.join(close)}?" if close else ""


@contextlib.contextmanager
def _recording_left_overs() -> Iterator[None]:
    """Notes, while gin parses, what a replaced reference has left behind."""
    # gin forgets a value that is bound again, and has no hook for that.
    bind_parameter = gin.config.bind_parameter
    values: dict[_Key, Any] = {}

    def bind(binding_key, value):
        bind_parameter(binding_key, value)
        parsed = gin.config.ParsedBindingKey.parse(binding_key)
        key = parsed.scope_selector_arg
        _LEFT_OVER.discard(_name(key))
        if key in values and _text(values[key]) != _text(value):
            _LEFT_OVER.update(map(_name, _reached_from(values[key], values)))
            _LEFT_OVER.discard(_name(key))
        values[key] = value

    gin.config.bind_parameter = bind
    try:
        yield
    finally:
        gin.config.bind_parameter = bind_parameter


def _waiting(later: Sequence[str]) -> set[_Key]:
    """Finds the bindings of some configurables, and all they lead to."""
    values = {
        (*configurable, argument): value
        for configurable, parameters in gin.config._CONFIG.items()
        for argument, value in parameters.items()
    }
    selectors = {gin.config._REGISTRY.get_match(n).selector for n in later}
    waiting = {key for key in values if key[1] in selectors}
    return waiting.union(*(_reached_from(values[k], values) for k in waiting))


def _reached_from(value: Any, values: Mapping[_Key, Any]) -> set[_Key]:
    """Finds the bindings of all that the references in a value lead to."""
    reached: set[_Key] = set()
    selectors = [r.config_key for r in gin.config.iterate_references(value)]
    while selectors:
        scope, selector = selectors.pop()
        parts = BUILT_BY_DEFAULT.get(selector.rpartition(".")[2], ())
        selectors += [
            (scope, gin.config._REGISTRY.get_match(part).selector)
            for part in parts
        ]
        for key in set(values) - reached:
            is_macro = selector == _MACRO
            if key[1] == selector and (not is_macro or key[0] == scope):
                reached.add(key)
                references = gin.config.iterate_references(values[key])
                selectors += [r.config_key for r in references]
    return reached


def _operative() -> dict:
    # gin keeps what was used for `operative_config_str` alone, in a form that
    # leaves out what scopes and full names are needed for here.
    return gin.config._OPERATIVE_CONFIG


def _used(is_wanted: Callable[[str], bool]) -> dict[str, str]:
    return {
        key: value
        for _, selector, key, value in _bindings(_operative())
        if is_wanted(selector)
    }


def _bindings(config: Mapping) -> Iterator[tuple[str, str, str, str]]:
    for (scope, selector), parameters in list(config.items()):
        for argument, value in parameters.items():
            name = _name((scope, selector, argument))
            yield scope, selector, name, _text(value)


def _name(key: _Key) -> str:
    scope, selector, argument = key
    return (
        scope if selector == _MACRO else f"{_short(scope, selector)}.{argument}"
    )


def _short(scope: str, selector: str) -> str:
    name = gin.config._REGISTRY.minimal_selector(selector)
    return f"{scope}/{name}" if scope else name


def _text(value: Any) -> str:
    """Writes a value with what macros stand for in place of their names."""
    if isinstance(value, dict):
        items = (f"{_text(k)}: {_text(v)}" for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    if isinstance(value, gin.config.ConfigurableReference):
        scope, selector = value.config_key
        if selector == _MACRO and value.config_key in gin.config._CONFIG:
            return _text(gin.config._CONFIG[value.config_key]["value"])
        return f"@{_short(scope, selector)}" + "()" * value.evaluate
    return repr(value)
