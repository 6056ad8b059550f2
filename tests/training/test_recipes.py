"""Whole runs with what a recipe for few clips asks for."""

import itertools
import json

import gin
import keras
import numpy as np
import pytest
from first_step import LABELS, loss_of_first_step
from tones import SAMPLE_RATE, bindings, one_step
from training_runs import rows, train_with

from leaf_audio import data, models
from leaf_audio.app import (
    configuration,
    data_configurables,
    predict,
    run,
    train,
)
from leaf_audio.data import augmentation, transforms
from leaf_audio.training import fitting, losses

pytestmark = pytest.mark.usefixtures("fresh_gin")

FRONTENDS = {
    "leaf.gin": ["Leaf.n_filters = 8"],
    "leaf_erb.gin": ["Leaf.n_filters = 8"],
    "efficient_leaf.gin": ["EfficientLeaf.n_filters = 8"],
    "mel.gin": [],
    "mel_pcen.gin": [],
    "sincnet.gin": [],
    "sincnet_plus.gin": [],
    "tfbanks.gin": [],
}
AUGMENTATIONS = (
    "data.prepare.transform_fns = [@speed_change, @align, @circular_shift,"
    " @loudness_normalization, @gain, @white_noise, @colored_noise,"
    " @time_mask, @time_shift, @polarity_inversion, @background_noise,"
    " @peak_normalization]",
    "time_shift.max_shift = 20",
)


@pytest.fixture
def eager(monkeypatch):
    """Tracing networks for a step each would take long."""
    always = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr(models.AudioClassifier, "run_eagerly", always)


@pytest.fixture
def seen(monkeypatch):
    """Returns a list that collects the targets that the loss is given."""
    targets = []
    call = losses.Crossentropy.call

    def recorded(self, y_true, y_pred):
        targets.append(keras.ops.convert_to_numpy(y_true))
        return call(self, y_true, y_pred)

    monkeypatch.setattr(losses.Crossentropy, "call", recorded)
    return targets


@pytest.mark.parametrize(
    "least, fixed, steps",
    # 21 clips in batches of 6 are 4 steps.
    [(1, None, 4), (4, None, 4), (7, None, 7), (7, 2, 2)],
)
def test_an_epoch_has_the_least_number_of_steps(
    folder, tmp_path, monkeypatch, eager, least, fixed, steps
):
    counted = []

    def count(self, batch, logs=None):
        counted.append(batch)

    monkeypatch.setattr(fitting.Recorder, "on_train_batch_end", count)
    results = train_with(
        folder,
        tmp_path,
        "train.num_epochs = 1",
        f"train.min_steps_per_epoch = {least}",
        f"train.steps_per_epoch = {fixed}",
    )
    assert len(counted) == steps
    assert results["timings"]["steps_per_epoch"] == steps


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX traces every loss"
)
@pytest.mark.slow
def test_mixup_trains_on_shares_of_labels(folder, tmp_path, eager, seen):
    results = train_with(
        folder,
        tmp_path,
        "train.num_epochs = 2",
        "data.prepare.mixup_alpha = 0.5",
        "train.label_smoothing = 0.1",
    )
    batches = [one for one in seen if len(one) == 6]
    assert len(batches) == 8
    for targets in batches:
        assert targets.shape == (6, 3)
        np.testing.assert_allclose(targets.sum(axis=-1), 1, rtol=1e-5)
    shares = np.concatenate(batches).max(axis=-1)
    assert (shares < 0.999).sum() > 10
    # Validation is of plain clips and labels.
    assert results["metrics"]["validation"]["loss"] > 0
    assert len(rows(tmp_path)) == 2


@pytest.mark.slow
def test_mixup_and_smoothing_are_compiled_on_every_backend(folder, tmp_path):
    results = train_with(
        folder,
        tmp_path,
        "train.num_epochs = 2",
        "train.learning_rate = 0.01",
        "train.optimizer = @AdamW",
        "AdamW.weight_decay = 0.01",
        "train.label_smoothing = 0.1",
        "train.frontend_learning_rate_factor = 0.5",
        "train.frozen_frontend_epochs = 1",
        "data.prepare.mixup_alpha = 0.2",
        frontend=(
            "AudioClassifier.frontend = @Leaf()",
            f"Leaf.sample_rate = {SAMPLE_RATE}",
            "Leaf.n_filters = 4",
        ),
    )
    assert np.isfinite(results["metrics"]["test"]["loss"])
    one, two = rows(tmp_path)
    assert float(one["drift_centre_hz"]) == 0
    assert float(two["drift_centre_hz"]) > 0


