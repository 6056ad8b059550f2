"""Makes the frontends of other systems: what they do that weights do not tell.

The systems differ in where frames lie, in what is added to the energies, and
in what their parameters stand for. Each maker returns a frontend that is set as
the system sets it, not yet built, and the arrays for its weights, by the names
of `layouts`. What has no counterpart here is refused.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from leaf_audio import frontend, pooling, postprocessing
from leaf_audio.common.sizes import frame_sizes
from leaf_audio.serving import layouts
from leaf_audio.serving.foreign_weights import Lazy

Arrays = dict[str, np.ndarray]
Made = tuple[keras.Model, Arrays]

# The range that PCENLayer keeps its parameters in, and its largest exponent
# with logarithms.
_SMALLEST, _LARGEST = 1e-6, 1e6
_LARGEST_EXPONENT = 100.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What weights do not tell; see `import_frontend`."""

    sample_rate: float
    window_len: float
    window_stride: float
    compression_fn: Any
    tolerance: float | None
    spec_augment: Any
    name: str | None
    groups: dict[str, Any]

    def common(self) -> dict[str, Any]:
        """Returns the arguments that all frontends take."""
        arguments: dict[str, Any] = {
            "sample_rate": self.sample_rate,
            "window_len": self.window_len,
            "window_stride": self.window_stride,
            "spec_augment": self.spec_augment,
        }
        if self.name is not None:
            arguments["name"] = self.name
        return arguments

    def of_leaf(self) -> dict[str, Any]:
        """Returns the arguments that `Leaf` takes."""
        return {**self.common(), "tolerance": self.tolerance}


def _original(found: dict[str, Lazy], settings: Settings) -> Made:
    """Makes a frontend of the original release."""
    if "_complex_conv/kernel" in found:
        arrays = layouts.arrange(found, layouts.ORIGINAL_TFBANKS)
        _check_not_given(settings, "TimeDomainFilterbanks")
        # The release pools without padding, whatever it is told.
        made = frontend.TimeDomainFilterbanks(
            n_filters=arrays["filters"].shape[-1] // 2,
            pooling_padding="valid",
            **_parts(arrays),
            **settings.common(),
        )
        return made, arrays
    if "_compress_fn/gamma" in found:
        arrays = layouts.arrange(found, layouts.ORIGINAL_SINCNET)
        return _sinc(frontend.SincNet, arrays, settings), arrays
    if "_compress_fn/ema/cell/kernel" in found:
        arrays = layouts.arrange(found, layouts.ORIGINAL_SINCNET_PLUS)
        made = _sinc(frontend.SincNetPlus, arrays, settings)
        _check_pcen(arrays, exponent=_LARGEST)
        arrays["compression/smooth"] = _smoothing_of_network(arrays)
        return made, arrays
    arrays = layouts.arrange(found, layouts.ORIGINAL_LEAF)
    if "compression/alpha" not in arrays:
        _check_given(settings, "None or 'log'")
    made = frontend.Leaf(
        n_filters=len(arrays["filters"]),
        compression_fn=_pcen(arrays, settings),
        **_parts(arrays),
        **settings.of_leaf(),
    )
    return made, arrays


def _parts(arrays: Arrays) -> dict[str, Any]:
    """Says which of its optional parts a frontend of the release has."""
    return {
        "preemp": "preemp" in arrays,
        "mean_var_norm": "norm/gamma" in arrays,
    }


def _sinc(cls: type, arrays: Arrays, settings: Settings) -> keras.Model:
    """Makes a SincNet or SincNet+ of the release."""
    _check_not_given(settings, cls.__name__)
    if settings.sample_rate != 16000:
        raise ValueError(
            "`sample_rate` must be 16000 for a sinc filterbank: the release "
            "computes the filters for that rate whatever it is told. Received: "
            f"sample_rate={settings.sample_rate!r}."
        )
    if np.abs(arrays["filters"]).max() <= np.pi:
        raise ValueError(
            "`source` must be a Leaf whose smoothing is learned, or have "
            f"cutoff frequencies in Hz for a {cls.__name__}. Received: none "
            "above 3.15."
        )
    return cls(
        n_filters=len(arrays["filters"]), **_parts(arrays), **settings.common()
    )


