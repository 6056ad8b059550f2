"""Registers with gin the functions that read and prepare recordings.

The functions of `leaf_audio.data` call each other without gin. Here they are
connected, so that bindings such as `audio_folder.path` and `align.seq_len` take
effect in `data.load` and `data.prepare`.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gin

from leaf_audio import data
from leaf_audio.app.factory import Factory

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


# Functions of `leaf_audio.data` that `data.prepare.transform_fns` may name.
TRANSFORMS = tuple(f"data.{name}" for name in _PASSED)

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
    bound = gin.get_bindings("data.prepare", resolve_references=False)
    references = bound.get("transform_fns", ())
    resolved = transform_fns()
    # It may be a macro, whose parts are not known here.
    if not isinstance(references, list | tuple):
        return resolved
    keys = [getattr(one, "config_key", ("", "")) for one in references]
    keys = keys or [("", "data.align"), ("", "data.loudness_normalization")]
    return [
        _without_gin(scope, name) if name in TRANSFORMS else given
        for (scope, name), given in zip(keys, resolved, strict=True)
    ]


def _without_gin(scope: str, name: str) -> Callable:
    arguments = gin.get_bindings("/".join(filter(None, (scope, name))))
    function = getattr(data, name.removeprefix("data."))
    return functools.partial(function, **arguments)


def evaluation_hop() -> int | None:
    """Returns the `evaluation_hop` of `data.prepare`, as configs bind it."""
    return gin.get_bindings("data.prepare").get("evaluation_hop")


def _default_transforms() -> Sequence[Callable]:
    names = ("data.align", "data.loudness_normalization")
    return [gin.get_configurable(name) for name in names]


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
    bound.arguments.setdefault("transform_fns", _default_transforms())
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
    return gin.get_bindings("data.align").get("seq_len")


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
        if kwargs.get("sample_rate") is None:
            loading = gin.get_bindings("data.load")
            kwargs["sample_rate"] = loading.get("sample_rate")
        return function(*args, **kwargs)

    setattr(  # noqa: B010
        wrapped,
        "__signature__",
        signature.replace(parameters=list(parameters.values())),
    )
    return wrapped


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
