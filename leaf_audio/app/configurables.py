"""Registers with gin what configs may name: leaf_audio, and much of Keras.

Keras 3 does not let gin wrap a layer's class, so what gin knows under the name
of a class is a factory: it has the signature of the constructor, so that a
misspelt parameter fails when the config is read, and gives true instances of
the class, which keras.saving can load again where there is no gin.

Two things that a class does by itself, and which gin would not see, are done by
its factory. What a frontend or a ConvNet builds when told nothing is built here
if it has bindings: `PCENLayer.alpha = 0.98` or `ConvBlock.dropout = 0.2` work
alone. And a reference without parentheses, `Leaf.pooling_cls = @MaxPooling1D`,
is handed on as the class, or as a functools.partial of it with its bindings.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gin
import keras

from leaf_audio import (
    convolution,
    data,
    frontend,
    initializers,
    models,
    pooling,
    postprocessing,
)
from leaf_audio.frontend import base as base_frontend

_LEAF_AUDIO = {
    convolution: (
        "FFTConv1D GaborConv1D NormalizedConv1D SincConv1D WaveformConv1D"
    ),
    frontend: (
        "EfficientLeaf Leaf MelFilterbanks SincNet SincNetPlus Spectrogram "
        "SquaredModulus TimeDomainFilterbanks db_compression log_compression"
    ),
    initializers: (
        "ArrayInit GaborInit LowpassInit PreempInit SincInit from_trained"
    ),
    models: (
        "AudioClassifier ConvBlock ConvNet PANN PANNConvBlock PANNWavBlock "
        "WaveGram"
    ),
    pooling: (
        "ChannelWiseLearnablePooling1D GaussianLowpass LearnablePooling1D "
        "MaxPooling1D"
    ),
    postprocessing: (
        "ExponentialMovingAverage LingvoSpecAugment Log1p LogTBN PCENLayer "
        "SpecAugment TemporalBatchNormalization TemporalMedianSubtraction "
        "smoothing_coefficient"
    ),
}
# keras.layers.MaxPooling1D is not among them: leaf_audio.pooling has its own.
_KERAS = {
    "activations": (
        "elu gelu hard_sigmoid leaky_relu linear mish relu relu6 selu sigmoid "
        "silu softplus softsign swish tanh"
    ),
    "constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
    "initializers": (
        "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity "
        "LecunNormal LecunUniform Ones Orthogonal RandomNormal RandomUniform "
        "TruncatedNormal VarianceScaling Zeros"
    ),
    "layers": (
        "Activation AlphaDropout AveragePooling1D AveragePooling2D "
        "BatchNormalization Bidirectional Conv1D Conv2D Dense DepthwiseConv1D "
        "DepthwiseConv2D Dropout ELU Flatten GaussianDropout GaussianNoise "
        "GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization GRU "
        "LayerNormalization LeakyReLU LSTM MaxPooling2D Permute PReLU ReLU "
        "Rescaling Reshape RMSNormalization SeparableConv1D SeparableConv2D "
        "SpatialDropout1D SpatialDropout2D UnitNormalization"
    ),
    "optimizers": (
        "Adadelta Adafactor Adagrad Adam Adamax AdamW Ftrl Lamb Lion Muon "
        "Nadam RMSprop SGD"
    ),
    "regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
}
_APPLICATIONS = (
    "ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge "
    "DenseNet121 DenseNet169 DenseNet201 EfficientNetB0 EfficientNetB1 "
    "EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 "
    "EfficientNetB6 EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 "
    "EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2L EfficientNetV2M "
    "EfficientNetV2S InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 "
    "MobileNetV3Large MobileNetV3Small NASNetLarge NASNetMobile ResNet101 "
    "ResNet101V2 ResNet152 ResNet152V2 ResNet50 ResNet50V2 VGG16 VGG19 Xception"
)
_HEAD = {
    "include_top": False,
    "weights": None,
    "input_shape": (None, None, 1),
    # The rest belongs to a top, or would pool before the classifier does.
    "input_tensor": None,
    "pooling": None,
    "classes": 1000,
    "classifier_activation": None,
    # Made for three channels of 0 to 255.
    "include_preprocessing": False,
}

_LEAF_PARTS = (
    "GaborConv1D",
    "GaborInit",
    "GaussianLowpass",
    "LowpassInit",
    "PCENLayer",
    "PreempInit",
    "SincInit",
    "SpecAugment",
    "db_compression",
    "log_compression",
)
_COMPRESSIONS = (
    "PCENLayer",
    "SpecAugment",
    "db_compression",
    "log_compression",
)
# What a factory builds where a config has bindings for it.
BUILT_BY_DEFAULT = {
    "ConvNet": ("ConvBlock",),
    "EfficientLeaf": (
        "GaborInit",
        "LogTBN",
        "PCENLayer",
        "SpecAugment",
        "db_compression",
        "log_compression",
    ),
    "Leaf": _LEAF_PARTS,
    "MelFilterbanks": _COMPRESSIONS,
    "SincNet": ("PreempInit", "SpecAugment"),
    "SincNetPlus": ("PreempInit", "SpecAugment"),
    "Spectrogram": _COMPRESSIONS,
    "TimeDomainFilterbanks": ("PreempInit", "SpecAugment"),
}

Fill = Callable[[dict[str, Any]], dict[str, Any]]


class Factory:
    """Calls `target` in such a way that gin can configure it.

    Args:
        target: a class or a function.
        fixed: arguments of `target` that gin cannot set.
        fill: completes the keyword arguments of a call.
    """

    def __init__(
        self,
        target: Callable,
        fixed: Mapping[str, Any] | None = None,
        fill: Fill | None = None,
    ):
        self.target = target
        self.__name__ = self.__qualname__ = target.__name__
        self.__doc__ = target.__doc__
        self.__signature__ = _signature(target)
        if fixed:
            known = self.__signature__.parameters
            fixed = {k: v for k, v in fixed.items() if k in known}
            self.__signature__ = self.__signature__.replace(
                parameters=[p for k, p in known.items() if k not in fixed]
            )
        self._fixed = fixed or {}
        self._fill = fill

    def __call__(
        self, *args: Any, as_partial: bool = False, **kwargs: Any
    ) -> Any:
        """Calls the target, or binds its arguments for later calls."""
        kwargs = {name: _plain(value) for name, value in kwargs.items()}
        if as_partial and not kwargs and not self._fill and not self._fixed:
            return self.target
        bound = self.__signature__.bind_partial(*args, **kwargs)
        arguments = {**bound.arguments, **self._fixed}
        if self._fill:
            arguments = self._fill(arguments)
        if as_partial:
            return functools.partial(self.target, **arguments)
        for name, parameter in self.__signature__.parameters.items():
            is_optional = name in ("name", "dtype", "trainable")
            if parameter.default is parameter.empty and not is_optional:
                if name not in arguments:
                    raise ValueError(
                        f"`{name}` of {self.__name__} must be given. "
                        f"Received: {', '.join(arguments) or 'nothing'}."
                    )
        return self.target(**arguments)

    def __repr__(self) -> str:
        return f"{self.target.__module__}.{self.__name__}"


def _signature(target: Callable) -> inspect.Signature:
    """Returns a signature without variable arguments."""
    if not inspect.isclass(target):
        return inspect.signature(target)
    parameters = _constructor_parameters(target)
    settled = getattr(target, "_settled", ())
    if settled:
        # A Leaf with some arguments settled takes the others as **kwargs.
        parameters = {**_constructor_parameters(frontend.Leaf), **parameters}
        parameters = {k: p for k, p in parameters.items() if k not in settled}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in parameters.values() if p.kind not in variable]
    if len(named) < len(parameters) and issubclass(target, keras.layers.Layer):
        # Without a default, gin does not log them where they are not bound.
        named += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in ("name", "dtype", "trainable")
            if name not in parameters
        ]
    return inspect.Signature(named)


def _constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    # `Layer.__new__` takes any arguments, and hides those of `__init__`.
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p for p in parameters}


def _plain(value: Any) -> Any:
    """Takes gin's wrapper off what a config refers to without calling it."""
    if callable(value) and isinstance(inspect.unwrap(value), Factory):
        return value(as_partial=True)
    return value


