"""Whether two layers compute the same if they have the same weights.

Their arguments decide. Some of them do not matter for this: names and dtypes,
seeds and initial values, what is active in training only, such as dropout and
SpecAugment, whether something is learned, and how exactly a plan computes.
"""

from collections.abc import Mapping
from typing import Any

import keras

from leaf_audio.frontend.base import Frontend

_OF_SAVING = {
    *("build_config", "compile_config", "module", "registered_name"),
    *("inbound_nodes", "input_layers", "output_layers", "shared_object_id"),
}
_WITHOUT_EFFECT = _OF_SAVING | {
    *("name", "dtype", "seed"),
    # In training only.
    *("drop_path", "dropout", "dropout_rate", "momentum", "noise_shape"),
    *("rate", "regularizer_fn", "spec_augment", "synchronized", "trainable"),
    # How exactly is computed, and what is an error.
    *("tolerance", "allow_empty_filters"),
}
# In layers of this package, values that weights begin with: those of PCEN and
# of Log1p.
_INITIAL_VALUES = {"alpha", "delta", "root", "smooth_coef", "a"}
_BEGINNINGS = ("learn_",)
_ENDINGS = ("_init", "_initializer", "_regularizer")
# Learned filters begin in this band, and may have left it.
_BAND = {"min_freq", "max_freq"}


def difference(
    one: keras.layers.Layer, other: keras.layers.Layer
) -> tuple[str, str, str] | None:
    """Finds an argument by which two layers compute different things.

    Args:
      one: A layer.
      other: A layer of the same class.

    Returns:
      The name of the argument, such as `"compression_fn.floor"`, and its value
      in both layers as text. None if there is no such argument.
    """
    left_out = set(_WITHOUT_EFFECT)
    if type(one).__module__.startswith("leaf_audio."):
        left_out |= _INITIAL_VALUES
    if isinstance(one, Frontend) and one.filter_layer() is not None:
        left_out |= _BAND
    return _difference("", one.get_config(), other.get_config(), left_out)


def _difference(
    name: str, one: Any, other: Any, left_out: set[str]
) -> tuple[str, str, str] | None:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if _described(one) != _described(other):
            return name, _described(one), _described(other)
        if "registered_name" in one:
            is_ours = str(one["registered_name"]).startswith("leaf_audio>")
            left_out = left_out - _INITIAL_VALUES
            left_out |= _INITIAL_VALUES if is_ours else set()
        keys = {*one, *other}
        # Arguments of the layer itself come before those of layers in it,
        # which often follow from them.
        for key in sorted(
            keys, key=lambda key: (_holds_layers(one.get(key)), key)
        ):
            if _matters(key, left_out):
                # The name of an argument, and not of its serialized form.
                inner = name if key == "config" else f"{name}.{key}"
                found = _difference(
                    inner.lstrip("."), one.get(key), other.get(key), left_out
                )
                if found:
                    return found
        return None
    if _is_list(one) and _is_list(other) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            if found := _difference(f"{name}[{i}]", *pair, left_out):
                # Numbers are understood together.
                whole = name, str(list(one)), str(list(other))
                return found if _holds_layers(one) else whole
        return None
    return None if one == other else (name, _described(one), _described(other))


def _matters(key: str, left_out: set[str]) -> bool:
    return not (
        key in left_out or key.startswith(_BEGINNINGS) or key.endswith(_ENDINGS)
    )


def _holds_layers(value: Any) -> bool:
    values = value if _is_list(value) else [value]
    return any(isinstance(one, Mapping) for one in values)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _described(value: Any) -> str:
    """Describes a value; a layer or a function by its name."""
    if isinstance(value, Mapping):
        if "class_name" not in value:
            return "a dictionary"
        inner = value.get("config")
        # A function is named by its config.
        value = inner if isinstance(inner, str) else value["class_name"]
        return value.rpartition(">")[2]
    return repr(value)
