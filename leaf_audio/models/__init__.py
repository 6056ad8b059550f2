"""Classifiers: encoders of features, and the model around them.

`AudioClassifier` joins a frontend (waveform to features), an encoder (features
to an embedding) and a linear output layer. The other classes of this package
are encoders and their blocks, one family of networks to a file: `bcresnet`,
`convnet`, `pann`, `resnet` and `wavegram`. `heads` holds what the classifier
puts before and after them, `chain` the base class that they share. `COLA` and
`SimCLR`, in `contrastive`, train a frontend and an encoder without labels.
`MultitaskClassifier`, in `multitask`, has an encoder for each of several tasks.

To add an encoder:

1. Write it in a file of its own, as a Keras layer or model. It takes
   `(batch, time, bins, channels)` and returns an embedding of any rank, with
   the channels on the last axis. A network that applies one layer after the
   other derives from `chain.Chain`.
2. Register it with `@keras.saving.register_keras_serializable("leaf_audio")`
   and write `get_config`, so that models with it can be saved and loaded.
3. Import it here and add its name to `__all__`.
4. Add it to `MODELS` in `tests/models/model_makers.py`. The tests of saving,
   training, mixed precision and shapes then cover it.

A model of `keras.applications` is an encoder too. Create it with
`include_top=False`, `weights=None` and `input_shape=(None, None, 1)`.
"""

from leaf_audio.models.bcresnet import BCResBlock, BCResNet
from leaf_audio.models.classifier import AudioClassifier
from leaf_audio.models.contrastive import COLA, SimCLR
from leaf_audio.models.convnet import ConvBlock, ConvNet
from leaf_audio.models.multitask import MultitaskClassifier
from leaf_audio.models.pann import PANN, PANNConvBlock
from leaf_audio.models.resnet import ResidualBlock, ResNet
from leaf_audio.models.wavegram import PANNWavBlock, WaveGram

__all__ = [
    "COLA",
    "PANN",
    "AudioClassifier",
    "BCResBlock",
    "BCResNet",
    "ConvBlock",
    "ConvNet",
    "MultitaskClassifier",
    "PANNConvBlock",
    "PANNWavBlock",
    "ResNet",
    "ResidualBlock",
    "SimCLR",
    "WaveGram",
]
