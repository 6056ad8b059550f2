"""What is done to a clip before a model gets it, as plain data.

A run names the functions that prepare its clips, and their arguments, in
`settings.json`. A packed model carries them as a list of dictionaries such as
`{"name": "align", "seq_len": 16000}`. Both are read here as data: only the
functions of `leaf_audio.data` listed below can be named. Augmentations are left
out, because they change nothing outside training.
"""

import ast
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leaf_audio import data
from leaf_audio.common.checks import (
    check_is,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.data.transforms import check_transforms

_PREPARING = {
    function.__name__: function
    for function in (
        data.align,
        data.loudness_normalization,
        data.peak_normalization,
    )
}
_ONLY_IN_TRAINING = frozenset(
    (
        *("Audiomentation", "background_noise", "circular_shift"),
        *("colored_noise", "gain", "polarity_inversion", "speed_change"),
        *("time_mask", "time_shift", "white_noise"),
    )
)
# What the pipeline passes itself.
_PASSED = frozenset(("samples", "rng"))
_TRANSFORMS = "prepare.transform_fns"
_DEFAULT = "[@align, @loudness_normalization]"
# A reference in gin's syntax, such as `@short/data.align`.
_REFERENCE = re.compile(r"@((?:\w+/)*)(?:\w+\.)*(\w+)((?:\(\))?)")


def from_settings(
    settings: Mapping[str, str],
) -> tuple[list[Callable], int | None]:
    """Reads how a run prepares its clips in an evaluation.

    Args:
        settings: Values in gin's syntax, by names such as `align.seq_len`, as
            `settings.json` of a run has them.

    Returns:
        The functions, as for `leaf_audio.data.prepare`, and `evaluation_hop`.

    Raises:
        ValueError: If the run uses a function that is not one of
            `leaf_audio.data`, or a setting cannot be read.
    """
    settings = {_short(name): text for name, text in settings.items()}
    if not any(name.startswith("prepare.") for name in settings):
        raise ValueError(
            "`workdir` must hold a run that has recorded how its clips are "
            "prepared. Received: settings without `prepare`, as training "
            "without gin leaves them. Give `transform_fns`."
        )
    text = settings.get(_TRANSFORMS, _DEFAULT)
    references = list(_REFERENCE.finditer(text))
    rest = _REFERENCE.sub("", text)
    is_list = re.fullmatch(r"\s*[\[(][\s,]*[\])]\s*", rest)
    called = {one[2] for one in references if one[3]}
    if not is_list or called - _ONLY_IN_TRAINING:
        raise ValueError(
            f"The recorded {_TRANSFORMS} must be a list of functions, such as "
            f"{_DEFAULT}. Received: {text}."
        )
    functions = []
    for reference in references:
        scope, name, _ = reference.groups()
        if name in _ONLY_IN_TRAINING:
            continue
        if name not in _PREPARING:
            raise ValueError(
                f"The recorded {_TRANSFORMS} must name nothing but functions "
                f"of leaf_audio.data. Received: {reference[0]}. For functions "
                "of your own, give them as `transform_fns`, or to a command a "
                "config that imports them and binds data.prepare."
                "transform_fns. It is executed. If you trust the run, give its "
                "own: --gin_config=WORKDIR/config.gin"
            )
        functions.append(_with(name, _arguments(settings, scope, name)))
    key = "prepare.evaluation_hop"
    hop = _plain(key, settings.get(key, "None"))
    check_unless_none(check_positive_int, **{key: hop})
    return functions, hop


def _short(name: str) -> str:
    """Leaves modules out of a name such as `scope/data.align.seq_len`."""
    scope, slash, rest = name.rpartition("/")
    return f"{scope}{slash}{'.'.join(rest.split('.')[-2:])}"


def _arguments(
    settings: Mapping[str, str], scope: str, name: str
) -> dict[str, Any]:
    """Returns the recorded arguments of a function, those of a scope first."""
    arguments = {}
    for argument in _parameters(name):
        for key in (f"{scope}{name}.{argument}", f"{name}.{argument}"):
            if key in settings:
                arguments[argument] = _plain(key, settings[key])
                break
    return arguments


def _plain(key: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"The recorded {key} must be a plain value. Received: {text[:200]}."
        ) from error


def to_config(transform_fns: Sequence[Callable]) -> list[dict[str, Any]]:
    """Describes functions that prepare a clip, as plain data.

    Args:
        transform_fns: The functions, as for `leaf_audio.data.prepare`, or
            `functools.partial` of them.

    Returns:
        For each function its name and the arguments that are bound to it.
        Augmentations are left out.

    Raises:
        ValueError: If a function is not one of `leaf_audio.data`.
    """
    check_transforms(transform_fns)
    config = []
    for one in transform_fns:
        arguments: dict[str, Any] = {}
        function: Any = one
        if isinstance(function, functools.partial) and not function.args:
            arguments, function = function.keywords, function.func
        name = getattr(function, "__name__", type(function).__name__)
        is_known = function is getattr(data, name, None)
        if name in _ONLY_IN_TRAINING and (
            is_known or isinstance(function, data.Audiomentation)
        ):
            continue
        if name not in _PREPARING or not is_known:
            raise ValueError(
                "`transform_fns` must hold functions of leaf_audio.data only, "
                "so that a file can name them. Received: "
                f"{name}, which a reader of the file would not have."
            )
        config.append({"name": name, **arguments})
    return config


def with_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the arguments that have their default values.

    Args:
        entry: A dictionary of those that `to_config` returns.
    """
    parameters = inspect.signature(_PREPARING[entry["name"]]).parameters
    defaults = {
        one: parameters[one].default for one in _parameters(entry["name"])
    }
    return {"name": entry["name"], **defaults, **entry}


def from_config(config: Any) -> list[Callable]:
    """Makes the functions that `to_config` has described.

    Args:
        config: What `to_config` has returned.

    Returns:
        The functions, with their arguments bound.

    Raises:
        ValueError: If the description is not valid.
    """
    functions = []
    for entry in check_is("preparation", config, list, "a list of functions"):
        arguments = dict(
            check_is("preparation", entry, dict, "a list of dictionaries")
        )
        name = arguments.pop("name", None)
        is_known = isinstance(name, str) and name in _PREPARING
        if not (is_known and set(arguments) <= set(_parameters(name))):
            raise ValueError(
                "`preparation` must name functions of leaf_audio.data and "
                f"their arguments. Received: {entry!r}."
            )
        functions.append(_with(name, arguments))
    return functions


def _parameters(name: str) -> list[str]:
    parameters = inspect.signature(_PREPARING[name]).parameters
    return [one for one in parameters if one not in _PASSED]


def _with(name: str, arguments: Mapping[str, Any]) -> Callable:
    """Binds arguments to a function, which raises ValueError for wrong ones."""
    bound = functools.partial(_PREPARING[name], **arguments)
    data.transform(np.zeros(1, np.float32), [bound])
    return bound
