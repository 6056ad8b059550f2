"""Whole runs on clips with several labels, from index.csv to predictions."""

import csv
import itertools
import json
import shutil

import gin
import keras
import numpy as np
import pytest
import soundfile
from tones import LABELS, SAMPLE_RATE, bindings, python, write_tones
from training_runs import evaluation_of, rows, train_with

from leaf_audio import serving
from leaf_audio.app import (
    configuration,
    predict,
    prediction_formats,
    run,
    train,
)
from leaf_audio.training import Workdir, fitting, thresholds

pytestmark = pytest.mark.usefixtures("fresh_gin")

COUNTS = {"train": 8, "validation": 4, "test": 4}
NAMES = sorted(LABELS)
SETTINGS = (
    "train.num_epochs = 20",
    "train.learning_rate = 0.01",
    "audio_folder.allow_unlabelled = True",
)


def write_mixtures(folder):
    """Writes clips of each set of the three tones, the empty set among them."""
    rng = np.random.default_rng(0)
    time = np.arange(600) / SAMPLE_RATE
    lines = ["file,labels,split"]
    for split, count in COUNTS.items():
        (folder / split).mkdir(parents=True)
        for number, bits in enumerate(itertools.product([0, 1], repeat=3)):
            some = [n for n, bit in zip(NAMES, bits, strict=True) if bit]
            for i in range(count):
                samples = 0.05 * rng.standard_normal(len(time))
                for name in some:
                    phase = rng.uniform(0, 2 * np.pi)
                    angle = 2 * np.pi * LABELS[name] * time + phase
                    samples += 0.25 * np.sin(angle)
                file = f"{split}/{number}_{i}.wav"
                soundfile.write(folder / file, samples, SAMPLE_RATE)
                lines.append(f"{file},{';'.join(some)},{split}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    path = tmp_path_factory.mktemp("several")
    write_mixtures(path / "tones")
    return path


@pytest.fixture(scope="module")
def several(mixtures):
    """A run with mixup, smoothing, balanced clips, and chunks.

    Each clip of 600 samples has two chunks of 500.
    """
    results = train_with(
        mixtures,
        mixtures / "run",
        *SETTINGS,
        "data.prepare.balance = True",
        "data.prepare.mixup_alpha = 0.1",
        "data.prepare.evaluation_hop = 100",
        "train.label_smoothing = 0.02",
    )
    gin.clear_config()
    return mixtures / "run", results


def test_the_run_learns_and_records_its_kind(several):
    workdir, results = several
    assert results["data"]["is_multilabel"] is True
    assert results["data"]["labels"] == NAMES
    loss = results["metrics"]["test"]["loss"]
    # ln 2 is the loss of a model that has learned nothing.
    assert loss < 0.55
    thresholds = results["thresholds"]
    assert list(thresholds) == NAMES
    assert all(0 < one < 1 for one in thresholds.values())
    assert Workdir(workdir).read_thresholds() == list(thresholds.values())


def test_a_student_learns_several_labels_from_a_teacher_alone(
    several, mixtures, tmp_path
):
    results = train_with(
        mixtures,
        tmp_path / "run",
        *SETTINGS,
        "data.prepare.mixup_alpha = 0.1",
        "train.teacher = @RunTeacher()",
        f"RunTeacher.path = '{several[0]}'",
        "RunTeacher.weight = 1.0",
    )
    assert results["metrics"]["test"]["map"] > 0.8
    history = rows(tmp_path / "run")
    assert float(history[-1]["loss"]) < 0.5 * float(history[0]["loss"])


def test_a_teacher_of_one_label_is_refused_for_several(
    mixtures, finished, tmp_path
):
    with pytest.raises(ValueError, match="for several labels of each .* one"):
        train_with(
            mixtures,
            tmp_path / "run",
            *SETTINGS,
            "train.teacher = @RunTeacher()",
            f"RunTeacher.path = '{finished[0]}'",
        )


def test_the_metrics_are_those_of_several_labels(several):
    for split in ("validation", "test"):
        found = several[1]["metrics"][split]
        assert "accuracy" not in found
        assert found["map"] > 0.85 and found["auc"] > 0.85
        # There is no interval where all draws agree.
        assert ("map_low" in found) == (found["map"] < 1)
        assert found.get("map_low", 1) <= found["map"]
        assert found["map"] <= found.get("map_high", 1)
    assert several[1]["data"]["groups"] == {"validation": 32, "test": 32}


def test_the_best_epoch_is_that_of_the_mean_average_precision(several):
    workdir, results = several
    # A metric that is not defined after an epoch is empty.
    history = [
        {name: float(value) for name, value in row.items() if value}
        for row in rows(workdir)
    ]
    best = max(history, key=lambda row: (row["val_map"], -row["val_loss"]))
    assert best["epoch"] == results["best_epoch"]
    assert best["val_map"] > history[0]["val_map"]
    last = history[-1]
    assert 0 < last["label_accuracy"] <= 1
    assert not {"accuracy", "val_accuracy"} & set(last)
    line = fitting.epoch_line(last | {"seconds": 1}, 20)
    assert line == (
        f"epoch 20/20: loss {last['loss']:.3f} (val {last['val_loss']:.3f}), "
        f"val mAP {last['val_map']:.3f}, 1 s"
    )


def tables_in(folder):
    return {
        file.name: file.read_text()
        for pattern in ("classes_*", "confusion_*")
        for file in folder.glob(pattern)
    }


def test_the_table_of_labels_counts_by_their_thresholds(several, mixtures):
    workdir, results = several
    assert set(tables_in(workdir)) == {
        "classes_validation.csv",
        "classes_test.csv",
    }
    with open(workdir / "classes_test.csv", newline="") as file:
        table = {row["label"]: row for row in csv.DictReader(file)}
    files = sorted((mixtures / "tones/test").iterdir())
    # Predictions are averages over the same chunks.
    found = predict.predict(str(workdir), list(map(str, files)))
    for name, threshold in results["thresholds"].items():
        present = np.array([name in true_labels(file) for file in files])
        shares = np.array([found[str(file)][name] for file in files])
        right = (present & (shares >= threshold)).sum()
        assert table[name]["clips"] == "16"
        assert table[name]["recall"] == f"{right / 16:.4f}"
        precision = right / (shares >= threshold).sum()
        assert table[name]["precision"] == f"{precision:.4f}"


def test_the_loss_is_that_of_keras(several):
    model = keras.models.load_model(several[0] / "best.keras")
    assert isinstance(model.loss, keras.losses.BinaryCrossentropy)
    assert model.loss.from_logits is True
    assert model.loss.label_smoothing == 0.02


def test_evaluation_repeats_the_results(several):
    workdir, results = several
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    (folder,) = (workdir / "evaluations").iterdir()
    assert tables_in(folder) == tables_in(workdir)
    found = evaluation_of(workdir)["metrics"]
    assert found["test"] == pytest.approx(results["metrics"]["test"])


def test_evaluation_takes_clips_of_one_label_each(several, tmp_path):
    write_tones(tmp_path / "tones")
    for other in ("train", "validation"):
        shutil.rmtree(tmp_path / "tones" / other)
    lines = [
        f"train.workdir = '{several[0]}'",
        f"audio_folder.path = '{tmp_path / 'tones'}'",
    ]
    with pytest.raises(ValueError, match="`audio_folder.allow_unlabelled`"):
        run.evaluate([], lines)
    run.evaluate([], [*lines, "audio_folder.allow_unlabelled = False"])
    found = evaluation_of(several[0])
    assert found["data"]["counts"] == {"test": 9}
    assert np.isfinite(found["metrics"]["test"]["loss"])


def test_a_run_of_one_label_refuses_clips_of_several(finished, mixtures):
    lines = [
        f"train.workdir = '{finished[0]}'",
        f"audio_folder.path = '{mixtures / 'tones'}'",
        "audio_folder.allow_unlabelled = True",
    ]
    with pytest.raises(ValueError, match="must have one label for each clip"):
        run.evaluate([], lines)
    assert finished[1]["data"]["is_multilabel"] is False
    assert "thresholds" not in finished[1]
    assert Workdir(finished[0]).read_thresholds() is None


def true_labels(file):
    bits = itertools.product([0, 1], repeat=3)
    some = list(bits)[int(file.name.split("_")[0])]
    return {n for n, bit in zip(NAMES, some, strict=True) if bit}


def test_predictions_give_the_labels_above_their_thresholds(several, mixtures):
    workdir, results = several
    files = sorted((mixtures / "tones/test").iterdir())
    found = predict.predict(str(workdir), list(map(str, files)))
    thresholds = list(results["thresholds"].values())
    right = 0
    for file in files:
        probabilities = found[str(file)]
        assert all(0 <= one <= 1 for one in probabilities.values())
        given = serving.given_labels(probabilities, thresholds)
        right += len({*NAMES} - ({*given} ^ true_labels(file)))
    assert right / (3 * len(files)) > 0.8
    sums = [sum(one.values()) for one in found.values()]
    assert max(sums) > 1.2 and min(sums) < 0.8
    loaded = serving.TrainedClassifier.from_run(workdir)
    assert list(loaded.thresholds) == thresholds


@pytest.mark.slow
def test_the_command_prints_which_labels_reach_their_threshold(
    several, mixtures
):
    files = [str(mixtures / f"tones/test/{k}_0.wav") for k in (7, 0)]
    command = ("-m", "example.predict", f"--workdir={several[0]}", "--top=1")
    lines = python(*command, *files).stdout.splitlines()
    found = serving.predict(several[0], files)
    thresholds = Workdir(several[0]).read_thresholds()
    choice = prediction_formats.Choice(thresholds, top=1)
    assert lines == list(prediction_formats.text(found, choice, False))


@pytest.mark.any_backend
def test_a_threshold_for_each_label_must_be_given():
    with pytest.raises(ValueError, match="`thresholds` must hold .* 2 labels"):
        serving.given_labels({"a": 0.1, "b": 0.2}, [0.5])


@pytest.mark.parametrize(
    "thresholds",
    [None, {}, [], {"high": 2, "low": 0.5, "mid": 0.5}, {"high": 0.5}],
)
def test_damaged_thresholds_are_named(several, tmp_path, thresholds):
    shutil.copytree(several[0], tmp_path / "run")
    file = tmp_path / "run/results.json"
    content = json.loads(file.read_text()) | {"thresholds": thresholds}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="results.json must"):
        serving.TrainedClassifier.from_run(tmp_path / "run")


