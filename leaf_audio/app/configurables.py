"""Registers with gin everything that configs may name.

These are the layers, models and initializers of leaf_audio, much of Keras, and
the functions that load data. `import leaf_audio.app.configurables` in a config
makes them available. `leaf_audio.app.train` registers `train`, the
strategies and `Study`.
"""

import functools
import inspect
import operator
import warnings
from collections.abc import Callable
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
    serving,
    training,
)
from leaf_audio.app import (
    any_frontend,  # noqa: F401
    data_configurables,
)
from leaf_audio.app.factory import Factory
from leaf_audio.common.checks import check_size

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
        "AudioClassifier BCResNet COLA ConvBlock ConvNet PANN PANNConvBlock "
        "PANNWavBlock ResNet SimCLR WaveGram"
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
    serving: "RunTeacher import_frontend",
    training: "NpzTeacher",
}
# keras.layers.MaxPooling1D is left out: leaf_audio.pooling has its own.
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
    "losses": (
        "BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy "
        "CategoricalFocalCrossentropy CategoricalHinge Hinge Huber "
        "MeanAbsoluteError MeanSquaredError SparseCategoricalCrossentropy "
        "SquaredHinge"
    ),
    "optimizers": (
        "Adadelta Adafactor Adagrad Adam Adamax AdamW Ftrl Lamb Lion Muon "
        "Nadam RMSprop SGD"
    ),
    "optimizers.schedules": (
        "CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay "
        "PiecewiseConstantDecay PolynomialDecay"
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
# The networks of keras.applications, as encoders of spectrograms.
_APPLICATION_ARGUMENTS = {
    "include_top": False,
    "weights": None,
    # These belong to the classification layer, which is left out, or would pool
    # before the classifier does.
    "input_tensor": None,
    "pooling": None,
    "classes": 1000,
    "classifier_activation": None,
    # The preprocessing expects three channels with values from 0 to 255.
    "include_preprocessing": False,
}

# The model gives logits.
_LOSS_ARGUMENTS = {"from_logits": True}

_INDEXES = [name.removeprefix("data.") for name in data_configurables.INDEXES]

# Registered by the other modules of leaf_audio.app.
_OTHERS = (
    "Audiomentation",
    "Frontend",
    "ReduceOnPlateau",
    "Study",
    "data_parallel",
    "load",
    "mirrored",
    "multi_worker_mirrored",
    "prepare",
    "tpu",
    "train",
    *(name.removeprefix("data.") for name in data_configurables.TRANSFORMS),
    *_INDEXES,
    *data.READERS,
)

# The argument that takes each part, to tell the user where to refer to it.
ARGUMENT_FOR: dict[str, str] = {
    name: argument
    for argument, names in {
        "block": "ConvBlock PANNConvBlock",
        "complex_conv_init": "ArrayInit GaborInit SincInit from_trained",
        "compression_fn": (
            "Log1p LogTBN PCENLayer TemporalBatchNormalization "
            "TemporalMedianSubtraction db_compression log_compression"
        ),
        "conv1d_cls": _LEAF_AUDIO[convolution],
        "encoder": f"BCResNet ConvNet PANN ResNet {_APPLICATIONS}",
        "learning_rate": _KERAS["optimizers.schedules"],
        "learning_rate_schedule": "ReduceOnPlateau",
        "frontend": (
            "EfficientLeaf Leaf MelFilterbanks SincNet SincNetPlus Spectrogram "
            "TimeDomainFilterbanks WaveGram import_frontend"
        ),
        "index": " ".join(_INDEXES),
        "loss": _KERAS["losses"],
        "optimizer": _KERAS["optimizers"],
        "pooling_cls": _LEAF_AUDIO[pooling],
        "pooling_init": "LowpassInit",
        "preemp_init": "PreempInit",
        "pretraining": "COLA SimCLR",
        "spec_augment": "LingvoSpecAugment SpecAugment",
        "teacher": "NpzTeacher RunTeacher",
    }.items()
    for name in names.split()
}
# Parts that a config refers to without parentheses.
PASSED_AS_CLASS: frozenset[str] = frozenset(
    name
    for name, argument in ARGUMENT_FOR.items()
    if argument
    in (
        *("block", "conv1d_cls", "index", "optimizer", "pooling_cls"),
        "pretraining",
    )
    or name in ("db_compression", "log_compression")
)


def names() -> set[str]:
    """Returns the names of everything that is registered here."""
    lists = (*_LEAF_AUDIO.values(), *_KERAS.values(), _APPLICATIONS)
    return {
        *" ".join(lists).split(),
        *_OTHERS,
        "spec_augment_switch",
    }


def spec_augment_switch(on: Any = False, layer: Callable | None = None) -> Any:
    """Returns the value of `spec_augment` for a frontend.

    `common.gin` gives it to whichever frontend is chosen, as
    `Frontend.spec_augment`. So the macro `spec_augment = True` is enough to
    augment.

    Args:
        on: bool, or a layer that is returned as it is. Default: False.
        layer: Function that makes the layer. Called only if `on` is True.

    Returns:
        False or a layer.
    """
    if on is not True:
        return on
    return True if layer is None else layer()


# These divide their inputs by 255, and have no argument against it.
_DIVIDES_BY_255 = "EfficientNetB"


def _with_channels(application: Callable) -> Callable:
    """Replaces `input_shape` of a network by `channels`: that of its input.

    The network gets its inputs as they are. Divided by 255, as pixels are, the
    features of a frontend would be far below the `epsilon` of the first batch
    normalization, whose statistics would take long to settle.
    """
    parameters = dict(inspect.signature(application).parameters)
    del parameters["input_shape"]
    channels = inspect.Parameter(
        "channels", inspect.Parameter.KEYWORD_ONLY, default=1
    )

    @functools.wraps(application)
    def network(channels: int = 1, **kwargs: Any) -> keras.Model:
        shape = (None, None, check_size("channels", channels))
        with warnings.catch_warnings():
            # Keras expects the three channels of a picture, or one.
            warnings.filterwarnings("ignore", "This model usually expects")
            if not application.__name__.startswith(_DIVIDES_BY_255):
                return application(input_shape=shape, **kwargs)
            inputs = keras.Input(shape)
            scaled = keras.layers.Rescaling(255.0)(inputs)
            return application(
                input_shape=shape, **{**kwargs, "input_tensor": scaled}
            )

    signature = inspect.Signature([*parameters.values(), channels])
    setattr(network, "__signature__", signature)  # noqa: B010
    return network


def _register_classes() -> None:
    for module, listed in _LEAF_AUDIO.items():
        for name in listed.split():
            factory = Factory(getattr(module, name))
            gin.external_configurable(factory, name, module.__name__)
    for submodule, listed in _KERAS.items():
        for name in listed.split():
            factory = Factory(
                operator.attrgetter(f"{submodule}.{name}")(keras),
                fixed=_LOSS_ARGUMENTS if submodule == "losses" else None,
            )
            gin.external_configurable(factory, name, f"keras.{submodule}")
    for name in _APPLICATIONS.split():
        factory = Factory(
            _with_channels(getattr(keras.applications, name)),
            fixed=_APPLICATION_ARGUMENTS,
        )
        gin.external_configurable(factory, name, "keras.applications")
    gin.external_configurable(
        spec_augment_switch, "spec_augment_switch", "leaf_audio.app"
    )


_register_classes()