def configured(name: str, **defaults: Any) -> Any:
    """Calls a configurable; what a config binds comes before `defaults`."""
    bound = gin.get_bindings(name, resolve_references=False)
    kwargs = {k: v for k, v in defaults.items() if k not in bound}
    return gin.get_configurable(name)(**kwargs)


def _is_bound(name: str) -> bool:
    return bool(gin.get_bindings(name, resolve_references=False))


def _fill_frontend(
    signature: inspect.Signature, given: dict[str, Any]
) -> dict[str, Any]:
    """Builds the parts of a frontend that a config has bindings for."""
    defaults = {k: p.default for k, p in signature.parameters.items()}
    arguments = {**defaults, **given}

    def lacks(name):
        return name in defaults and arguments[name] is None

    parts = {}
    if arguments.get("compression_fn") == "pcen" and _is_bound("PCENLayer"):
        parts["compression_fn"] = configured("PCENLayer", **_leaf_pcen())
    elif arguments.get("compression_fn") == "logtbn" and _is_bound("LogTBN"):
        parts["compression_fn"] = configured("LogTBN")
    elif arguments.get("compression_fn") in ("log", "db"):
        name = f"{arguments['compression_fn']}_compression"
        if _is_bound(name):
            parts["compression_fn"] = _part(name)
    if arguments.get("spec_augment") is True:
        parts["spec_augment"] = configured("SpecAugment")
    if arguments.get("preemp") and lacks("preemp_init"):
        if _is_bound("PreempInit"):
            parts["preemp_init"] = configured("PreempInit")
    if lacks("conv1d_cls") and _is_bound("GaborConv1D"):
        parts["conv1d_cls"] = _part("GaborConv1D")
    if lacks("pooling_cls") and _is_bound("GaussianLowpass"):
        parts["pooling_cls"] = _part("GaussianLowpass")
    if lacks("pooling_init") and "pooling_cls" in defaults:
        if _is_bound("LowpassInit"):
            parts["pooling_init"] = configured("LowpassInit")
    if lacks("complex_conv_init"):
        conv1d_cls = arguments.get("conv1d_cls") or convolution.GaborConv1D
        if getattr(conv1d_cls, "func", conv1d_cls) is convolution.SincConv1D:
            if _is_bound("SincInit"):
                parts["complex_conv_init"] = configured("SincInit")
        elif _is_bound("GaborInit"):
            # What the frontend asks for by itself.
            method = "mel" if "conv1d_cls" in defaults else "mel_analytic"
            parts["complex_conv_init"] = configured(
                "GaborInit", min_freq=60.0, max_freq="auto", method=method
            )
    return {**given, **parts}


