"""Several tasks in one run: loss, metrics, resumption, a model for each."""

import json
import shutil

import gin
import keras
import numpy as np
import pytest
import soundfile
from gradients import grad_mean_square
from keras import ops
from tones import SAMPLE_RATE, bindings
from training_runs import Loaded, interrupted_after, rows, train_with

import leaf_audio
from leaf_audio import models
from leaf_audio.app import run
from leaf_audio.training import Workdir, losses, multitask

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

SIZES = [3, 2]
LABELS = np.array([2, 0, 4, 3, 1], "int32")
TASKS = (
    "train.dataset = 'tasks'",
    "tasks.sets = {'tones': @audio_folder, 'noises': @noises/audio_folder}",
    "tasks.weights = {'tones': 1, 'noises': 1}",
)
SEPARATE = "train.separate_encoders = True"


def logits():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 5)).astype("float32") * 3


def entropies(label_smoothing=0.0):
    """The cross-entropy of each clip over the labels of its task."""
    found = []
    for row, label in zip(logits().astype("float64"), LABELS, strict=True):
        own = row[:3] if label < 3 else row[3:]
        position = label if label < 3 else label - 3
        targets = np.full(len(own), label_smoothing / len(own))
        targets[position] += 1 - label_smoothing
        found.append(-(targets * (own - np.log(np.exp(own).sum()))).sum())
    return np.array(found)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_over_the_labels_of_the_task(smoothing):
    loss = multitask.TaskCrossentropy(SIZES, smoothing)
    found = float(loss(LABELS, logits()))
    assert found == pytest.approx(entropies(smoothing).mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_one_task_is_that_of_one_data_set(smoothing):
    found = multitask.TaskCrossentropy([5], smoothing)(LABELS, logits())
    expected = losses.choose(label_smoothing=smoothing)(LABELS, logits())
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


class RootOfLoss(keras.layers.Layer):
    """Its mean square is the loss of its inputs."""

    def call(self, inputs):
        return ops.sqrt(multitask.TaskCrossentropy(SIZES)(LABELS, inputs))


def test_the_outputs_of_other_tasks_get_no_gradient():
    given = logits()
    found, _ = grad_mean_square(RootOfLoss(), given)
    expected = np.zeros((5, 5))
    for i, label in enumerate(LABELS):
        block = slice(0, 3) if label < 3 else slice(3, 5)
        own = np.exp(given[i, block])
        expected[i, block] = own / own.sum()
        expected[i, label] -= 1
    np.testing.assert_allclose(found, expected / 5, atol=1e-6)


def test_a_clip_is_right_if_its_label_is_the_highest_of_its_task():
    given = np.zeros((3, 5), "float32")
    given[0] = [1, 0, 0, 9, 0]
    given[1] = [9, 0, 0, 0, 1]
    given[2] = [0, 9, 0, 2, 1]
    found = multitask.task_accuracy(np.array([0, 4, 4]), given, SIZES)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), [1, 1, 0])


