"""Evaluation of the best model of a run, also on other data."""

import csv
import errno
import json
import pathlib
import shutil

import grain
import keras
import numpy as np
import pytest
import soundfile
from tones import bindings, write_tones
from training_runs import evaluation_of, interrupted_after, train_with

from leaf_audio.app import run
from leaf_audio.training import NotWritten, scoring

pytestmark = pytest.mark.usefixtures("fresh_gin")


def test_evaluation_needs_a_split_to_evaluate(finished, tmp_path):
    write_tones(tmp_path / "tones")
    for split in ("validation", "test"):
        shutil.rmtree(tmp_path / "tones" / split)
    workdir = f"train.workdir = '{finished[0]}'"
    path = f"audio_folder.path = '{tmp_path / 'tones'}'"
    with pytest.raises(ValueError, match="must have a split 'validation' or"):
        run.evaluate([], [workdir, path])


@pytest.mark.any_backend
def test_scores_count_each_clip_once_in_batches_of_one_size():
    sizes = []

    class First(keras.Model):
        def call(self, inputs):
            return keras.ops.pad(inputs, [[0, 0], [0, 1]])

        def predict(self, batches, **kwargs):
            sizes.extend(len(audio) for audio in batches)
            return super().predict(batches, **kwargs)

    audio = np.array([[1.0], [1.0], [-1.0]] * 2, "float32")
    labels = np.array([0, 0, 0] * 2, "int32")
    score = scoring.Scorer(in_batches(audio), labels, batch_size=4)
    # The labels are not read from the batches, which may be large.
    assert sizes == []
    scores = score(First())
    assert sizes == [4, 4]
    assert scores["accuracy"] == pytest.approx(2 / 3)


def in_batches(audio):
    source = grain.MapDataset.source([(one, -1) for one in audio])
    return source.batch(4).to_iter_dataset()


class TwoLogits(keras.Model):
    """Its probability of the first label is the value of the clip."""

    def call(self, inputs):
        logit = keras.ops.log(inputs) - keras.ops.log(1 - inputs)
        return keras.ops.pad(logit, [[0, 0], [0, 1]])


@pytest.mark.any_backend
def test_the_chunks_of_a_clip_count_as_one():
    audio = np.array([[0.9], [0.3], [0.1], [0.2], [0.6]], "float32")
    clips = np.array([0, 0, 1, 1, 1])
    labels = np.array([0, 0])
    score = scoring.Scorer(in_batches(audio), labels, 4, clips)
    found = score(TwoLogits())
    assert found["accuracy"] == 0.5
    # Means of probabilities, 0.6 and 0.3, and not of logits.
    expected = -np.log([0.6, 0.3]).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.any_backend
def test_clips_may_have_several_labels():
    audio = np.array([[0.9], [0.8], [0.6], [0.1]], "float32")
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    score = scoring.Scorer(in_batches(audio), labels, 4)
    found = score(TwoLogits())
    assert found["map"] == pytest.approx(5 / 6)
    outcome = scoring.Outcome(labels, score.logits(TwoLogits()))
    values = outcome.metrics
    assert values["map_low"] < values["map"] <= values["map_high"]
    assert "accuracy" not in values


def test_evaluation_needs_no_config_and_repeats_the_results(finished, capsys):
    workdir, results = finished
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    evaluation = evaluation_of(workdir)
    assert evaluation["metrics"] == results["metrics"]
    assert evaluation["data"]["groups"] == {"validation": 9, "test": 9}
    assert evaluation["data"]["skipped"] == {}
    assert evaluation["data"]["warnings"] == []
    accuracy = f"{results['metrics']['test']['accuracy']:.4f}"
    assert accuracy in capsys.readouterr().out


def test_an_evaluation_that_cannot_be_written_is_printed(
    finished, tmp_path, monkeypatch, capsys
):
    """The folder may be that of somebody else."""
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    before = {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}
    make = pathlib.Path.mkdir

    def refuse(path, *args, **kwargs):
        if path.is_relative_to(workdir):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    with pytest.raises(NotWritten, match="could not be written to") as error:
        run.evaluate([], [f"train.workdir = '{workdir}'"])
    assert str(workdir / "evaluations") in str(error.value)
    assert isinstance(error.value, run.EXPECTED_ERRORS)
    assert error.value.metrics == finished[1]["metrics"]
    out = capsys.readouterr().out
    assert f"{finished[1]['metrics']['test']['accuracy']:.4f}" in out
    after = {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}
    assert before == after


