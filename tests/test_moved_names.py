"""Names that modules had before they moved into rooms; they still work."""

import importlib

import pytest
from tones import python

from leaf_audio.common import moved

# What the tests, README and configs imported before the move.
IMPORTED = [
    ("example.clips", "AudioData"),
    ("example.clips", "INT16_MAX"),
    ("example.configuration", "parse"),
    ("example.report", "print_data"),
    ("example.run", "evaluate"),
    ("example.startup", "without_startup_messages"),
    ("example.strategies", "create"),
    ("example.tfds_audio", None),
    ("example.workdir", "Workdir"),
    ("leaf_audio.augmentation", "SpecAugment"),
    ("leaf_audio.base_frontend", "Frontend"),
    ("leaf_audio.base_frontend", "call_layer"),
    ("leaf_audio.callbacks", "LogFilters"),
    ("leaf_audio.callbacks", "Replan"),
    ("leaf_audio.compression", "ExponentialMovingAverage"),
    ("leaf_audio.compression", "PCENLayer"),
    ("leaf_audio.compression", "db_compression"),
    ("leaf_audio.compression", "exponential_moving_average"),
    ("leaf_audio.compression", "log_compression"),
    ("leaf_audio.constraints", "GaborConstraint"),
    ("leaf_audio.conv1d", "valid_conv1d"),
    ("leaf_audio.convolution", "FFTConv1D"),
    ("leaf_audio.convolution", "GaborConv1D"),
    ("leaf_audio.convolution", "NormalizedConv1D"),
    ("leaf_audio.convolution", "SincConv1D"),
    ("leaf_audio.convolution", "WaveformConv1D"),
    ("leaf_audio.convolution", "conv1d_by_blocks"),
    ("leaf_audio.convolution", "gabor_energies"),
    ("leaf_audio.diagnostics", "learned_frontends"),
    ("leaf_audio.efficient_leaf", "EfficientLeaf"),
    ("leaf_audio.fft", "fft_conv1d"),
    ("leaf_audio.figures", "bands"),
    ("leaf_audio.figures", "outputs"),
    ("leaf_audio.figures", "responses"),
    ("leaf_audio.frontend", "Leaf"),
    ("leaf_audio.frontend", "db_compression"),
    ("leaf_audio.grouped_filterbank", "Grouping"),
    ("leaf_audio.grouped_filterbank", "make_plan"),
    ("leaf_audio.impulse_responses", "gabor_filters"),
    ("leaf_audio.initializers", "ArrayInit"),
    ("leaf_audio.initializers", "FrontendInitializer"),
    ("leaf_audio.initializers", "GaborInit"),
    ("leaf_audio.initializers", "LowpassInit"),
    ("leaf_audio.initializers", "PreempInit"),
    ("leaf_audio.initializers", "SincInit"),
    ("leaf_audio.initializers", "from_trained"),
    ("leaf_audio.lean_ops", "complex_energies"),
    ("leaf_audio.lean_ops", "reorder"),
    ("leaf_audio.lean_ops", "split_by"),
    ("leaf_audio.lean_ops", "with_ends"),
    ("leaf_audio.lingvo_augmentation", "LingvoSpecAugment"),
    ("leaf_audio.logtbn", "LogTBN"),
    ("leaf_audio.mel", "hz_to_mel"),
    ("leaf_audio.mel", "mel_matrix"),
    ("leaf_audio.models", "AudioClassifier"),
    ("leaf_audio.normalization", "InstanceNormalization"),
    ("leaf_audio.normalization", "TemporalBatchNormalization"),
    ("leaf_audio.normalization", "TemporalMedianSubtraction"),
    ("leaf_audio.planning", "SpectralGroup"),
    ("leaf_audio.planning", "candidate_hops"),
    ("leaf_audio.planning", "tiers"),
    ("leaf_audio.pooling", "GaussianLowpass"),
    ("leaf_audio.postprocessing", "PCENLayer"),
    ("leaf_audio.spacing", "METHODS"),
    ("leaf_audio.spacing", "hz_to_bark"),
    ("leaf_audio.spectrogram", "MelFilterbanks"),
    ("leaf_audio.spectrogram", "Spectrogram"),
]

# Modules that import gin or TensorFlow Datasets.
TRAINER = [
    ("example.audio_folder", "audio_folder"),
    ("example.audio_folder", "read_recording"),
    ("example.data", "Batches"),
    ("example.data", "load"),
    ("example.external_configurables", None),
    ("example.study", None),
    ("example.synthetic_vowels", "SyntheticVowels"),
    ("example.train", "TrainingStopped"),
    ("example.train", "train"),
]


@pytest.mark.any_backend
@pytest.mark.parametrize("module, name", [*IMPORTED, *TRAINER])
def test_old_imports_work(module, name):
    imported = importlib.import_module(module)
    if name is not None:
        assert hasattr(imported, name)


@pytest.mark.any_backend
@pytest.mark.parametrize("old, new", moved.MOVED.items())
def test_an_old_name_is_the_module_itself(old, new):
    module = importlib.import_module(new)
    spec = module.__spec__
    assert importlib.import_module(old) is module
    # As `importlib.reload` and relative imports need it.
    assert module.__spec__ is spec
    assert spec.name == module.__name__


@pytest.mark.any_backend
def test_importing_example_imports_nothing_else():
    python(
        "-c",
        "import sys, example\n"
        "heavy = {'gin', 'keras', 'leaf_audio', 'numpy', 'tensorflow'}\n"
        "assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)",
    )


@pytest.mark.any_backend
@pytest.mark.slow
def test_old_names_work_if_example_is_imported_first():
    python("-c", "from example import clips; clips.AudioData")


@pytest.mark.any_backend
def test_unknown_modules_are_not_found():
    for name in ("example.nothing", "leaf_audio.nothing"):
        with pytest.raises(ModuleNotFoundError, match=name):
            importlib.import_module(name)