@pytest.fixture
def eager(monkeypatch):
    """Tracing a network for one step would take long."""
    always = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr("leaf_audio.models.AudioClassifier.run_eagerly", always)


@pytest.mark.parametrize(
    "lines, expected",
    [
        (["train.loss = 'binary_focal_crossentropy'"], "BinaryFocal"),
        (["train.loss = @BinaryFocalCrossentropy()"], "BinaryFocal"),
        (
            [
                "train.loss = @BinaryFocalCrossentropy",
                "BinaryFocalCrossentropy.gamma = 1.5",
            ],
            "BinaryFocal",
        ),
    ],
)
def test_another_loss_can_be_bound(mixtures, tmp_path, eager, lines, expected):
    train_with(
        mixtures,
        tmp_path,
        *SETTINGS[2:],
        "train.num_epochs = 1",
        "train.steps_per_epoch = 1",
        *lines,
    )
    loss = keras.models.load_model(tmp_path / "best.keras").loss
    assert type(loss).__name__ == f"{expected}Crossentropy"
    assert loss.from_logits is True
    assert loss.gamma == (1.5 if len(lines) > 1 else 2.0)


GIVEN = []


@gin.configurable(module="own")
def distance(targets, logits, scale=1.0):
    GIVEN.append((scale, tuple(targets.shape), tuple(logits.shape)))
    return scale * keras.ops.mean((targets - logits) ** 2, axis=-1)