def test_evaluation_names_the_epoch_of_the_model(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    results = json.loads((workdir / "results.json").read_text())
    # As with `train.keep = 'last'`.
    results |= {"best_epoch": 1, "kept_epoch": 2}
    (workdir / "results.json").write_text(json.dumps(results))
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    printed = capsys.readouterr().out
    assert f"audio_folder, model of epoch 2 of {workdir}\n" in printed
    assert "best" not in printed
    (file,) = workdir.glob("evaluations/*/evaluation.json")
    assert json.loads(file.read_text())["epoch"] == 2
    # A run that is trained on has no results of its present model yet.
    (workdir / "results.json").unlink()
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    printed = capsys.readouterr().out
    assert f", model of {workdir}, which has not ended\n" in printed
    assert json.loads(file.read_text())["epoch"] is None


def test_evaluation_takes_the_command_of_the_training(folder, finished):
    workdir, _ = finished
    run.evaluate(
        [],
        bindings(
            folder,
            f"train.workdir = '{workdir}'",
            "train.num_epochs = 2",
            "train.learning_rate = 0.01",
        ),
    )
    evaluation_of(workdir)


def test_evaluation_refuses_bindings_that_need_another_model(finished, no_data):
    workdir, _ = finished
    with pytest.raises(ValueError, match="effect: MelFilterbanks.n_filters"):
        run.evaluate(
            [],
            [f"train.workdir = '{workdir}'", "MelFilterbanks.n_filters = 9"],
        )


def test_evaluation_refuses_other_labels_and_rates(finished, tmp_path):
    write_tones(tmp_path / "tones")
    for split in ("train", "validation", "test"):
        place = tmp_path / "tones" / split
        (place / "mid").rename(place / "middle")
    workdir = f"train.workdir = '{finished[0]}'"
    path = f"audio_folder.path = '{tmp_path / 'tones'}'"
    with pytest.raises(ValueError, match="labels.*'mid'.*'middle'"):
        run.evaluate([], [workdir, path])
    with pytest.raises(ValueError, match="`sample_rate` of the frontend"):
        run.evaluate([], [workdir, "data.load.sample_rate = 8000"])
    assert not (finished[0] / "evaluations").exists()


def test_an_unfinished_run_has_labels_too(folder, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    with interrupted_after(1, monkeypatch):
        train_with(folder, workdir, "train.num_epochs = 2")
    write_tones(tmp_path / "tones")
    for split in ("train", "validation", "test"):
        place = tmp_path / "tones" / split
        (place / "mid").rename(place / "middle")
    given = f"train.workdir = '{workdir}'"
    with pytest.raises(ValueError, match="labels.*'mid'.*'middle'"):
        run.evaluate([], [given, f"audio_folder.path = '{tmp_path / 'tones'}'"])
    run.evaluate([], [given])
    evaluation_of(workdir)
    # The model can be used without its state.
    (workdir / "state.npz").write_bytes(b"x")
    run.evaluate([], [given])
    evaluation_of(workdir)


def test_evaluation_takes_a_folder_of_test_clips_of_some_labels(
    finished, tmp_path
):
    workdir, results = finished
    write_tones(tmp_path / "tones")
    for other in ("train", "validation", "test/high"):
        shutil.rmtree(tmp_path / "tones" / other)
    run.evaluate(
        [],
        [
            f"train.workdir = '{workdir}'",
            f"audio_folder.path = '{tmp_path / 'tones'}'",
        ],
    )
    evaluation = evaluation_of(workdir)
    assert evaluation["data"]["counts"] == {"test": 6}
    # "low" and "mid" must not have become the first two of three labels.
    model = keras.models.load_model(workdir / "best.keras")
    waves, labels = [], []
    for label, position in (("low", 1), ("mid", 2)):
        for path in sorted((tmp_path / "tones/test" / label).glob("*.wav")):
            waves.append(soundfile.read(path, dtype="float32")[0][50:550])
            labels.append(position)
    found = model.predict(np.stack(waves), verbose=0).argmax(axis=-1)
    accuracy = np.mean(found == labels)
    assert evaluation["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_evaluation_draws_anew_where_it_is_asked_for_a_share(tmp_path, capsys):
    write_tones(tmp_path / "splits")
    for split in ("train", "validation", "test"):
        for label in ("low", "high"):
            for file in (tmp_path / "splits" / split / label).iterdir():
                target = tmp_path / "tones" / label / f"{split}{file.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)
    workdir = f"train.workdir = '{tmp_path / 'run'}'"
    fraction = "audio_folder.validation_fraction = 0.3"
    train_with(tmp_path, tmp_path / "run", "train.num_epochs = 1", fraction)

    def counts(*asked):
        run.evaluate([], [workdir, *asked])
        evaluation = evaluation_of(tmp_path / "run")
        if asked:
            assert (
                evaluation["config"].items()
                >= dict(one.split(" = ") for one in asked).items()
            )
        return evaluation["data"]["counts"]

    assert counts("audio_folder.test_fraction = 1") == {"test": 26}
    left = counts()["train"]
    assert f"not evaluated: train {left}\n" in capsys.readouterr().out
    path = f"audio_folder.path = '{tmp_path / 'splits'}'"
    shutil.rmtree(tmp_path / "splits/train")
    with pytest.raises(ValueError, match="takes it from the run, unless"):
        counts(path)
    for split in ("validation", "test"):
        place = tmp_path / "splits" / split
        (place / "low").rmdir()
        (place / "mid").rename(place / "low")
    assert counts(path, "audio_folder.validation_fraction = None") == {
        "validation": 3,
        "test": 3,
    }


@pytest.mark.slow
def test_evaluation_takes_folds_from_the_run_or_from_what_is_asked(tmp_path):
    write_tones(tmp_path / "tones")
    write_tones(tmp_path / "other")
    for split, fold in (("train", 1), ("validation", 2), ("test", 3)):
        (tmp_path / "tones" / split).rename(tmp_path / f"tones/fold{fold}")
    workdir = f"train.workdir = '{tmp_path / 'run'}'"
    train_with(
        tmp_path,
        tmp_path / "run",
        "train.num_epochs = 1",
        "audio_folder.validation_folds = ['fold2']",
        "audio_folder.test_folds = ['fold3']",
    )

    def counts(*asked):
        run.evaluate([], [workdir, *asked])
        return evaluation_of(tmp_path / "run")["data"]["counts"]

    assert counts() == {"train": 21, "validation": 9, "test": 9}
    assert counts("audio_folder.test_folds = ['fold1', 'fold2']") == {
        "train": 9,
        "test": 30,
    }
    path = f"audio_folder.path = '{tmp_path / 'other'}'"
    with pytest.raises(ValueError, match="fold2.*from the run, unless"):
        counts(path)
    assert counts(path, "audio_folder.test_folds = None")["test"] == 9


@pytest.mark.parametrize("is_there", [True, False])
def test_evaluation_needs_a_run(tmp_path, is_there):
    workdir = tmp_path if is_there else tmp_path / "nothing"
    with pytest.raises(ValueError, match="`workdir` must hold a run"):
        run.evaluate([], [f"train.workdir = '{workdir}'"])


def test_an_evaluation_on_other_data_leaves_the_one_before(finished, tmp_path):
    workdir, results = finished
    # A copy of the recordings is the same data.
    copy = write_tones(tmp_path / "copy")
    other = write_tones(tmp_path / "other")
    (other / "test/low/0.wav").unlink()
    paths = [[f"audio_folder.path = '{path}'"] for path in (copy, other)]
    for more in ([], *paths, []):
        run.evaluate([], [f"train.workdir = '{workdir}'", *more])
    folders = list((workdir / "evaluations").iterdir())
    assert len(folders) == 2
    own = f"audio_folder-{results['data']['fingerprint'][:11]}"
    assert own in {folder.name for folder in folders}
    for folder in folders:
        assert {file.name for file in folder.iterdir()} >= {
            "evaluation.json",
            *(
                f"{name}_{split}.csv"
                for name in ("classes", "confusion")
                for split in ("validation", "test")
            ),
        }
    # The run itself has the same tables.
    for name in ("classes_test.csv", "confusion_validation.csv"):
        content = (workdir / name).read_text()
        assert (workdir / "evaluations" / own / name).read_text() == content
    shutil.rmtree(workdir / "evaluations")


def test_tables_of_a_run_agree_with_its_metrics(finished):
    workdir, results = finished
    with open(workdir / "classes_test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["high", "low", "mid"]
    assert [row["clips"] for row in rows] == ["3", "3", "3"]
    found = results["metrics"]["test"]
    recall = np.mean([float(row["recall"]) for row in rows])
    assert found["balanced_accuracy"] == pytest.approx(recall, abs=1e-4)
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    with open(workdir / "confusion_test.csv", newline="") as file:
        counts = np.array([row[1:] for row in csv.reader(file)][1:], int)
    assert counts.trace() / counts.sum() == pytest.approx(found["accuracy"])


def test_recordings_of_a_speaker_are_drawn_together(tmp_path):
    write_tones(tmp_path / "tones")
    lines = ["file,label,split,speaker"]
    for file in sorted((tmp_path / "tones").rglob("*.wav")):
        name = file.relative_to(tmp_path / "tones").as_posix()
        split, label, number = name.split("/")
        lines.append(f"{name},{label},{split},{split} {number}")
    (tmp_path / "tones/index.csv").write_text("\n".join(lines))
    results = train_with(tmp_path, tmp_path / "run", "train.num_epochs = 1")
    assert results["data"]["counts"]["test"] == 9
    assert results["data"]["groups"] == {"validation": 3, "test": 3}


@pytest.mark.slow
def test_chunks_are_evaluated_with_all_of_a_clip(tmp_path):
    write_tones(tmp_path / "tones")
    hop = "data.prepare.evaluation_hop = 50"
    results = train_with(
        tmp_path,
        tmp_path / "run",
        "train.num_epochs = 4",
        "train.keep = 'last'",
        "train.learning_rate = 0.01",
        hop,
    )
    assert results["config"]["prepare.evaluation_hop"] == "50"
    workdir = f"train.workdir = '{tmp_path / 'run'}'"
    # The hop of the run is that of its evaluation.
    run.evaluate([], [workdir])
    assert evaluation_of(tmp_path / "run")["metrics"] == results["metrics"]
    # Clips of 600 samples have three chunks of 500.
    model = keras.models.load_model(tmp_path / "run/best.keras")
    losses = []
    for i, label in enumerate(results["data"]["labels"]):
        for path in sorted((tmp_path / "tones/test" / label).glob("*.wav")):
            wave, _ = soundfile.read(path, dtype="float32")
            parts = np.stack([wave[at : at + 500] for at in (0, 50, 100)])
            logits = model.predict(parts, verbose=0)
            shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
            losses.append(-np.log(shares.mean(axis=0)[i]))
    found = results["metrics"]["test"]["loss"]
    assert found == pytest.approx(np.mean(losses), rel=1e-4)
    run.evaluate([], [workdir, "data.prepare.evaluation_hop = None"])
    other = evaluation_of(tmp_path / "run")["metrics"]["test"]["loss"]
    assert other != pytest.approx(found, rel=1e-4)


def test_the_index_of_a_run_is_that_of_its_evaluation(tmp_path):
    """It comes from the settings of the run, which are read as data."""
    write_tones(tmp_path / "all")
    archive = tmp_path / "tones"
    lists = {"validation": [], "test": []}
    for file in sorted((tmp_path / "all").rglob("*.wav")):
        split, label = file.parts[-3:-1]
        name = f"{label}/{split}_nohash_{file.name}"
        if split in lists:
            lists[split].append(name)
        (archive / label).mkdir(parents=True, exist_ok=True)
        file.rename(archive / name)
    for name, split in (("validation", "validation"), ("testing", "test")):
        path = archive / f"{name}_list.txt"
        path.write_text("\n".join(lists[split]) + "\n")
    results = train_with(
        *(tmp_path, tmp_path / "run"),
        "audio_folder.index = @speech_commands_index",
        "train.num_epochs = 1",
    )
    run.evaluate([], [f"train.workdir = '{tmp_path / 'run'}'"])
    again = evaluation_of(tmp_path / "run")
    assert again["metrics"]["test"] == results["metrics"]["test"]
    with pytest.raises(ValueError, match="unless it is bound to None"):
        run.evaluate(
            [],
            [
                f"train.workdir = '{tmp_path / 'run'}'",
                f"audio_folder.path = '{tmp_path / 'all'}'",
            ],
        )