@pytest.fixture(scope="session")
def noises(folder):
    """A second data set in the same folder, of longer clips: loud and soft."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 3), ("test", 2)):
        for label, level in (("loud", 0.3), ("soft", 0.03)):
            place = folder / "noises" / split / label
            place.mkdir(parents=True)
            for i in range(count):
                samples = level * rng.standard_normal(1300).clip(-3, 3)
                soundfile.write(place / f"{i}.wav", samples, SAMPLE_RATE)
    return f"noises/audio_folder.path = '{folder / 'noises'}'"


def train_tasks(folder, noises, workdir, *more, **parts):
    return train_with(folder, workdir, *TASKS, noises, *more, **parts)


@pytest.fixture(scope="session", params=[False, True], ids=["shared", "own"])
def trained(request, folder, noises, tmp_path_factory):
    """A run of two epochs, with one encoder or two."""
    workdir = tmp_path_factory.mktemp("tasks") / "run"
    results = train_tasks(
        folder,
        noises,
        workdir,
        "train.num_epochs = 2",
        "train.learning_rate = 0.01",
        *((SEPARATE,) if request.param else ()),
    )
    gin.clear_config()
    return workdir, results


def test_metrics_are_those_of_each_task_and_their_means(trained):
    workdir, results = trained
    for split, tones, noisy in (("validation", 9, 6), ("test", 9, 4)):
        found = results["metrics"][split]
        of_tones, of_noises = (
            json.loads((workdir / "tasks" / one / "results.json").read_text())
            for one in ("tones", "noises")
        )
        assert of_tones["data"]["counts"][split] == tones
        assert of_noises["data"]["counts"][split] == noisy
        for name in ("accuracy", "loss"):
            own = [one["metrics"][split][name] for one in (of_tones, of_noises)]
            assert found[name] == pytest.approx(np.mean(own))
            assert found[f"tones_{name}"] == own[0]
            assert found[f"noises_{name}"] == own[1]
    last = rows(workdir)[-1]
    assert {"val_tones_accuracy", "val_noises_accuracy"} <= set(last)
    best = results["best_epoch"] - 1
    validated = float(rows(workdir)[best]["val_accuracy"])
    found = results["metrics"]["validation"]["accuracy"]
    assert validated == pytest.approx(found)


def test_results_describe_the_tasks(trained):
    _, results = trained
    assert results["tasks"] == {
        "noises": {
            "dataset": "audio_folder",
            "labels": ["loud", "soft"],
            "weight": 1.0,
        },
        "tones": {
            "dataset": "audio_folder",
            "labels": ["high", "low", "mid"],
            "weight": 1.0,
        },
    }
    assert results["data"]["labels"] == [
        *("noises/loud", "noises/soft"),
        *("tones/high", "tones/low", "tones/mid"),
    ]


@pytest.mark.parametrize(
    "name, labels",
    [("tones", ["high", "low", "mid"]), ("noises", ["loud", "soft"])],
)
def test_the_folder_of_a_task_is_a_run_of_its_own(trained, name, labels):
    workdir, _ = trained
    loaded = leaf_audio.load(workdir / "tasks" / name)
    assert loaded.labels == labels
    assert type(loaded.model) is models.AudioClassifier
    samples = np.random.default_rng(0).normal(size=500).astype("float32")
    found = loaded.predict(samples / 10, SAMPLE_RATE)
    clip = loaded.prepare(samples, SAMPLE_RATE)[None]
    whole = Workdir(workdir).load_best()(clip)
    block = slice(0, 2) if name == "noises" else slice(2, 5)
    expected = ops.softmax(whole[0, block])
    np.testing.assert_allclose(
        loaded.probabilities(clip)[0],
        ops.convert_to_numpy(expected),
        rtol=1e-4,
        atol=1e-6,
    )
    assert sum(found.values()) == pytest.approx(1)
    assert (workdir / "tasks" / name / "classes_test.csv").exists()
    # So that a page of it has curves.
    log = (workdir / "metrics.csv").read_text()
    assert (workdir / "tasks" / name / "metrics.csv").read_text() == log


def test_the_folder_of_a_task_is_evaluated_on_its_data_again(trained, tmp_path):
    workdir, results = trained
    copy = tmp_path / "copy"
    shutil.copytree(workdir / "tasks" / "noises", copy)
    run.evaluate([], [f"train.workdir = '{copy}'"])
    (file,) = copy.glob("evaluations/*/evaluation.json")
    found = json.loads(file.read_text())["metrics"]["test"]
    expected = results["metrics"]["test"]["noises_loss"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_whole_run_names_the_folders_to_use_instead(trained):
    workdir, _ = trained
    for use in (
        leaf_audio.load,
        lambda path: run.evaluate([], [f"train.workdir = '{path}'"]),
    ):
        with pytest.raises(ValueError, match="a run of several.*tasks.tones"):
            use(workdir)


def test_a_run_begins_with_frontend_and_encoder_of_a_task(
    trained, folder, tmp_path
):
    workdir, _ = trained
    train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 1",
        f"train.init_from = '{workdir / 'tasks' / 'noises'}'",
        "train.encoder_learning_rate_factor = 0",
        "train.frontend_learning_rate_factor = 1",
    )
    kernels = [
        Workdir(path).load_best().encoder.get_weights()[0]
        for path in (workdir / "tasks" / "noises", tmp_path / "run")
    ]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), id="shared", marks=pytest.mark.slow),
        pytest.param((SEPARATE,), id="own"),
    ],
)
def test_a_resumed_run_of_tasks_equals_an_uninterrupted_one(
    more, folder, noises, tmp_path, monkeypatch
):
    more = ("train.num_epochs = 2", "train.learning_rate = 0.003", *more)
    whole = train_tasks(folder, noises, tmp_path / "whole", *more)
    with interrupted_after(1, monkeypatch):
        train_tasks(folder, noises, tmp_path / "resumed", *more)
    resumed = train_tasks(folder, noises, tmp_path / "resumed", *more)
    assert resumed["metrics"] == whole["metrics"]
    assert rows(tmp_path / "resumed") == rows(tmp_path / "whole")


def test_the_folders_of_tasks_go_with_the_model_that_they_were_made_of(
    folder, noises, tmp_path, monkeypatch
):
    workdir = tmp_path / "run"
    rate = "train.learning_rate = 0.01"
    train_tasks(folder, noises, workdir, rate, "train.num_epochs = 1")
    task = Workdir(workdir).of_task("tones")
    assert leaf_audio.load(task.path).labels
    (task.path / "notes.txt").write_text("mine")
    with interrupted_after(4, monkeypatch):
        train_tasks(folder, noises, workdir, rate, "train.num_epochs = 4")
    # There is a better model than that of the first epoch.
    assert not (workdir / "results.json").exists()
    assert not list(task.path.glob("*.keras")) + list(task.path.glob("*.csv"))
    with pytest.raises(ValueError, match="must hold a finished run"):
        leaf_audio.load(task.path)
    assert (task.path / "notes.txt").exists()
    train_tasks(folder, noises, workdir, rate, "train.num_epochs = 4")
    assert leaf_audio.load(task.path).labels


def test_chunks_of_a_clip_are_averaged_within_its_task(
    folder, noises, tmp_path
):
    results = train_tasks(
        folder,
        noises,
        tmp_path / "run",
        "train.num_epochs = 1",
        "data.prepare.evaluation_hop = 500",
    )
    # Clips of 1300 samples are three chunks, those of 600 are two.
    loaded = leaf_audio.load(tmp_path / "run" / "tasks" / "noises")
    right = 0
    for file in (folder / "noises" / "test").glob("*/*.wav"):
        found = loaded.predict(*soundfile.read(file))
        right += max(found, key=found.get) == file.parent.name
    assert results["metrics"]["test"]["noises_accuracy"] == right / 4


@pytest.mark.parametrize(
    "line, named",
    [
        ("train.loss = 'hinge'", "`loss` must be None with several tasks"),
        ("data.prepare.mixup_alpha = 0.2", "`mixup_alpha` must be 0"),
        ("tasks.weights = {'tones': 1}", "`weights` must be.*'noises'"),
        ("tasks.sets = {'a b': 'speech_commands'}", "`sets` must be"),
        ("tasks.sets = None", "`sets` must be"),
    ],
)
def test_settings_that_do_not_go_with_tasks_are_named(
    line, named, folder, noises, tmp_path
):
    with pytest.raises(ValueError, match=named):
        train_tasks(folder, noises, tmp_path / "run", line)
    assert not (tmp_path / "run").exists()


def test_a_teacher_is_refused(folder, noises, tmp_path):
    outputs = tmp_path / "outputs.npz"
    np.savez(outputs, files=["a.wav"], logits=np.zeros((1, 5), "float32"))
    lines = (
        "train.teacher = @NpzTeacher()",
        f"NpzTeacher.path = '{outputs}'",
    )
    with pytest.raises(ValueError, match="`teacher` must be None with several"):
        train_tasks(folder, noises, tmp_path / "run", *lines)


def test_separate_encoders_need_several_tasks(folder, tmp_path, no_data):
    with pytest.raises(ValueError, match="`init_from` must be None"):
        train_with(folder, tmp_path, SEPARATE, "train.init_from = 'x'")
    with pytest.raises(Loaded):
        train_with(folder, tmp_path, SEPARATE)


def test_separate_encoders_are_refused_for_one_data_set(folder, tmp_path):
    with pytest.raises(ValueError, match="`separate_encoders` must be False"):
        train_with(folder, tmp_path / "run", SEPARATE)


def test_a_scope_that_nothing_refers_to_is_named(folder, noises, tmp_path):
    line = "noise/audio_folder.path = 'x'"
    with pytest.raises(ValueError, match="noise/audio_folder.path"):
        train_tasks(folder, noises, tmp_path / "run", line)


def test_the_table_has_a_row_for_each_task(folder, noises, tmp_path, capsys):
    lines = bindings(
        folder,
        *(*TASKS, noises, "train.num_epochs = 1"),
        f"train.workdir = '{tmp_path / 'run'}'",
    )
    run.train([], lines)
    shown = capsys.readouterr().out
    for part in ("test, tones", "test, noises", "test, mean", "weight 1"):
        assert part in shown


def test_a_task_without_validation_clips_has_no_part_in_it(
    folder, noises, tmp_path, capsys
):
    source = noises.split("'")[1]
    for split in ("train", "test"):
        shutil.copytree(f"{source}/{split}", tmp_path / "noises" / split)
    lines = bindings(
        folder,
        *(*TASKS, "train.num_epochs = 1"),
        f"noises/audio_folder.path = '{tmp_path / 'noises'}'",
        f"train.workdir = '{tmp_path / 'run'}'",
    )
    run.train([], lines)
    shown = capsys.readouterr().out
    assert "validation, tones" in shown and "test, noises" in shown
    assert "validation, noises" not in shown
    assert "noises: There are no clips for validation" in shown
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    validated = found["metrics"]["validation"]
    assert validated["accuracy"] == validated["tones_accuracy"]
    assert not [name for name in validated if name.startswith("noises")]
    own = tmp_path / "run" / "tasks" / "noises"
    assert set(json.loads((own / "results.json").read_text())["metrics"]) == {
        "test"
    }
    assert leaf_audio.load(own).labels
