"""Frontends with the weights of other systems.

The same audio gives the same features as in the system that the weights are
from. What has no counterpart here is refused. `foreign_weights` reads the
weights, `layouts` has their names, and `foreign_frontends` the differences
between the systems.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from leaf_audio.common.checks import check_choice, check_positive
from leaf_audio.serving.foreign_frontends import MAKERS, Arrays, Settings
from leaf_audio.serving.foreign_weights import Lazy, read_weights

# The weights by which each system is recognised.
_MARKS = {
    "original": ("_complex_conv/_kernel", "_complex_conv/kernel"),
    "leaf_pytorch": ("_complex_conv._kernel",),
    "speechbrain": ("complex_conv.kernel",),
    "efficientleaf": ("filterbank.center_freqs",),
    "efficientleaf_leaf": ("filterbank.center_freqs",),
}


def import_frontend(
    source: Any,
    system: str | None = None,
    sample_rate: float = 16000,
    window_len: float = 25.0,
    window_stride: float = 10.0,
    compression_fn: Any = "auto",
    tolerance: float | None = 0,
    spec_augment: Any = False,
    num_groups: int | None = None,
    conv_win_factor: float | None = None,
    stride_factor: float | None = None,
    name: str | None = None,
) -> keras.Model:
    """Makes a frontend with the weights of another system.

    The same audio gives the same features, up to 1e-4, as in the system that
    the weights are from. The axes are those of this package: the systems on
    PyTorch, except SpeechBrain, give `(batch, filters, frames)`.

    Args:
      source: The weights by their published names. A mapping of names to arrays
        or tensors, such as a state dict, also of a whole model that contains
        the frontend; a `torch.nn.Module`; the prefix of a TensorFlow
        checkpoint; or the name of a file, `.npz` or of PyTorch. No code of a
        file is run.
      system: `"original"`, the release of LEAF (google-research/leaf-audio);
        `"leaf_pytorch"` (SarthakYadav/leaf-pytorch); `"speechbrain"`, the class
        `speechbrain.lobes.features.Leaf`; `"efficientleaf"` or
        `"efficientleaf_leaf"`, the classes `EfficientLeaf` and `Leaf` of
        CPJKU/EfficientLEAF, whose weights have the same names. Defaults to
        None: the names decide.
      sample_rate: Positive number. Sample rate of the audio, in Hz. Defaults to
        16000.
      window_len: Positive number. Length of the windows, in milliseconds.
        Defaults to 25.0.
      window_stride: Positive number. Hop between frames, in milliseconds.
        Defaults to 10.0.
      compression_fn: What to do with the energies, if the weights do not tell.
        As in `frontend.Leaf`, or a PCENLayer or LogTBN that gets the weights.
        It must have no weights that `source` lacks, but for a fixed `a` of
        LogTBN. Defaults to `"auto"`: what the system does by default.
      tolerance: Relative error that a Leaf may have, as in `frontend.Leaf`; 0
        computes all exactly, which takes several times as long. None is the
        default of `frontend.Leaf`. Defaults to 0.
      spec_augment: As in `frontend.Leaf`. Defaults to False.
      num_groups: As in `frontend.EfficientLeaf`, for `"efficientleaf"` only.
        Defaults to None, which is 4.
      conv_win_factor: Likewise. Defaults to None, which is 4.77.
      stride_factor: Likewise. Defaults to None, which is 1.0.
      name: String, the name of the model. Defaults to None, which is that of
        its class.

    Returns:
      A built frontend: a `Leaf`, a `SincNet`, `SincNetPlus` or
      `TimeDomainFilterbanks` of the original release, or an `EfficientLeaf`.

    Raises:
      ValueError: If weights are missing, unknown, of another shape or not
        finite, if an argument is out of range, or if the features cannot be the
        same. The message says which.
      ImportError: If a file needs PyTorch, which is not installed.

    Example:

    ```python
    from speechbrain.lobes.features import Leaf

    trained = Leaf(40, in_channels=1)
    leaf = leaf_audio.import_frontend(trained)
    features = leaf(waveforms)
    ```
    """
    if system is not None:
        check_choice("system", system, tuple(_MARKS))
    for argument, value in (
        ("sample_rate", sample_rate),
        ("window_len", window_len),
        ("window_stride", window_stride),
    ):
        check_positive(argument, value)
    groups = {
        argument: value
        for argument, value in (
            ("num_groups", num_groups),
            ("conv_win_factor", conv_win_factor),
            ("stride_factor", stride_factor),
        )
        if value is not None
    }
    system, found = _recognise(read_weights(source), system)
    if groups and system != "efficientleaf":
        received = ", ".join(f"{n}={value!r}" for n, value in groups.items())
        raise ValueError(
            "`num_groups`, `conv_win_factor` and `stride_factor` must be None "
            "unless the weights are of an EfficientLeaf. Received: "
            f"{received}, with weights of {system!r}."
        )
    settings = Settings(
        sample_rate=sample_rate,
        window_len=window_len,
        window_stride=window_stride,
        compression_fn=compression_fn,
        tolerance=tolerance,
        spec_augment=spec_augment,
        name=name,
        groups=groups,
    )
    imported, arrays = MAKERS[system](found, settings)
    imported.build((None, None))
    _assign(imported, arrays)
    imported.replan()
    return imported


def _recognise(
    weights: Mapping[str, Lazy], system: str | None
) -> tuple[str, dict[str, Lazy]]:
    """Finds the frontend among the weights of a model.

    Args:
      weights: Weights by name.
      system: Name of the system, or None.

    Returns:
      The name of the system, and the weights of the frontend by their names in
      it.
    """
    hits = {
        (one, name.removesuffix(mark))
        for one, marks in _MARKS.items()
        for mark in marks
        for name in weights
        if name == mark or name.endswith((f".{mark}", f"/{mark}"))
        if system in (None, one)
    }
    if not hits:
        marks = [
            m for one in _MARKS if system in (None, one) for m in _MARKS[one]
        ]
        raise ValueError(
            "`source` must have a weight whose name ends like one of "
            f"{sorted(set(marks))}. Received: system={system!r}, weights "
            f"{list(weights)[:8]}."
        )
    prefixes = sorted({prefix for _, prefix in hits})
    if len(prefixes) > 1:
        raise ValueError(
            "`source` must hold one frontend; give a part of the mapping. "
            f"Received: frontends at {prefixes}."
        )
    systems = sorted(one for one, _ in hits)
    if len(systems) > 1:
        raise ValueError(
            f"`system` must say which of {systems} the weights are from, since "
            "their names are the same. Received: system=None."
        )
    prefix = prefixes[0]
    return systems[0], {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


# The paths of weights in a frontend end like this.
_PATHS = {
    "filters": "complex_conv/kernel",
    "pooling": "learnable_pooling/kernel",
    "bias": "learnable_pooling/bias",
    "preemp": "preemp/kernel",
}


def _assign(imported: keras.Model, arrays: Arrays) -> None:
    """Sets the weights of a frontend.

    Args:
      imported: A built frontend.
      arrays: Arrays by the names of `layouts`.
    """
    compression = imported.compression
    inner = getattr(compression, "weights", [])
    compressing = {f"compression/{w.name}": w for w in inner}
    _check_compression(compressing, arrays)
    others = [w for w in imported.weights if not any(w is one for one in inner)]
    for name, array in arrays.items():
        if name in compressing:
            weight = compressing[name]
        else:
            end = _PATHS.get(name, name.removeprefix("norm"))
            (weight,) = (w for w in others if w.path.endswith(end))
        if weight.shape != array.shape and (
            name != "pooling" or array.size != np.prod(weight.shape)
        ):
            raise ValueError(
                "`source` must fit the settings that are given with it. "
                f"Received: {name} of shape {array.shape} for a weight of "
                f"shape {tuple(weight.shape)}."
            )
        weight.assign(array.reshape(weight.shape))


def _check_compression(weights: Mapping[str, Any], arrays: Arrays) -> None:
    """Raises a ValueError unless a compression has the weights of a source.

    Otherwise it would keep values of its own, or values would be dropped.

    Args:
      weights: The weights of the compression by their names in `layouts`.
      arrays: Arrays by the names of `layouts`.
    """
    given = {name for name in arrays if name.startswith("compression/")}
    # EfficientLEAF has no weight for an exponent that is not learned.
    told = {"compression/a"} & set(weights) - given
    own = {n for n in weights if n not in told or weights[n].trainable}
    if own != given:
        lists = [
            f"{what} {', '.join(sorted(n.partition('/')[2] for n in names))}"
            for what, names in (
                ("without", own - given),
                ("with", given - own),
            )
            if names
        ]
        raise ValueError(
            "`compression_fn` must have the weights that `source` has for it, "
            "and no others. Received: "
            f"{', '.join(sorted(n.partition('/')[2] for n in own)) or 'none'}"
            f" in `compression_fn`, and a source {' and '.join(lists)}."
        )
