"""The names and shapes of weights in published implementations of LEAF.

A `Group` lists weights by their published names. For each it has the name that
the weight has here and its shape. A letter in a shape is a size that is the
same wherever it stands: "n" is the number of filters.

The names here are `filters`, `pooling`, `bias` and `preemp` for the layers of a
Leaf, `norm/...` for its normalization over time, and `compression/...` for the
weights of its compression.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from leaf_audio.serving.foreign_weights import Lazy, to_array

Shape = tuple[int | str, ...]

_N: Shape = ("n",)


@dataclasses.dataclass(frozen=True)
class Group:
    """Weights that a file has all together, or not at all.

    Attributes:
      weights: By the published name, the name here and the shape. An empty
        shape is not checked.
      required: Whether a file must have them.
    """

    weights: Mapping[str, tuple[str, Shape]]
    required: bool = False


def _each(published: str, here: str, names: str) -> dict:
    """Names weights with one number for each filter, alike in both."""
    return {f"{published}{n}": (f"{here}{n}", _N) for n in names.split()}


_PREEMP = Group({"_preemp_conv/kernel": ("preemp", (2, 1, 1))})
_NORM = Group(_each("_instance_norm/", "norm/", "gamma beta"))
_GABOR: dict[str, tuple[str, Shape]] = {
    "_complex_conv/_kernel": ("filters", ("n", 2)),
    "_pooling/kernel": ("pooling", (1, 1, "n", 1)),
}
_FIXED_PCEN = _each("_compress_fn/", "compression/", "alpha delta root")

# Checkpoints of the original release, google-research/leaf-audio. The names are
# those of the attributes that hold the weights.
ORIGINAL_LEAF = (
    Group(_GABOR, required=True),
    Group(
        {
            **_FIXED_PCEN,
            "_compress_fn/ema/_weights": ("compression/smooth", ("s",)),
        }
    ),
    _PREEMP,
    _NORM,
)
ORIGINAL_SINCNET_PLUS = (
    Group(
        {
            **_GABOR,
            **_FIXED_PCEN,
            # A recurrent network that computes the moving average.
            "_compress_fn/ema/cell/kernel": ("rnn/kernel", ("n", "n")),
            "_compress_fn/ema/cell/recurrent_kernel": (
                "rnn/recurrent_kernel",
                ("n", "n"),
            ),
        },
        required=True,
    ),
    _PREEMP,
    _NORM,
)
ORIGINAL_SINCNET = (
    Group(
        {
            "_complex_conv/_kernel": ("filters", ("n", 2)),
            **_each("_compress_fn/", "compression/", "gamma beta"),
        },
        required=True,
    ),
    _PREEMP,
    _NORM,
)
ORIGINAL_TFBANKS = (
    Group(
        {
            "_complex_conv/kernel": ("filters", ("k", 1, "2n")),
            "_pooling/pool/kernel": ("pooling", (1, "k", 1, 1)),
        },
        required=True,
    ),
    _PREEMP,
    _NORM,
)


def _torch_leaf(filters: str, pooling: str, compression: str) -> tuple:
    return (
        Group(
            {
                filters: ("filters", ("n", 2)),
                f"{pooling}.weights": ("pooling", (1, 1, "n", 1)),
                f"{pooling}._bias": ("bias", _N),
            },
            required=True,
        ),
        Group(
            {
                **_each(f"{compression}.", "compression/", "alpha delta root"),
                f"{compression}.ema._weights": ("compression/smooth", ("s",)),
            }
        ),
    )


# SarthakYadav/leaf-pytorch, and speechbrain.lobes.features.Leaf after it.
LEAF_PYTORCH = _torch_leaf("_complex_conv._kernel", "_pooling", "_compression")
SPEECHBRAIN = _torch_leaf("complex_conv.kernel", "pooling", "compression")

# Both frontends of CPJKU/EfficientLEAF.
EFFICIENTLEAF = (
    Group(
        _each("filterbank.", "", "center_freqs bandwidths pooling_widths"),
        required=True,
    ),
    Group(_each("compression.", "pcen/", "s alpha delta r")),
    Group({"compression.log1p.a": ("compression/a", ())}),
    Group(
        {
            "compression.TBN.bn.running_mean": ("tbn/mean", ("m",)),
            "compression.TBN.bn.running_var": ("tbn/variance", ("m",)),
        }
    ),
    Group(
        {
            "compression.TBN.bn.weight": ("tbn/gamma", ("m",)),
            "compression.TBN.bn.bias": ("tbn/beta", ("m",)),
        }
    ),
)
# A counter of PyTorch that has no effect.
IGNORED = ("compression.TBN.bn.num_batches_tracked",)


def arrange(
    found: Mapping[str, Lazy], groups: Sequence[Group]
) -> dict[str, np.ndarray]:
    """Returns weights by the names that they have here.

    Args:
      found: The weights by their published names.
      groups: The groups of the layout.

    Returns:
      Float64 arrays.

    Raises:
      ValueError: If a weight is missing, unknown, of another shape, or not
        finite. The message names it.
    """
    known = {name for group in groups for name in group.weights}
    unknown = sorted(set(found) - known - set(IGNORED))
    missing = [
        name
        for group in groups
        if group.required or any(name in found for name in group.weights)
        for name in group.weights
        if name not in found
    ]
    if missing or unknown:
        raise ValueError(
            "`source` must hold the weights of this frontend and no others. "
            f"Received: missing {missing}, unknown {unknown[:8]}."
        )
    sizes: dict[str, int] = {}
    arranged = {}
    for group in groups:
        for name, (here, shape) in group.weights.items():
            if name in found:
                array = to_array(name, found[name])
                _check_shape(name, array.shape, shape, sizes)
                arranged[here] = array
    return arranged


def _check_shape(
    name: str, shape: tuple[int, ...], expected: Shape, sizes: dict[str, int]
) -> None:
    """Raises a ValueError if a shape is empty or does not fit those before."""
    if not expected:
        return
    if len(shape) == len(expected):
        for size, letter in zip(shape, expected, strict=True):
            if isinstance(letter, str) and size > 0:
                sizes.setdefault(letter, size)
    wanted = tuple(sizes.get(str(one), one) for one in expected)
    if shape != wanted:
        raise ValueError(
            f"`source` must hold {name} of shape {wanted}. Received: "
            f"{name} of shape {shape}."
        )
