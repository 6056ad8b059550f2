"""What is legal for which argument: the tables of the walks over arguments."""

import functools
import inspect

import numpy as np
from argument_kinds import KINDS, function

from leaf_audio import frontend, models
from leaf_audio.app.factory import Factory
from leaf_audio.data import AudioData
from leaf_audio.serving import TrainedClassifier


@functools.cache
def built_leaf():
    leaf = frontend.Leaf(n_filters=2, tolerance=0)
    leaf.build((None, 800))
    return leaf


WAVE = np.ones(8, "float32")
FOREIGN_LEAF = {
    "complex_conv.kernel": np.array([[0.1, 20.0], [0.5, 20.0]]),
    "pooling.weights": np.full((1, 1, 2, 1), 0.4),
    "pooling._bias": np.ones(2),
}

# By the name of an argument. "or none" allows None.
ARGUMENTS = {
    **dict.fromkeys(("name",), "text or none"),
    **dict.fromkeys(("dtype",), "choice or none"),
    **dict.fromkeys(
        (
            *("affine", "allow_empty_filters", "allow_unlabelled", "append"),
            *("balance", "center"),
            *("for_training", "initial", "learn_a", "learn_filters"),
            *("learn_pooling", "learn_smooth_coef", "max_pooling"),
            *("mean_var_norm", "multichannel", "normalize_energy", "pad_end"),
            *("per_band", "per_channel", "per_channel_smooth_coef", "preemp"),
            *("sort_filters", "trainable", "use_bias"),
        ),
        "bool",
    ),
    **dict.fromkeys(
        (
            *("filters", "kernel_size", "min_size", "n_filters", "seq_len"),
            *("num_filters", "num_outputs", "pool_size", "strides", "depth"),
            *("blocks", "dilation", "num_groups", "sub_bands", "units"),
        ),
        "size",
    ),
    **dict.fromkeys(("hop_length", "n_fft", "win_length"), "size or none"),
    "hidden_units": "size or none",
    **dict.fromkeys(
        (
            *("batch_size", "check_freq", "min_steps_per_epoch"),
            *("num_epochs", "patience"),
        ),
        "positive integer",
    ),
    "steps_per_epoch": "positive integer or none",
    **dict.fromkeys(
        (
            *("freq_mask_count", "freq_mask_max_bins", "time_mask_count"),
            *("time_mask_max_frames", "time_warp_max_frames", "max_shift"),
        ),
        "count",
    ),
    **dict.fromkeys(
        (
            *("amin", "epsilon", "floor", "learning_rate", "log_offset"),
            *("power", "ref", "sample_rate", "stride_factor"),
            *("temperature", "time_constant", "window_len", "window_stride"),
        ),
        "positive",
    ),
    **dict.fromkeys(("checkpoint_minutes", "conv_win_factor"), "positive"),
    **dict.fromkeys(("bandwidth_hz", "source_sample_rate"), "positive or none"),
    **dict.fromkeys(("min_band_hz", "min_freq", "min_low_hz"), "not negative"),
    **dict.fromkeys(
        ("energy_floor", "initial_energy", "max_freq", "top_db"),
        "not negative or none",
    ),
    **dict.fromkeys(
        (
            *("a", "max_db", "max_exponent", "max_gain_db", "max_snr_db"),
            *("min_db", "min_exponent", "min_snr_db", "target_db"),
        ),
        "finite",
    ),
    **dict.fromkeys(("min_factor", "max_factor"), "factor"),
    **dict.fromkeys(
        (
            *("frontend_learning_rate_factor", "frozen_frontend_epochs"),
            "encoder_learning_rate_factor",
            *("min_learning_rate", "mixup_alpha", "warmup_epochs"),
        ),
        "not negative",
    ),
    "evaluation_hop": "positive integer or none",
    "steps_before": "steps",
    "worker_processes": "count",
    "max_cache_bytes": "bytes",
    **dict.fromkeys(
        (
            *("max_share", "probability", "time_mask_max_ratio"),
            "time_warp_max_ratio",
        ),
        "share",
    ),
    **dict.fromkeys(
        (
            *("drop_path", "dropout", "dropout_rate", "label_smoothing"),
            *("factor", "momentum"),
        ),
        "rate",
    ),
    "tolerance": "rate or none",
    **dict.fromkeys(("validation_fraction", "test_fraction"), "share or none"),
    "seed": "seed or none",
    "clamp": "bool or none",
    **dict.fromkeys(
        (
            *("learning_rate_schedule", "median", "mel_scale", "method"),
            *("on_error", "pad_mode", "padding", "parametrization"),
            *("pooling_padding", "triangles", "window", "window_type"),
            *("jit_compile", "keep", "outputs", "preset", "similarity"),
            "system",
        ),
        "choice",
    ),
    **dict.fromkeys(
        ("distance", "dtype_policy", "input_norm", "norm"), "choice or none"
    ),
    "pooling": "choice",
    "stem_strides": "pair",
    "widths": "sizes",
    "size": "factor",
    **dict.fromkeys(
        (
            *("audio_key", "dataset", "label_key", "label_separator"),
            *("strategy", "weight"),
        ),
        "text",
    ),
    "title": "text or none",
    **dict.fromkeys(
        ("classifier", "path", "recording", "source", "workdir"), "path"
    ),
    **dict.fromkeys(("data_dir", "folder", "init_from"), "path or none"),
    **dict.fromkeys(("index", "on_unusable"), "function or none"),
    "address": "text",
    **dict.fromkeys(
        ("alpha", "coeff_init", "delta", "root", "smooth_coef"),
        "initial value",
    ),
    "values": "numbers",
    "probabilities": "dictionary",
    "thresholds": "given",
    **dict.fromkeys(
        (
            *("complex_conv_init", "kernel_constraint", "kernel_initializer"),
            *("kernel_regularizer", "pooling_init", "preemp_init"),
            *("regularizer_fn", "activation"),
        ),
        "keras object or none",
    ),
    **dict.fromkeys(
        (
            *("block", "conv1d_cls", "normalization_layer", "pooling_cls"),
            *("optimizer",),
        ),
        "maker or none",
    ),
    "compression_fn": "compression or none",
    "spec_augment": "bool or none",
    **dict.fromkeys(("encoder", "frontend"), "layer or none"),
    **dict.fromkeys(
        ("before", "devices", "readers", "split_names"),
        "given or none",
    ),
    **dict.fromkeys(("test_folds", "validation_folds"), "names or none"),
    **dict.fromkeys(
        (
            *("audio_data", "configs", "frontends", "model"),
            *("recordings", "seeds", "variants", "waveforms"),
        ),
        "given",
    ),
    "transform": "callable",
    "transform_fns": "list",
    "waveform": "integers",
    "fallback_sample_rate": "positive or none",
    # Those of librosa.
    **dict.fromkeys(("sr", "bias", "eps"), "positive"),
    "gain": "not negative",
    "b": "not negative or none",
}
# Functions of the folder of a published data set.
INDEXES = {
    *("audioset_index", "bird_detection_index", "birdclef2021_index"),
    *("speech_commands_index", "tut2018_index", "unlabelled_index"),
}
# Where an argument of this name is of another kind.
EXCEPTIONS = {
    **{f"{name}.folder": "path" for name in INDEXES},
    **dict.fromkeys(("COLA.classifier", "SimCLR.classifier"), "layer"),
    "COLA.temperature": "given or none",
    "ConvNet.filters": "sizes",
    "prepare.views": "given",
    "prepare.more_targets": "given or none",
    "TrainingConfig.teacher": "given or none",
    **dict.fromkeys(("NpzTeacher.weight", "RunTeacher.weight"), "inner share"),
    **{
        f"{name}.temperature": "positive or none"
        for name in ("NpzTeacher", "RunTeacher")
    },
    "TrainingConfig.pretraining": "function or none",
    "PANNConvBlock.pool_size": "pair",
    "ResNet.strides": "given or none",
    "ResidualBlock.strides": "pair",
    "MultitaskClassifier.branches": "given",
    "MultitaskClassifier.frontend": "layer",
    "Study.configs": "list",
    "Study.seeds": "integers",
    "Study.workdir": "path",
    "data_parallel.address": "text or none",
    "data_parallel.num_processes": "positive integer or none",
    "data_parallel.process": "seed or none",
    "TrainingConfig.separate_encoders": "bool",
    "tasks.sets": "given",
    "tasks.weights": "given or none",
    "tfds_set.name": "text",
    "tfds_set.source_sample_rate": "positive or none",
    "tfds_set.split_names": "given or none",
    "tfrecords.several_labels": "bool",
    "tfrecords.label_names": "given or none",
    "TrainingConfig.jit_compile": "bool",
    "Audiomentation.sample_rate": "positive integer",
    "GaborInit.n_filters": "size or none",
    "SincInit.min_freq": "not negative or none",
    **dict.fromkeys(
        (
            *("GaborInit.sample_rate", "GaborInit.window_len"),
            *("LowpassInit.sample_rate", "LowpassInit.window_len"),
            *("SincInit.sample_rate", "load.sample_rate"),
            *("audio_folder.sample_rate", "tfrecords.sample_rate"),
        ),
        "positive or none",
    ),
    "import_frontend.system": "choice or none",
    # Of an EfficientLeaf only.
    **{
        f"import_frontend.{one}": "given or none"
        for one in ("num_groups", "conv_win_factor", "stride_factor")
    },
    "MaxPooling1D.kernel_initializer": "given or none",
    "MaxPooling1D.kernel_regularizer": "given or none",
    "MaxPooling1D.use_bias": "given",
    # With lower rates, the default band of mel filters is empty.
    "MelFilterbanks.sample_rate": "high rate",
    **{
        f"{name}.{argument}": kind
        for name in ("embed", "predict")
        for argument, kind in (
            ("recordings", "list"),
            ("window", "positive or none"),
            ("hop", "positive or none"),
        )
    },
    "PreempInit.alpha": "share",
    "TrainingConfig.loss": "keras object or none",
    "TrainingConfig.optimizer": "keras object or none",
    "smoothing_coefficient.hop_length": "positive",
    "speed_change.seq_len": "size or none",
    "PCENLayer.like_librosa.hop_length": "positive",
    "LogFilters.goes_on": "bool",
    "LogFilters.path": "path or none",
    "prepare.seed": "seed",
    "TrainingConfig.seed": "seed",
    **dict.fromkeys(
        (
            *("bands.frontend", "drift.frontend", "filters.frontend"),
            *("impulse_responses.frontend", "pcen.frontend"),
            *("responses.frontend", "table.frontend"),
        ),
        "given",
    ),
}