@pytest.mark.parametrize("data", ["mixtures", "folder"])
def test_a_loss_of_ones_own_gets_targets_of_all_labels(
    request, tmp_path, eager, data
):
    train_with(
        request.getfixturevalue(data),
        tmp_path / "run",
        *(SETTINGS[2:] if data == "mixtures" else ()),
        "train.num_epochs = 1",
        "train.steps_per_epoch = 1",
        "train.loss = @own.distance",
        "distance.scale = 3.0",
    )
    assert GIVEN[-1] == (3.0, (6, 3), (6, 3))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["config"]["train.loss"] == "@distance"
    run.evaluate([], [f"train.workdir = '{tmp_path / 'run'}'"])


@pytest.mark.parametrize(
    "lines, named",
    [
        (["train.loss = 'binary_focal'"], "`loss` must .*Did you mean"),
        (["train.loss = @Dense"], "`loss` must be the name"),
        (["train.loss = 3"], "`loss` must be the name.*loss=3"),
        (
            ["train.loss = @Hinge", "train.label_smoothing = 0.1"],
            "`label_smoothing` must be 0 for",
        ),
        (["BinaryCrossentropy.axis = 0"], "write train.loss = @BinaryCross"),
        (["BinaryCrossentropy.from_logits = False"], "from_logits"),
    ],
)
def test_a_loss_that_cannot_be_used_is_told_before_data_is_loaded(
    mixtures, tmp_path, no_data, lines, named
):
    with pytest.raises(ValueError, match=named):
        train_with(mixtures, tmp_path / "run", *SETTINGS, *lines)
    assert not (tmp_path / "run").exists()


def test_a_loss_of_one_label_is_refused_when_the_data_is_known(
    mixtures, tmp_path
):
    loss = "train.loss = 'sparse_categorical_crossentropy'"
    with pytest.raises(ValueError, match="targets of shape .batch, labels"):
        train_with(mixtures, tmp_path / "run", *SETTINGS, loss)


def test_thresholds_of_few_clips_are_told(
    mixtures, tmp_path, capsys, monkeypatch
):
    # 16 of the clips that choose the thresholds have each label.
    monkeypatch.setattr(thresholds, "_FEW_CLIPS", 17)
    train_with(mixtures, tmp_path / "run", *SETTINGS, "train.num_epochs = 1")
    told = capsys.readouterr().out
    assert f"fewer than 17 with the label: {NAMES[0]!r} (16), " in told


def test_what_the_data_is_is_told(mixtures, tmp_path, no_data, capsys):
    configuration.parse(
        [],
        bindings(mixtures, *SETTINGS, f"train.workdir = '{tmp_path}'"),
    )
    loaded = gin.get_configurable("data.load")(
        "audio_folder", data_dir=str(mixtures / "prepared")
    )
    train.report.print_data(loaded, tmp_path / "results.json")
    told = capsys.readouterr().out
    assert "labels of a clip: 0 to 3, 1.50 on average\n" in told
