"""Registers with gin the functions that read and prepare recordings.

The functions of `leaf_audio.data` call each other without gin. Here they are
connected, so that bindings such as `audio_folder.path` and `align.seq_len` take
effect in `data.load` and `data.prepare`.
"""

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gin

from leaf_audio import data
from leaf_audio.app.factory import Factory
from leaf_audio.data.batches import DEFAULT_TRANSFORMS

# Their bindings take effect when data is loaded, and not before.
DATA_CONFIGURABLES = ("data.load", "data.prepare", *data.READERS)

# The arguments that the data pipeline passes itself, and gin cannot bind.
_PASSED = {
    name: ["samples", "rng"]
    for name in (
        *("align", "background_noise", "circular_shift", "colored_noise"),
        *("gain", "polarity_inversion", "speed_change", "time_mask"),
        *("time_shift", "white_noise"),
    )
} | {
    name: ["samples"]
    for name in ("loudness_normalization", "peak_normalization")
}

# Functions of `leaf_audio.data` that `data.prepare.transform_fns` may name, and
# those that it has by default.
TRANSFORMS = tuple(f"data.{name}" for name in _PASSED)
_DEFAULT_TRANSFORMS = tuple(
    f"data.{function.__name__}" for function in DEFAULT_TRANSFORMS
)

# Functions of `leaf_audio.data` that `audio_folder.index` may name.
INDEXES = (
    *("data.audioset_index", "data.bird_detection_index"),
    *("data.birdclef2021_index", "data.speech_commands_index"),
    *("data.tut2018_index", "data.unlabelled_index"),
)


def transform_fns() -> Sequence[Callable]:
    """Returns the transforms of `data.prepare`, as configs have bound them."""
    bound = gin.get_bindings("data.prepare")
    return bound.get("transform_fns", _default_transforms())


def evaluating_transform_fns() -> Sequence[Callable]:
    """Returns the transforms of `data.prepare`, for use outside training.

    Those of `leaf_audio.data` have their arguments bound and do without gin, so
    that `serving.preparation` can describe them.
    """
    resolved, keys = transform_fns(), _keys()
    if not keys:
        return resolved
    return [
        _without_gin(scope, name) if name in TRANSFORMS else given
        for (scope, name), given in zip(keys, resolved, strict=True)
    ]


def _keys() -> list[tuple[str, str]]:
    """Returns scope and name of each transform that a config refers to.

    A transform that a config calls, as in `@Audiomentation()`, has no name.
    Nor has a macro, and there are none at all if the transforms are one.
    """
    bound = gin.get_bindings("data.prepare", resolve_references=False)
    if "transform_fns" not in bound:
        return [("", name) for name in _DEFAULT_TRANSFORMS]
    references = bound["transform_fns"]
    # Of a macro, the parts are not known here.
    if not isinstance(references, list | tuple):
        return []
    return [
        ("", "") if getattr(one, "evaluate", True) else one.config_key
        for one in references
    ]


def _is_macro(reference: Any) -> bool:
    return getattr(reference, "config_key", ("", ""))[1] == "gin.macro"


def _without_gin(scope: str, name: str) -> Callable:
    """Returns a function of `leaf_audio.data` with its arguments bound."""
    function = getattr(data, name.removeprefix("data."))
    return functools.partial(function, **_bound_arguments(scope, name))


def _bound_arguments(scope: str, name: str) -> dict[str, Any]:
    """Returns the arguments that gin gives a transform."""
    arguments = gin.get_bindings("/".join(filter(None, (scope, name))))
    if name == "data.speed_change" and arguments.get("seq_len") is None:
        with gin.config_scope(scope):
            arguments["seq_len"] = _length_after_speed_change()
    if name == "data.background_noise":
        _fill_in_sample_rate(arguments)
    return arguments


class _ForProcesses:
    """A transform of a config, which other processes can be given.

    They know no bindings. So they get a function of `leaf_audio.data` with its
    arguments. One of the user may call others that have bindings, so they read
    all of them for it.

    Args:
        configured: The transform, as gin has made it.
        scope: The scope of the reference to it.
        name: Its name in gin.
    """

    def __init__(self, configured: Callable, scope: str, name: str):
        functools.update_wrapper(self, configured)
        self._configured = configured
        self._scope = scope
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._configured(*args, **kwargs)

    def __reduce__(self) -> Any:
        if self._name in TRANSFORMS:
            return _without_gin(self._scope, self._name).__reduce__()
        module = self._configured.__module__
        config = gin.config_str()
        return _in_process, (module, config, self._scope, self._name)


def _in_process(module: str, config: str, scope: str, name: str) -> Callable:
    """Returns a transform of the user in a process that knows no bindings.

    Args:
        module: The module that registers it.
        config: All bindings.
        scope: The scope of the reference to it.
        name: Its name in gin.
    """
    importlib.import_module(module)
    _parse_once(config)
    configured = gin.get_configurable(name)

    @functools.wraps(configured)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with gin.config_scope(scope or None):
            return configured(*args, **kwargs)

    return scoped


@functools.cache
def _parse_once(config: str) -> None:
    # What other modules register is of no use here.
    gin.parse_config(config, skip_unknown=True)