def _part(name: str) -> Any:
    return _plain(gin.get_configurable(name))


def _leaf_pcen() -> dict[str, Any]:
    """Returns the settings of the PCEN that Leaf builds by itself."""
    config = frontend.Leaf(n_filters=1).compression.get_config()
    return {k: v for k, v in config.items() if k not in ("name", "dtype")}


def _fill_conv_net(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("block") is None and _is_bound("ConvBlock"):
        return {**given, "block": _part("ConvBlock")}
    return given


def _fill(target: Callable) -> Fill | None:
    if inspect.isclass(target) and issubclass(target, base_frontend.Frontend):
        return functools.partial(_fill_frontend, _signature(target))
    return _fill_conv_net if target is models.ConvNet else None


def _register() -> None:
    for module, names in _LEAF_AUDIO.items():
        for name in names.split():
            target = getattr(module, name)
            factory = Factory(target, fill=_fill(target))
            gin.external_configurable(factory, name, module.__name__)
    for module, names in _KERAS.items():
        for name in names.split():
            factory = Factory(getattr(getattr(keras, module), name))
            gin.external_configurable(factory, name, f"keras.{module}")
    for name in _APPLICATIONS.split():
        factory = Factory(getattr(keras.applications, name), fixed=_HEAD)
        gin.external_configurable(factory, name, "keras.applications")


_register()


# Data. `leaf_audio.data` does not know gin; here its functions are connected.

# These get their bindings when data is loaded, and not before.
DATA_CONFIGURABLES = ("data.load", "data.prepare", "audio_folder")


@functools.wraps(data.load)
def _load(*args: Any, **kwargs: Any) -> data.AudioData:
    """Calls `data.load` with the `audio_folder` that gin configures."""
    readers = {"audio_folder": gin.get_configurable("audio_folder")}
    return data.load(*args, **{"readers": readers, **kwargs})


@functools.wraps(data.prepare)
def _prepare(*args: Any, **kwargs: Any) -> data.Batches:
    """Calls `data.prepare` with default transforms that gin configures."""
    if len(args) < 2:
        kwargs.setdefault("transform_fns", _default_transforms())
    return data.prepare(*args, **kwargs)


def transform_fns() -> Any:
    """Returns the transforms that `data.prepare` is bound to."""
    bound = gin.get_bindings("data.prepare")
    return bound.get("transform_fns", _default_transforms())


def _default_transforms() -> list[Callable]:
    names = ("data.align", "data.loudness_normalization")
    return [gin.get_configurable(name) for name in names]


def _register_data() -> None:
    for function, name, module, denylist in (
        (_load, "load", "data", ["for_training", "readers"]),
        (_prepare, "prepare", "data", ["audio_data"]),
        (data.align, "align", "data", ["samples", "seed"]),
        (data.time_shift, "time_shift", "data", ["samples", "seed"]),
        (
            data.loudness_normalization,
            "loudness_normalization",
            "data",
            ["samples"],
        ),
        (
            data.audio_folder,
            "audio_folder",
            "leaf_audio.data",
            ["data_dir", "fallback_sample_rate", "for_training"],
        ),
    ):
        gin.external_configurable(function, name, module, denylist=denylist)


_register_data()
