"""What lies in a folder and is not the run's own is not replaced."""

import json

import pytest
from tones import LEAF, content
from training_runs import train_with

from leaf_audio.training import Workdir, evaluation, study

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@pytest.mark.parametrize(
    "name",
    [
        "config.gin",
        "metrics.csv",
        "filters.csv",
        "tensorboard/other/events",
        "tensorboard/train/events",
        "evaluations/other/evaluation.json",
        "classes_test.csv",
        "confusion_validation.png",
        "results.json",
        "best.keras",
    ],
)
def test_a_folder_with_files_of_others_is_refused(
    folder, tmp_path, no_data, name
):
    workdir = tmp_path / "mine"
    (workdir / name).parent.mkdir(parents=True)
    (workdir / name).write_text("mine")
    (workdir / "notes.txt").write_text("mine too")
    before = content(workdir)
    for _ in range(2):
        with pytest.raises(ValueError) as error:
            train_with(folder, workdir, frontend=LEAF)
        assert f"holds {name.partition('/')[0]} but no" in str(error.value)
        assert content(workdir) == before


def test_all_files_of_others_are_named(tmp_path):
    for name in ("config.gin", "metrics.csv"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="holds config.gin and metrics.csv"):
        Workdir(tmp_path).read_progress()


def test_a_link_that_leads_nowhere_counts(tmp_path):
    (tmp_path / "config.gin").symlink_to(tmp_path / "unmounted" / "config.gin")
    with pytest.raises(ValueError, match="holds config.gin but no state"):
        Workdir(tmp_path).read_progress()


def test_an_empty_folder_of_logs_is_no_obstacle(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    assert Workdir(tmp_path).read_progress() is None


def test_a_run_that_has_begun_may_begin_again(tmp_path):
    """It was killed in its first epoch, and has left no state."""
    with Workdir(tmp_path).locked():
        Workdir(tmp_path).claim()
    (tmp_path / "config.gin").write_text("its own")
    with Workdir(tmp_path).locked():
        assert Workdir(tmp_path).read_progress() is None


def test_a_run_that_an_earlier_version_began_may_begin_again(tmp_path):
    """It has marked the file that it locked."""
    mark = "This folder holds a run of leaf_audio.\n"
    (tmp_path / ".lock").write_text(mark)
    (tmp_path / "config.gin").write_text("its own")
    with Workdir(tmp_path).locked():
        (tmp_path / ".lock").write_text("")
        assert Workdir(tmp_path).read_progress() is None


def test_a_run_that_has_not_begun_leaves_no_claim(tmp_path):
    with Workdir(tmp_path).locked():
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_keeps_other_logs_beside_its_own(folder, tmp_path):
    train_with(folder, tmp_path / "run", "train.num_epochs = 1")
    other = tmp_path / "run" / "tensorboard" / "other" / "events"
    other.parent.mkdir()
    other.write_text("mine")
    train_with(folder, tmp_path / "run", "train.num_epochs = 2")
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["results.md", "results.json", "results.svg", "one/0.log"]
)
def test_a_study_replaces_no_file_of_others(tmp_path, monkeypatch, name):
    ran = []

    def run(command, log):
        ran.append(command)
        return 0

    monkeypatch.setattr(study, "run_python", run)
    made = study.Study({"one": []}, seeds=[0], workdir=tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"which holds {name}"):
        study.run_all(made, [], {"one": {}})
    assert content(tmp_path) == {name: b"{}"} and not ran
    (tmp_path / name).unlink()
    study.run_all(made, [], {"one": {}})
    assert len(ran) == 1
    # Its own files are no obstacle.
    (tmp_path / "results.md").write_text("its own")
    study.run_all(made, [], {"one": {}})
    assert len(ran) == 2


def test_an_evaluation_replaces_only_an_evaluation(tmp_path):
    file = Workdir(tmp_path).evaluation("set/one:1.*", "0123456789abcdef")
    name = "evaluations/set-one-1.--0123456789a/evaluation.json"
    assert file == tmp_path / name
    evaluation._check_replaceable(file)
    file.parent.mkdir(parents=True)
    evaluation._check_replaceable(file)
    file.write_text(json.dumps({"metrics": {}}))
    evaluation._check_replaceable(file)
    for text in ("[1, 2]", "{}", "mine"):
        file.write_text(text)
        with pytest.raises(ValueError, match="evaluation.json"):
            evaluation._check_replaceable(file)
    # A process that was killed may have left tables without it.
    file.rename(file.with_name("classes_test.csv"))
    file.with_name(".partial-0123abcd-45-confusion_test.png").touch()
    evaluation._check_replaceable(file)
    file.with_name("notes.csv").touch()
    with pytest.raises(ValueError, match="must be new or hold an evaluation"):
        evaluation._check_replaceable(file)


def test_neither_runs_nor_studies_are_written_among_recordings(
    folder, tmp_path, no_data
):
    recordings = tmp_path / "recordings"
    (recordings / "dog").mkdir(parents=True)
    (recordings / "dog" / "one.wav").write_bytes(b"")
    before = content(tmp_path)
    with pytest.raises(ValueError, match="holds a recording, dog/one.wav"):
        train_with(folder, recordings)
    made = study.Study({"one": []}, seeds=[0], workdir=recordings)
    with pytest.raises(ValueError, match="holds a recording, dog/one.wav"):
        study.run_all(made, [], {"one": {}})
    assert content(tmp_path) == before