def test_a_run_with_augmentations_is_evaluated_and_predicts(
    folder, tmp_path, eager
):
    noise = tmp_path / "noise"
    noise.mkdir()
    recording = folder / "tones" / "train" / "low" / "0.wav"
    (noise / "0.wav").write_bytes(recording.read_bytes())
    lines = bindings(
        folder,
        f"train.workdir = '{tmp_path / 'run'}'",
        "train.num_epochs = 1",
        *AUGMENTATIONS,
        f"background_noise.folder = '{noise}'",
    )
    run.train([], lines)
    written = (tmp_path / "run" / "results.json").read_text()
    results = json.loads(written)
    # Where a run is used, its background noise is not needed.
    (noise / "0.wav").unlink()
    run.evaluate([], [f"train.workdir = '{tmp_path / 'run'}'"])
    (file,) = (tmp_path / "run").glob("evaluations/*/evaluation.json")
    written = file.read_text()
    metrics = json.loads(written)["metrics"]
    for split, values in metrics.items():
        assert values == pytest.approx(results["metrics"][split], rel=1e-4)
    predicted = predict.predict(tmp_path / "run", [str(recording)])
    shares = predicted[str(recording)]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        *("leaf.gin", "mel.gin"),
        *(
            pytest.param(config, marks=pytest.mark.slow)
            for config in FRONTENDS
            if config not in ("leaf.gin", "mel.gin")
        ),
    ],
)
def test_own_recordings_trains_every_frontend(eager, config):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the frontends are trained elsewhere")
    files = [config, "audio_folder.gin", "own_recordings.gin"]
    configuration.parse(files, FRONTENDS[config])
    assert loss_of_first_step(seq_len=4000) < 1.5 * np.log(LABELS)
    assert configuration.dropped() == []


def test_own_recordings_trains_on_a_folder(folder, tmp_path, eager):
    configuration.parse(
        ["mel.gin", "audio_folder.gin", "own_recordings.gin"],
        one_step(folder, tmp_path / "run", seq_len=4000),
    )
    results = train.train()
    assert np.isfinite(results["metrics"]["test"]["loss"])
    assert results["kept_epoch"] == 1
    assert configuration.dropped() == []
    loaded = keras.models.load_model(tmp_path / "run" / "best.keras")
    assert isinstance(loaded.encoder, models.ResNet)
    assert isinstance(loaded.loss, losses.Crossentropy)


@pytest.mark.any_backend
def test_own_recordings_changes_clips_in_training_only(folder):
    configuration.parse(
        ["mel.gin", "audio_folder.gin", "own_recordings.gin"],
        [
            f"audio_folder.path = '{folder / 'tones'}'",
            f"data.load.data_dir = '{folder / 'prepared'}'",
            "align.seq_len = 4000",
        ],
    )
    loaded = gin.get_configurable("data.load")("audio_folder")
    batches = gin.get_configurable("data.prepare")(loaded, batch_size=7)
    assert isinstance(batches, data.Batches)
    passes = itertools.islice(batches.train(), 6)
    audio = np.concatenate([one for one, _ in passes])
    assert len({one.tobytes() for one in audio}) == len(audio)
    for audio, labels in batches.evaluation["test"]:
        np.testing.assert_allclose(audio.std(axis=-1), 1, rtol=1e-4)
        assert labels.dtype.kind == "i"


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "more, seq_len", [([], 16000), (["five_seconds.gin"], 80000)]
)
def test_own_recordings_resamples_only_a_part_of_a_long_clip(
    monkeypatch, called_by_this_test, more, seq_len
):
    configuration.parse(["mel.gin", "own_recordings.gin", *more], [])
    lengths = []

    def resample(samples, *rates):
        if called_by_this_test():
            lengths.append(len(samples))
        return samples

    monkeypatch.setattr(augmentation.soxr, "resample", resample)
    clip = np.ones(10 * seq_len, np.float32)
    chain = transforms.Chain(data_configurables.transform_fns())
    assert chain(clip, np.random.default_rng(0)).shape == (seq_len,)
    assert lengths == [pytest.approx(1.1 * seq_len, abs=1)]


@pytest.mark.slow
def test_averaged_weights_are_validated_kept_and_go_on(folder, tmp_path):
    lines = [
        "train.optimizer = @SGD",
        "train.learning_rate = 0.1",
        "SGD.use_ema = True",
        "SGD.ema_momentum = 0.9",
        "train.keep = 'last'",
    ]
    for epochs in (1, 2):
        train_with(
            folder, tmp_path / "run", f"train.num_epochs = {epochs}", *lines
        )
    results = train_with(
        folder, tmp_path / "whole", "train.num_epochs = 2", *lines
    )
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    # What is kept is what was validated.
    kept = rows(tmp_path / "whole")[results["kept_epoch"] - 1]
    validated = results["metrics"]["validation"]["loss"]
    assert float(kept["val_loss"]) == pytest.approx(validated, rel=1e-5)
    last = fitting.Workdir(tmp_path / "whole").load_best()
    with np.load(tmp_path / "whole" / "state.npz") as state:
        heads = [
            state[name]
            for name in state.files
            if state[name].shape == last.head.kernel.shape
        ]
    kernel = keras.ops.convert_to_numpy(last.head.kernel)
    # The state has the weights themselves, and their averages.
    same = [np.allclose(kernel, one, atol=1e-7) for one in heads]
    assert same.count(True) == 1 and same.count(False) == 1