def _for_processes(transform_fns: Sequence[Callable]) -> Sequence[Callable]:
    """Has the transforms of a config work in other processes."""
    keys = _keys()
    bound = gin.get_bindings("data.prepare", resolve_references=False)
    references = bound.get("transform_fns", ())
    if not isinstance(references, list | tuple):
        references = [references]
    if len(keys) != len(transform_fns) or any(map(_is_macro, references)):
        raise ValueError(
            "`data.prepare.transform_fns` must be a list of functions, and "
            "neither be nor hold a macro, with `worker_processes`. Received: "
            f"transform_fns={transform_fns}."
        )
    return [
        _ForProcesses(given, scope, name) if name else given
        for (scope, name), given in zip(keys, transform_fns, strict=True)
    ]


def evaluation_hop() -> int | None:
    """Returns the `evaluation_hop` of `data.prepare`, as configs bind it."""
    return gin.get_bindings("data.prepare").get("evaluation_hop")


def _default_transforms() -> Sequence[Callable]:
    return [gin.get_configurable(name) for name in _DEFAULT_TRANSFORMS]


@functools.wraps(data.load)
def _load(*args: Any, **kwargs: Any) -> Any:
    """Calls `data.load` with the readers that gin configures."""
    readers = {name: gin.get_configurable(name) for name in data.READERS}
    with warnings.catch_warnings():
        # A command prints the warnings of the data itself.
        warnings.simplefilter("ignore", data.DataWarning)
        return data.load(*args, **{"readers": readers, **kwargs})


@functools.wraps(data.prepare)
def _prepare(*args: Any, **kwargs: Any) -> Any:
    """Calls `data.prepare`. The default transforms take their bindings."""
    bound = inspect.signature(data.prepare).bind(*args, **kwargs)
    given = bound.arguments.setdefault("transform_fns", _default_transforms())
    if bound.arguments.get("worker_processes"):
        bound.arguments["transform_fns"] = _for_processes(given)
    return data.prepare(*bound.args, **bound.kwargs)


@functools.wraps(data.speed_change)
def _speed_change(*args: Any, **kwargs: Any) -> Any:
    """Calls `data.speed_change`, by default with the `seq_len` of `align`."""
    if kwargs.get("seq_len") is None:
        kwargs["seq_len"] = _length_after_speed_change()
    return data.speed_change(*args, **kwargs)


def _length_after_speed_change() -> int | None:
    """Returns `align.seq_len` if `align` follows directly, or else None.

    A function between the two could need a longer clip, and an `align` of a
    scope may have another length.
    """
    bound = gin.get_bindings("data.prepare", resolve_references=False)
    transform_fns = bound.get("transform_fns")
    # It may be a macro, whose parts are not known here.
    if gin.current_scope() or not isinstance(transform_fns, list | tuple):
        return None
    names = [
        "/".join(filter(None, getattr(one, "config_key", ())))
        for one in transform_fns
    ]
    if "data.speed_change" not in names:
        return None
    _, *following = names[names.index("data.speed_change") :]
    if following[:1] != ["data.align"]:
        return None
    length = gin.get_bindings("data.align").get("seq_len")
    # `align` tells of a length that is not valid, by its own name.
    return length if isinstance(length, int) and length > 0 else None


# gin does not look through `functools.wraps`.
for _function in (_load, _prepare, _speed_change):
    setattr(_function, "__signature__", inspect.signature(_function))  # noqa: B010


def _at_rate_of_data(function: Callable) -> Callable:
    """Has `data.load.sample_rate` be the default of `sample_rate` by gin."""
    signature = inspect.signature(function)
    parameters = {
        **signature.parameters,
        "sample_rate": signature.parameters["sample_rate"].replace(
            default=None
        ),
    }

    @functools.wraps(function, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _fill_in_sample_rate(kwargs)
        return function(*args, **kwargs)

    setattr(  # noqa: B010
        wrapped,
        "__signature__",
        signature.replace(parameters=list(parameters.values())),
    )
    return wrapped


def _fill_in_sample_rate(arguments: dict[str, Any]) -> None:
    if arguments.get("sample_rate") is None:
        loading = gin.get_bindings("data.load")
        arguments["sample_rate"] = loading.get("sample_rate")


def _uncalled(index: Callable) -> Callable:
    """Tells a config that calls an index, as `@audioset_index()` does."""

    @functools.wraps(index)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs:
            raise ValueError(
                "`audio_folder.index` must be a function, which is a reference "
                f"without parentheses: @{index.__name__}. Received: "
                f"@{index.__name__}()."
            )
        return index(*args, **kwargs)

    return wrapped


# Functions whose defaults by gin depend on other bindings.
_WRAPPED = {
    "background_noise": _at_rate_of_data(data.background_noise),
    "speed_change": _speed_change,
}


def _register() -> None:
    for name, passed in _PASSED.items():
        function = _WRAPPED.get(name, getattr(data, name))
        gin.external_configurable(function, name, "data", denylist=passed)
    gin.external_configurable(
        Factory(_at_rate_of_data(data.Audiomentation)), "Audiomentation", "data"
    )
    for index in INDEXES:
        name = index.removeprefix("data.")
        function = _uncalled(getattr(data, name))
        gin.external_configurable(function, name, "data", denylist=["folder"])
    for name, reader in data.READERS.items():
        gin.external_configurable(
            reader,
            name,
            "leaf_audio.data",
            denylist=["data_dir", "fallback_sample_rate", "for_training"],
        )
    gin.external_configurable(
        _load, "load", "data", denylist=["for_training", "readers"]
    )
    gin.external_configurable(
        # `train.pretraining` decides about the views, `train.teacher` about
        # further targets.
        _prepare,
        "prepare",
        "data",
        denylist=["audio_data", "more_targets", "views"],
    )


_register()