# Functions of the samples of a clip.
WAVEFORM_FUNCTIONS = (
    *("align", "background_noise", "circular_shift", "colored_noise", "gain"),
    *("loudness_normalization", "peak_normalization", "polarity_inversion"),
    *("speed_change", "time_mask", "time_shift", "white_noise"),
)

# The arguments that must be given besides the one that is tried.
SINCNET = frontend.SincNet(n_filters=4)
SINCNET.build((None, None))
REQUIRED = {
    **dict.fromkeys(
        (
            *("FFTConv1D", "GaborConv1D", "NormalizedConv1D", "SincConv1D"),
            "WaveformConv1D",
        ),
        {"filters": 4, "kernel_size": 7},
    ),
    **dict.fromkeys(
        (
            *("ChannelWiseLearnablePooling1D", "GaussianLowpass"),
            *("GaborConstraint", "LearnablePooling1D", "MaxPooling1D"),
        ),
        {"kernel_size": 7},
    ),
    # They take less time to make than the default compressions.
    **dict.fromkeys(("EfficientLeaf", "Leaf"), {"compression_fn": "log"}),
    "ArrayInit": {"values": [1.0]},
    **dict.fromkeys(("bands", "pcen"), {"frontend": SINCNET}),
    "AudioClassifier": {"num_outputs": 3},
    **dict.fromkeys(
        ("COLA", "SimCLR"), {"classifier": models.AudioClassifier(1)}
    ),
    "BCResBlock": {"num_filters": 3},
    "ResidualBlock": {"num_filters": 3},
    "ConvBlock": {"num_filters": 3},
    "ConvNet": {"filters": [3]},
    "ExponentialMovingAverage": {"coeff_init": 0.5},
    "PANNConvBlock": {"filters": 3},
    "PANNWavBlock": {"filters": 3},
    "TrainingConfig": {"workdir": "runs/x"},
    **dict.fromkeys(("NpzTeacher", "RunTeacher"), {"path": "no_such"}),
    "Study": {"variants": {"a": []}},
    **dict.fromkeys(
        {*WAVEFORM_FUNCTIONS, "transform"},
        {"samples": WAVE},
    ),
    "Audiomentation": {"transform": function, "sample_rate": 16000},
    "background_noise": {"samples": WAVE, "sample_rate": 16000},
    "audio_folder": {"path": "."},
    "tasks": {"sets": {"b": "no_such"}},
    "tfds_set": {"name": "no_such"},
    "MultitaskClassifier": {
        "frontend": frontend.MelFilterbanks(),
        "branches": [models.AudioClassifier(2)],
    },
    **dict.fromkeys(INDEXES, {"folder": "."}),
    "db_compression": {"inputs": WAVE[None]},
    **dict.fromkeys(
        ("filters", "impulse_responses", "responses"),
        {"frontend": built_leaf()},
    ),
    "from_trained": {"source": built_leaf()},
    "evaluate": {
        "workdir": "no_such",
        "dataset": "no_such",
        "load": function,
        "prepare": function,
    },
    "log_compression": {"inputs": WAVE[None]},
    "outputs": {"frontends": {"leaf": built_leaf()}, "waveform": WAVE},
    "outputs_of_clips": {"frontend": built_leaf(), "waveforms": [WAVE]},
    **dict.fromkeys(
        ("embed", "predict"),
        {
            "classifier": TrainedClassifier(None, ["a", "b"], 16000),
            "recordings": ["a.wav"],
        },
    ),
    "prepare": {
        "audio_data": AudioData("a", ("a", "b"), 16000, {}, {}, "", ""),
    },
    "import_frontend": {"source": FOREIGN_LEAF},
    "given_labels": {"probabilities": {"a": 0.2}, "thresholds": [0.5]},
    "read_recording": {"recording": "no_such", "sample_rate": 16000},
    "smoothing_coefficient": {
        "time_constant": 0.06,
        "sample_rate": 16000,
        "hop_length": 160,
    },
}


