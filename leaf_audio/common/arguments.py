"""Answers to arguments that a class does not have.

Keras and Python only say that an argument is unknown. `KnownArguments` also
says which argument was probably meant. It knows the names that other releases
of the same layers use.
"""

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

# Names of other releases, what takes their place here, and what to watch out
# for. An entry applies to classes that have the argument in its second column,
# or to all classes if that is None. The names are those of EfficientLEAF,
# leaf-pytorch, audax, SpeechBrain, librosa and torchaudio.
_OTHER_NAMES = (
    ("sr", "sample_rate", ""),
    ("n_mels", "n_filters", ""),
    ("out_channels", "n_filters", ""),
    ("fmin", "min_freq", ""),
    ("f_min", "min_freq", ""),
    ("init_min_freq", "min_freq", ""),
    ("fmax", "max_freq", ""),
    ("f_max", "max_freq", ""),
    ("init_max_freq", "max_freq", ""),
    ("win_length", "window_len", ", in milliseconds"),
    ("win_len", "window_len", ", in milliseconds"),
    ("window_size", "window_len", ", in milliseconds"),
    ("default_window_len", "window_len", ", in milliseconds"),
    ("hop_length", "window_stride", ", in milliseconds"),
    ("hop_len", "window_stride", ", in milliseconds"),
    ("n_fft", "complex_conv_init", ", as in `GaborInit(n_fft=1024)`"),
    ("normalize_energy", "complex_conv_init", ", as in `GaborInit(...)`"),
    ("initializer", "complex_conv_init", ", as in `GaborInit(...)`"),
    ("initializer", "kernel_initializer", ""),
    ("kernel_init", "kernel_initializer", ""),
    ("pool_init", "pooling_init", ""),
    ("compression", "compression_fn", ""),
    ("pcen_compression", "compression_fn", ': `"pcen"` or None'),
    ("use_pcen", "compression_fn", ': `"pcen"` or None'),
    ("train_pcen", "compression_fn", ", as in `PCENLayer(trainable=False)`"),
    (
        "learnable_pcen",
        "compression_fn",
        ", as in `PCENLayer(trainable=False)`",
    ),
    ("param_dtype", "dtype", ""),
    ("htk", "mel_scale", ': `"htk"` or `"slaney"`'),
    # PCEN and LogTBN.
    ("alpha_coef", "alpha", ""),
    ("gain", "alpha", ""),
    ("delta_coef", "delta", ""),
    ("bias", "delta", ""),
    ("root_coef", "root", ""),
    ("power", "root", ", which is 1 / power"),
    ("r", "root", ", which is 1 / r"),
    ("s", "smooth_coef", ""),
    ("time_constant", "smooth_coef", ", see `smoothing_coefficient`"),
    ("floor_coef", "floor", ""),
    ("eps", "floor", ""),
    ("eps", "epsilon", ""),
    ("learn_logs", "parametrization", ': `"log"` or `"linear"`'),
    ("trainable_a", "learn_a", ""),
    ("median_filter", "median", ': `"append"`, `"subtract"` or `"keep"`'),
    ("append_filtered", "median", ': `"append"`, `"subtract"` or `"keep"`'),
    # What there is no need to tell.
    ("in_channels", None, "the number of channels follows from the input"),
    ("num_channels", None, "the number of channels follows from the input"),
    ("num_bands", None, "the number of bands follows from the input"),
    ("use_legacy_complex", None, "all numbers are real here; leave it out"),
    ("skip_transpose", None, "the axes are always (batch, time, channels)"),
)

# Keras' layers also take these, as **kwargs.
_OF_KERAS_LAYERS = frozenset(("input_shape", "input_dim"))
# The arguments of `keras.layers.Layer` that are worth a suggestion.
_SUGGESTED = frozenset(("name", "dtype", "trainable"))


class KnownArguments:
    """Mixin that explains which arguments a class has.

    Put it before the base class of Keras, which gets the keyword arguments that
    no class of this package has taken:
    `class Leaf(KnownArguments, keras.Model)`.

    Args:
      *args: Arguments of the next base class.
      **kwargs: Keyword arguments of the next base class.

    Raises:
      ValueError: The next base class does not have one of these arguments. The
        message names the argument that was probably meant.
    """

    # Arguments of a base class that a class fixes, and those that it computes.
    _settled: tuple[str, ...] = ()
    _computed: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any):
        cls = type(self)
        mro = cls.__mro__
        taken = set(_OF_KERAS_LAYERS)
        for base in mro[mro.index(KnownArguments) + 1 :]:
            taken.update(_parameters_of(base))
        unknown = [name for name in kwargs if name not in taken]
        if unknown:
            received = ", ".join(f"{name}={kwargs[name]!r}" for name in unknown)
            answers = " ".join(_answer(cls, name) for name in unknown)
            raise ValueError(f"{answers} Received: {received}.")
        super().__init__(*args, **kwargs)


def known_arguments(cls: type[KnownArguments]) -> list[str]:
    """Returns the names of the arguments that a class documents.

    Args:
      cls: A class with the mixin `KnownArguments`.

    Returns:
      The names, in the order of the signatures. Those that the class settles
      itself are left out. Of Keras' arguments, there are `name`, `dtype` and
      `trainable`.
    """
    names: dict[str, None] = {}
    for base in cls.__mro__:
        found = _parameters_of(base)
        if base.__module__.startswith("keras.src.layers.layer"):
            found = {k: p for k, p in found.items() if k in _SUGGESTED}
        names.update(dict.fromkeys(found))
        if found and not _takes_more(base):
            break
    hidden = (*cls._settled, *cls._computed)
    return [name for name in names if name not in hidden]


def _answer(cls: type[KnownArguments], name: str) -> str:
    known = known_arguments(cls)
    start = f"`{name}` is not an argument of {cls.__name__}"
    for here, note in _elsewhere(name):
        if here is None:
            return f"{start}: {note}."
        if here in known:
            return f"{start}. Use `{here}`{note}."
        if here in cls._settled:
            return f"{start}, which fixes `{here}`."
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.65)
    if near:
        return f"{start}. Did you mean `{near[0]}`?"
    return f"{start}, which takes {', '.join(known) or 'none'}."


def _elsewhere(name: str) -> Iterator[tuple[str | None, str]]:
    for other, here, note in _OTHER_NAMES:
        if other == name:
            yield here, note


def _parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """Returns the named parameters of a constructor that `cls` itself has."""
    return {
        name: parameter
        for name, parameter in _constructor_parameters(cls).items()
        if parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _takes_more(cls: type) -> bool:
    return any(
        parameter.kind is parameter.VAR_KEYWORD
        for parameter in _constructor_parameters(cls).values()
    )


def _constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    constructor = vars(cls).get("__init__")
    if constructor is None or cls is object:
        return {}
    parameters = dict(inspect.signature(constructor).parameters)
    parameters.pop("self", None)
    return parameters