def _smoothing_of_network(arrays: Arrays) -> np.ndarray:
    """Reads the smoothing coefficient off a network that averages."""
    kernel = arrays.pop("rnn/kernel")
    recurrent = arrays.pop("rnn/recurrent_kernel")
    identity = np.eye(len(kernel))
    smooth = kernel[0, 0]
    is_average = np.allclose(kernel, smooth * identity, atol=1e-6)
    if not is_average or not np.allclose(
        recurrent, (1 - smooth) * identity, atol=1e-6
    ):
        raise ValueError(
            "`source` must smooth all channels alike. Received: a recurrent "
            "network in _compress_fn/ema/cell that does something else."
        )
    return np.array([smooth])


def _torch_leaf(groups: tuple) -> Callable[[dict, Settings], Made]:
    """Returns the maker of a Leaf of leaf-pytorch or SpeechBrain."""

    def make(found: dict[str, Lazy], settings: Settings) -> Made:
        arrays = layouts.arrange(found, groups)
        has_pcen = "compression/alpha" in arrays
        if not has_pcen and settings.compression_fn == "auto":
            settings = dataclasses.replace(settings, compression_fn=None)
        size, stride = frame_sizes(
            settings.sample_rate, settings.window_len, settings.window_stride
        )
        if size % 2 == 0:
            raise ValueError(
                "`window_len` must be an odd number of samples: the frames of "
                "an even one lie between samples. Received: window_len="
                f"{settings.window_len!r}, which is {size} samples."
            )
        pool = pooling.GaussianLowpass(
            kernel_size=size,
            strides=stride,
            padding="centred",
            use_bias=True,
            name="learnable_pooling",
        )
        made = frontend.Leaf(
            n_filters=len(arrays["filters"]),
            pooling_cls=pool,
            pooling_padding="centred",
            compression_fn=_pcen(arrays, settings),
            **settings.of_leaf(),
        )
        return made, arrays

    return make


def _efficientleaf(found: dict[str, Lazy], settings: Settings) -> Made:
    """Makes an EfficientLeaf."""
    if settings.tolerance not in (0, None):
        raise ValueError(
            "`tolerance` must be 0 or None for 'efficientleaf', which has no "
            f"plan with an error. Received: tolerance={settings.tolerance!r}."
        )
    arrays = _filterbank(found)
    n_filters = len(arrays["filters"])
    made = frontend.EfficientLeaf(
        n_filters=n_filters,
        compression_fn=_efficientleaf_compression(arrays, settings, n_filters),
        **settings.groups,
        **settings.common(),
    )
    _check_groups(arrays["filters"][:, 0], made.num_groups)
    return made, arrays


def _efficientleaf_leaf(found: dict[str, Lazy], settings: Settings) -> Made:
    """Makes a Leaf of the repository of EfficientLEAF."""
    arrays = _filterbank(found)
    if "pcen/s" not in arrays:
        raise ValueError(
            "`source` must have a PCEN: this Leaf raises energies to 1e-5, and "
            "that one does so before a PCEN only. Received: no compression.s."
        )
    n_filters = len(arrays["filters"])
    # That window is rounded down and made odd. Half a sample more makes sure
    # that this number of samples comes out.
    size = int(settings.sample_rate * settings.window_len / 1000)
    size += 1 - size % 2
    length = 1000 * (size - 0.5) / settings.sample_rate
    made = frontend.Leaf(
        n_filters=n_filters,
        pooling_padding="centred",
        compression_fn=_efficientleaf_compression(arrays, settings, n_filters),
        **{**settings.of_leaf(), "window_len": length},
    )
    return made, arrays