# Tensors, and what the pipeline passes itself.
UNTRIED = {
    *(f"{name}.samples" for name in (*WAVEFORM_FUNCTIONS, "transform")),
    *(f"{name}.rng" for name in WAVEFORM_FUNCTIONS),
    *("db_compression.inputs", "log_compression.inputs"),
    *("evaluate.load", "evaluate.prepare", "evaluate.observer"),
    "import_frontend.source",
}
# With legal values they read files, train, draw or fetch data.
COSTLY = {
    "bands",
    *("audio_folder", "embed", "evaluate", "example_shape", "load", "tasks"),
    "tfds_set",
    *("serving.load", "predict", "tfrecords", "prepare", "read_recording"),
    *("mirrored", "multi_worker_mirrored", "data_parallel", "tpu"),
    *("LingvoSpecAugment", "from_trained", "import_frontend"),
    *INDEXES,
}


def arguments(name, target):
    """Returns the names of the arguments to try, those of layers among them."""
    names = inspect.signature(Factory(target)).parameters
    return [
        one
        for one, parameter in names.items()
        if f"{name}.{one}" not in UNTRIED
        and parameter.kind is not parameter.VAR_KEYWORD
    ]


def is_legal(name, argument, label):
    """Returns whether a value is legal; fails for an unknown argument."""
    kind = EXCEPTIONS.get(f"{name}.{argument}") or ARGUMENTS.get(argument)
    assert kind, f"of which kind is {name}.{argument}? See {__name__}.ARGUMENTS"
    kind, allows_none, _ = kind.partition(" or none")
    return label in KINDS[kind] or bool(allows_none and label == "none")
