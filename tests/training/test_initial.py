"""Runs that begin with the frontend and the encoder of another run."""

import keras
import numpy as np
import pytest
from training_runs import interrupted_after, rows, train_with

from leaf_audio import frontend, models
from leaf_audio.training import Workdir, initial

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

ONE_EPOCH = ("train.num_epochs = 1", "train.learning_rate = 0.01")
STILL = ("train.steps_per_epoch = 1", "train.learning_rate = 1e-12")
COLA = ("train.pretraining = @COLA", "COLA.units = 6")


@pytest.fixture(scope="module")
def pretrained(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    train_with(folder, workdir, *ONE_EPOCH, *COLA)
    return workdir


def kernels(model):
    """Returns the weights of the encoder that a step of rate 0 leaves."""
    classifier = getattr(model, "classifier", model)
    return [
        keras.ops.convert_to_numpy(weight)
        for weight in classifier.encoder.trainable_weights
    ]


def assert_equal_weights(first, second, atol=1e-8):
    for one, other in zip(kernels(first), kernels(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def test_a_run_begins_with_the_encoder_of_a_pretrained_run(
    pretrained, folder, tmp_path
):
    init = f"train.init_from = '{pretrained}'"
    train_with(folder, tmp_path / "run", *ONE_EPOCH, *STILL, init)
    made = Workdir(tmp_path / "run").load_best()
    assert type(made) is models.AudioClassifier and made.num_outputs == 3
    assert_equal_weights(made, Workdir(pretrained).load_best())


def test_a_file_of_a_classifier_may_begin_a_pretraining(
    finished, folder, tmp_path
):
    file = finished[0] / "best.keras"
    init = f"train.init_from = '{file}'"
    train_with(folder, tmp_path / "run", *ONE_EPOCH, *STILL, *COLA, init)
    made = Workdir(tmp_path / "run").load_best()
    assert_equal_weights(made, Workdir(finished[0]).load_best())


def test_resumed_fine_tuning_equals_uninterrupted(
    pretrained, folder, tmp_path, monkeypatch
):
    copy = tmp_path / "pretrained.keras"
    copy.write_bytes((pretrained / "best.keras").read_bytes())
    more = (
        "train.num_epochs = 2",
        "train.learning_rate = 0.003",
        "train.encoder_learning_rate_factor = 0.1",
        f"train.init_from = '{copy}'",
    )
    whole = train_with(folder, tmp_path / "whole", *more)
    with interrupted_after(1, monkeypatch):
        train_with(folder, tmp_path / "resumed", *more)
    # It is not needed any more.
    copy.unlink()
    resumed = train_with(folder, tmp_path / "resumed", *more)
    assert resumed["metrics"] == whole["metrics"]
    assert rows(tmp_path / "resumed") == rows(tmp_path / "whole")


def test_an_encoder_at_rate_0_stays_while_the_dense_layer_learns(
    pretrained, folder, tmp_path
):
    train_with(
        folder,
        tmp_path / "run",
        *ONE_EPOCH,
        "train.optimizer = @AdamW",
        "AdamW.weight_decay = 0.5",
        "train.encoder_learning_rate_factor = 0",
        f"train.init_from = '{pretrained}'",
    )
    made = Workdir(tmp_path / "run").load_best()
    assert_equal_weights(made, Workdir(pretrained).load_best(), atol=0)
    bias = keras.ops.convert_to_numpy(made.head.bias)
    assert np.abs(bias).max() > 1e-3


def test_a_frozen_encoder_keeps_the_statistics_of_its_normalization(
    folder, tmp_path
):
    norm = "AudioClassifier.input_norm = 'batch'"
    train_with(folder, tmp_path / "first", *ONE_EPOCH, norm)
    train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 2",
        norm,
        "train.encoder_learning_rate_factor = 0",
        f"train.init_from = '{tmp_path / 'first'}'",
    )
    made, first = [
        Workdir(tmp_path / name).load_best() for name in ("run", "first")
    ]
    for one, other in zip(made.variables, first.variables, strict=True):
        if "head" not in one.path:
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(one),
                keras.ops.convert_to_numpy(other),
                err_msg=one.path,
            )


# Its LogTBN has statistics.
EFFICIENT_LEAF = (
    "AudioClassifier.frontend = @EfficientLeaf()",
    "EfficientLeaf.sample_rate = 4000",
    "EfficientLeaf.n_filters = 4",
    "EfficientLeaf.num_groups = 2",
)
FRONTEND_AT_0 = "train.frontend_learning_rate_factor = 0"
ENCODER_AT_0 = "train.encoder_learning_rate_factor = 0"


@pytest.fixture(scope="module")
def with_statistics(folder, tmp_path_factory):
    """A run whose frontend, normalization and encoder have statistics."""
    workdir = tmp_path_factory.mktemp("with_statistics") / "run"
    norm = "AudioClassifier.input_norm = 'batch'"
    train_with(folder, workdir, *ONE_EPOCH, norm, frontend=EFFICIENT_LEAF)
    return workdir


def changed(workdir, other):
    """Returns the paths of the weights in which two runs differ."""
    weights = zip(
        Workdir(workdir).load_best().weights,
        Workdir(other).load_best().weights,
        strict=True,
    )
    to_numpy = keras.ops.convert_to_numpy
    return {
        one.path
        for one, two in weights
        if (to_numpy(one) != to_numpy(two)).any()
    }


@pytest.mark.parametrize("augmented", ["False", "True"])
def test_with_all_factors_0_the_dense_layer_alone_changes(
    augmented, with_statistics, folder, tmp_path
):
    train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 2",
        "train.learning_rate = 0.01",
        "AudioClassifier.input_norm = 'batch'",
        f"EfficientLeaf.spec_augment = {augmented}",
        *(FRONTEND_AT_0, ENCODER_AT_0),
        f"train.init_from = '{with_statistics}'",
        frontend=EFFICIENT_LEAF,
    )
    found = changed(tmp_path / "run", with_statistics)
    assert found and all("/head/" in path for path in found), found


