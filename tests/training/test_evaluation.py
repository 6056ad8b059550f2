"""Evaluation of the best model of a run, also on other data."""

import json
import shutil

import grain
import keras
import numpy as np
import pytest
import soundfile
from tones import bindings, write_tones
from training_runs import train_with

from leaf_audio.app import run
from leaf_audio.training import evaluation

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
    source = grain.MapDataset.source(list(zip(audio, labels, strict=True)))
    batches = source.batch(4).to_iter_dataset()
    scores = evaluation.Scorer(batches, batch_size=4)(First())
    assert sizes == [4, 4]
    assert scores["accuracy"] == pytest.approx(2 / 3)


def test_evaluation_needs_no_config_and_repeats_the_results(finished, capsys):
    workdir, results = finished
    run.evaluate([], [f"train.workdir = '{workdir}'"])
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    (workdir / "evaluation.json").unlink()
    assert evaluation["metrics"] == results["metrics"]
    assert evaluation["data"]["skipped"] == {}
    assert evaluation["data"]["warnings"] == []
    accuracy = f"{results['metrics']['test']['accuracy']:.4f}"
    assert accuracy in capsys.readouterr().out


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
    (workdir / "evaluation.json").unlink()


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
    assert not (finished[0] / "evaluation.json").exists()


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
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    (workdir / "evaluation.json").unlink()
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
        text = (tmp_path / "run/evaluation.json").read_text()
        evaluation = json.loads(text)
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
        text = (tmp_path / "run/evaluation.json").read_text()
        return json.loads(text)["data"]["counts"]

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
