"""Every public class and function, for the walks over arguments."""

import importlib

from leaf_audio import (
    callbacks,
    data,
    figures,
    frontend,
    pooling,
    postprocessing,
    serving,
)
from leaf_audio.training import strategies, study

# Functions of tensors, what they return, and what others derive from.
SKIPPED = {
    *("conv1d_by_blocks", "fft_conv1d", "gabor_energies"),
    *("exponential_moving_average", "FrontendInitializer"),
    *("AudioData", "Batches", "READERS", "Reader", "UnusableFileError"),
    *("NotWritten", "Observer", "TrainingStopped", "train"),
    *("ClassifierStream", "Judgement", "Prediction", "TrainedClassifier"),
    *("Window", "Windows", "Workdir"),
}
ROOMS = (
    *("convolution", "data", "diagnostics", "frontend", "initializers"),
    *("models", "postprocessing", "serving", "training"),
)
OTHERS = (
    *(callbacks.LogFilters, callbacks.Replan, figures.bands),
    *(figures.outputs, figures.outputs_of_clips, figures.responses),
    *(frontend.MelFilterbanks.from_preset, frontend.Spectrogram.from_preset),
    *(pooling.ChannelWiseLearnablePooling1D, pooling.MaxPooling1D),
    *(pooling.GaussianLowpass, pooling.LearnablePooling1D),
    postprocessing.PCENLayer.like_librosa,
    *(strategies.data_parallel, strategies.mirrored, strategies.tpu),
    strategies.multi_worker_mirrored,
    study.Study,
)


def targets():
    """Returns every public class and function, by name."""
    found = {one.__qualname__: one for one in OTHERS}
    for room in ROOMS:
        module = importlib.import_module(f"leaf_audio.{room}")
        found |= {n: getattr(module, n) for n in module.__all__}
    # `load` of a config is the function of this room.
    found |= {"load": data.load, "serving.load": serving.load}
    return {
        name: one
        for name, one in found.items()
        if callable(one) and name not in SKIPPED
    }