def test_a_pretrained_frontend_at_rate_0_keeps_its_statistics(
    with_statistics, folder, tmp_path
):
    train_with(
        folder,
        tmp_path / "run",
        *ONE_EPOCH,
        "AudioClassifier.input_norm = 'batch'",
        FRONTEND_AT_0,
        f"train.init_from = '{with_statistics}'",
        frontend=EFFICIENT_LEAF,
    )
    found = changed(tmp_path / "run", with_statistics)
    assert any("conv" in path and "leaf" not in path for path in found)
    assert any("band_normalization" in path for path in found)
    assert not any("efficient_leaf" in path for path in found)


def test_a_new_frontend_at_rate_0_takes_its_statistics_from_the_data(
    folder, tmp_path
):
    made = {}
    for name, more in (("still", STILL), ("run", (FRONTEND_AT_0,))):
        train_with(
            *(folder, tmp_path / name, *ONE_EPOCH, *more),
            frontend=EFFICIENT_LEAF,
        )
        leaf = Workdir(tmp_path / name).load_best().frontend
        made[name] = leaf.trainable_weights, leaf.non_trainable_weights
    for one, other in zip(made["still"][0], made["run"][0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    mean, _ = made["run"][1][:2]
    assert np.abs(keras.ops.convert_to_numpy(mean)).max() > 0.01


def test_a_clipping_by_norm_does_not_count_what_is_frozen(
    with_statistics, folder, tmp_path
):
    heads = []
    for name, rate in (("still", 1e-12), ("run", 0.1)):
        train_with(
            folder,
            tmp_path / name,
            "train.num_epochs = 1",
            "train.steps_per_epoch = 1",
            f"train.learning_rate = {rate}",
            "train.optimizer = @SGD",
            # Far below the norm of the gradients of the dense layer.
            "SGD.global_clipnorm = 0.01",
            "AudioClassifier.input_norm = 'batch'",
            *(FRONTEND_AT_0, ENCODER_AT_0),
            f"train.init_from = '{with_statistics}'",
            frontend=EFFICIENT_LEAF,
        )
        weights = Workdir(tmp_path / name).load_best().head.get_weights()
        heads.append(np.concatenate([one.ravel() for one in weights]))
    moved = np.linalg.norm(heads[1] - heads[0])
    np.testing.assert_allclose(moved, 0.1 * 0.01, rtol=1e-3)


def test_what_is_frozen_in_a_run_is_not_frozen_in_its_model(
    with_statistics, folder, tmp_path
):
    results = train_with(
        folder,
        tmp_path / "run",
        *(*ONE_EPOCH, "AudioClassifier.input_norm = 'batch'"),
        *(FRONTEND_AT_0, ENCODER_AT_0),
        f"train.init_from = '{with_statistics}'",
        frontend=EFFICIENT_LEAF,
    )
    made = keras.models.load_model(tmp_path / "run" / "best.keras")
    of_head = sum(weight.size for weight in made.head.get_weights())
    assert results["parameters"]["trainable"] == of_head
    assert len(made.trainable_weights) > len(made.head.trainable_weights)


@pytest.mark.parametrize(
    "lines, message",
    [
        (
            ["ConvNet.filters = [4, 5]"],
            r"filters=\[4, 5\], and filters=\[4, 4\]",
        ),
        (
            ["AudioClassifier.encoder = @PANN()", "PANN.depth = 1"],
            "`encoder` of the two classifiers.*Received: a PANN .* a ConvNet",
        ),
        (
            ["MelFilterbanks.window_stride = 5.0"],
            "`frontend` of.*window_stride=5.0, and window_stride=10.0 for",
        ),
        (["MelFilterbanks.window_len = 32.0"], "window_len=32.0, and"),
        (
            ["MelFilterbanks.min_freq = 100.0"],
            "min_freq=100.0, and min_freq=60",
        ),
        (
            ["MelFilterbanks.compression_fn = 'db'"],
            "compression_fn=db_compression, and compression_fn=log_compression",
        ),
        (["MelFilterbanks.sample_rate = 8000"], "8000 Hz. Received.*4000 Hz"),
        (["AudioClassifier.input_norm = 'batch'"], "`input_norm` of the two"),
    ],
)
def test_what_does_not_fit_is_named_before_data_is_loaded(
    lines, message, pretrained, folder, tmp_path, no_data
):
    if "8000" in lines[0]:
        lines = [*lines, "data.load.sample_rate = 8000"]
    init = f"train.init_from = '{pretrained}'"
    with pytest.raises(ValueError, match=message):
        train_with(folder, tmp_path / "run", init, *lines)


def test_a_missing_file_is_named(folder, tmp_path, no_data):
    with pytest.raises(ValueError, match="nowhere', which does not exist"):
        train_with(folder, tmp_path / "run", "train.init_from = 'nowhere'")


def test_a_rate_of_the_encoder_without_a_source_is_refused(folder, tmp_path):
    line = "train.encoder_learning_rate_factor = 0.1"
    with pytest.raises(ValueError, match="must be 1 without `init_from`"):
        train_with(folder, tmp_path / "run", line)


def test_another_kind_of_model_is_refused(tmp_path):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    own = models.AudioClassifier(2, frontend.MelFilterbanks(n_filters=8))
    own.build((None, 1600))
    with pytest.raises(ValueError, match="a Sequential for a AudioClassifier"):
        initial.take_from(tmp_path / "other.keras", own)