def _filterbank(found: dict[str, Lazy]) -> Arrays:
    arrays = layouts.arrange(found, layouts.EFFICIENTLEAF)
    filters = [arrays.pop("center_freqs"), arrays.pop("bandwidths")]
    arrays["filters"] = np.stack(filters, axis=1)
    arrays["pooling"] = arrays.pop("pooling_widths")
    return arrays


def _check_groups(centre: np.ndarray, num_groups: int) -> None:
    """Raises a ValueError if groups by position are not those by frequency."""
    count = len(centre)
    order = np.argsort(np.clip(centre, 0, np.pi), kind="stable")
    edges = np.arange(num_groups + 1) * count // num_groups
    groups = np.searchsorted(edges, np.arange(count), side="right")
    moved = np.flatnonzero(groups[order] != groups)
    if len(moved):
        raise ValueError(
            "`source` must have filters whose groups follow their centre "
            "frequencies: EfficientLeaf groups them by frequency, and that "
            f"system by position. Received: filters {order[moved].tolist()} in "
            f"other groups, with num_groups={num_groups}."
        )


def _efficientleaf_compression(
    arrays: Arrays, settings: Settings, n_filters: int
) -> Any:
    if "pcen/s" in arrays:
        return _efficientleaf_pcen(arrays, settings)
    if "tbn/mean" not in arrays:
        return _check_given(settings, "what the system applied")
    channels, rest = divmod(len(arrays["tbn/mean"]), n_filters)
    if rest or channels not in (1, 2):
        raise ValueError(
            "`source` must normalize one or two channels of each filter. "
            f"Received: {n_filters} filters, and compression.TBN.bn."
            f"running_mean of shape {arrays['tbn/mean'].shape}."
        )
    if settings.compression_fn == "auto":
        if "compression/a" not in arrays or channels != 2:
            raise ValueError(
                "`compression_fn` must be a LogTBN with `a` and `median` as "
                "they were: the weights tell them only if `a` was learned and "
                "the median appended. Received: compression_fn='auto'."
            )
        layer = postprocessing.LogTBN(
            per_band=arrays["compression/a"].ndim == 1,
            affine="tbn/gamma" in arrays,
        )
    else:
        layer = _of_class(settings, postprocessing.LogTBN)
    if "compression/a" in arrays:
        arrays["compression/a"] = arrays["compression/a"].reshape(-1)
    for here, there in (
        ("moving_mean", "mean"),
        ("moving_variance", "variance"),
        ("gamma", "gamma"),
        ("beta", "beta"),
    ):
        if f"tbn/{there}" in arrays:
            # That system has the channels before the bands.
            array = arrays.pop(f"tbn/{there}").reshape(channels, -1)
            arrays[f"compression/{here}"] = array.T.reshape(-1)
    return layer


def _efficientleaf_pcen(arrays: Arrays, settings: Settings) -> Any:
    """Makes the PCEN of EfficientLEAF, with or without logarithms.

    The names are the same in both cases. A smoothing coefficient lies between 0
    and 1, and its logarithm below 0.
    """
    smooth = arrays.pop("pcen/s")
    values = {n: arrays.pop(f"pcen/{n}") for n in ("alpha", "delta", "r")}
    is_log = bool(np.all(smooth < 0))
    if not is_log and not np.all((smooth >= 0) & (smooth <= 1)):
        raise ValueError(
            "`source` must have smoothing coefficients from 0 to 1, or their "
            f"logarithms. Received: compression.s from {smooth.min()} to "
            f"{smooth.max()}."
        )
    arrays.update(
        {
            "compression/alpha": values["alpha"],
            "compression/delta": values["delta"],
            "compression/root": values["r"],
            "compression/smooth": smooth,
        }
    )
    if not is_log:
        return _pcen(arrays, settings)
    # What is learned as `r` is the logarithm of the exponent.
    for name, published in (
        ("alpha", "alpha"),
        ("delta", "delta"),
        ("smooth", "s"),
    ):
        value = arrays.pop(f"compression/{name}")
        _check_range(f"exp(compression.{published})", np.exp(value), _LARGEST)
        arrays[f"compression/log_{name}"] = value
    exponent = arrays.pop("compression/root")
    _check_range("exp(compression.r)", np.exp(exponent), _LARGEST_EXPONENT)
    arrays["compression/log_exponent"] = exponent
    _check_range(
        "exp(compression.alpha)",
        np.exp(arrays["compression/log_alpha"]),
        _LARGEST_EXPONENT,
    )
    return _pcen_layer(settings, "log", per_channel=True)


def _pcen(arrays: Arrays, settings: Settings) -> Any:
    """Makes a PCEN whose parameters are learned themselves."""
    if "compression/alpha" not in arrays:
        return settings.compression_fn
    _check_pcen(arrays, exponent=_LARGEST)
    count = len(arrays["compression/alpha"])
    smooth = arrays["compression/smooth"]
    return _pcen_layer(settings, "linear", per_channel=len(smooth) == count)


def _check_pcen(arrays: Arrays, exponent: float) -> None:
    _check_range("delta of PCEN", arrays["compression/delta"], _LARGEST)
    root = np.maximum(arrays["compression/root"], 1)
    _check_range("root of PCEN", root, exponent)


def _check_range(what: str, values: np.ndarray, largest: float) -> None:
    """Raises a ValueError if PCENLayer would limit a parameter."""
    if values.min() < _SMALLEST or values.max() > largest:
        raise ValueError(
            f"`source` must have {what} from {_SMALLEST} to {largest}, which "
            "PCENLayer limits it to. Received: values from "
            f"{values.min():.3g} to {values.max():.3g}."
        )


def _pcen_layer(
    settings: Settings, parametrization: str, per_channel: bool
) -> Any:
    if settings.compression_fn == "auto":
        return postprocessing.PCENLayer(
            floor=1e-12,
            trainable=True,
            learn_smooth_coef=True,
            per_channel_smooth_coef=per_channel,
            parametrization=parametrization,
        )
    layer = _of_class(settings, postprocessing.PCENLayer)
    if layer.parametrization != parametrization:
        raise ValueError(
            "`compression_fn` must be a PCENLayer with parametrization="
            f"{parametrization!r}, as the weights are. Received: "
            f"parametrization={layer.parametrization!r}."
        )
    return layer


def _of_class(settings: Settings, cls: type) -> Any:
    layer = settings.compression_fn
    if not isinstance(layer, cls):
        raise ValueError(
            f"`compression_fn` must be 'auto' or a {cls.__name__}, since the "
            f"weights are of one. Received: compression_fn={layer!r}."
        )
    return layer


def _check_given(settings: Settings, what: str) -> Any:
    """Returns the compression, which the weights do not tell."""
    if settings.compression_fn == "auto":
        raise ValueError(
            f"`compression_fn` must be given, {what}: a compression without "
            "weights leaves no trace in them. Received: compression_fn='auto'."
        )
    return settings.compression_fn


def _check_not_given(settings: Settings, cls: str) -> None:
    for argument, default in (
        ("compression_fn", ("auto",)),
        ("tolerance", (0, None)),
    ):
        value = getattr(settings, argument)
        if not any(value is one or value == one for one in default):
            raise ValueError(
                f"`{argument}` must be {default[0]!r} for a {cls}, which fixes "
                f"it. Received: {argument}={value!r}."
            )


MAKERS: dict[str, Callable[[dict[str, Lazy], Settings], Made]] = {
    "original": _original,
    "leaf_pytorch": _torch_leaf(layouts.LEAF_PYTORCH),
    "speechbrain": _torch_leaf(layouts.SPEECHBRAIN),
    "efficientleaf": _efficientleaf,
    "efficientleaf_leaf": _efficientleaf_leaf,
}
