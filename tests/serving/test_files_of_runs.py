"""What is written replaces no file of a run, neither this one nor another."""

import pathlib
import shutil

import pytest
from tones import ROOT, content, run_command

import leaf_audio
from leaf_audio.common.run_folders import FILES_OF_RUNS, check_not_of_run
from leaf_audio.serving.export import export
from leaf_audio.training import Workdir

pytestmark = pytest.mark.any_backend

YES = str(ROOT / "tests/recordings/yes.flac")
MESSAGE = "must be another file than those of a run"


@pytest.fixture(scope="module")
def classifier():
    return leaf_audio.load("speech_commands")


def write_run(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"{name} of the run")
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", ".run", *FILES_OF_RUNS)


def test_files_of_runs_are_known_by_their_names(tmp_path):
    folder = Workdir(tmp_path)
    files = [
        path.name
        for path in (*vars(folder).values(), *folder.tables)
        if isinstance(path, pathlib.Path) and path.suffix
    ]
    befores = "state_before.npz", "state_within_before.npz"
    assert set(FILES_OF_RUNS) == {*files, *befores}


def test_an_evaluation_of_a_run_is_known(run):
    folder = Workdir(run)
    file = folder.evaluation("tones", "0" * 11)
    for path in (file, file.with_name(folder.tables[0].name)):
        with pytest.raises(ValueError, match=MESSAGE):
            check_not_of_run("path", path)


@pytest.mark.parametrize(
    "names",
    [
        [".run"],
        ["best.keras", "results.json"],
        ["best.keras", "state.npz"],
    ],
)
def test_a_run_is_known_without_its_hidden_files(tmp_path, names):
    folder = write_run(tmp_path / "run", *names)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "model.keras").symlink_to(folder / "best.keras")
    for path in ("run/best.keras", "run/state.npz", "link/best.keras"):
        with pytest.raises(ValueError, match=f"`output` {MESSAGE}.*{path}"):
            check_not_of_run("output", tmp_path / path)
    with pytest.raises(ValueError, match=MESSAGE):
        check_not_of_run("output", tmp_path / "model.keras")
    check_not_of_run("output", folder / "compact.keras")


@pytest.mark.parametrize("name", FILES_OF_RUNS)
def test_a_file_of_that_name_elsewhere_is_not_of_a_run(tmp_path, name):
    (tmp_path / name).touch()
    check_not_of_run("output", tmp_path / name)


def test_a_classifier_replaces_no_model_of_a_run(classifier, run):
    before = content(run)
    for write in (
        classifier.save,
        lambda path: export(classifier, path, "keras"),
    ):
        with pytest.raises(ValueError, match=f"`path` {MESSAGE}"):
            write(run / "best.keras")
    # The file that describes a `.tflite` file is written too.
    (run / "results.json").unlink()
    with pytest.raises(ValueError, match=f"`path` {MESSAGE}"):
        export(classifier, run / "results.tflite", "litert")
    del before["results.json"]
    assert content(run) == before
    # A file of that name elsewhere is replaced, as any file.
    shutil.copy(run / "best.keras", run.parent / "best.keras")
    classifier.save(run.parent / "best.keras")
    assert leaf_audio.load(run.parent / "best.keras").labels


@pytest.mark.parametrize(
    "command, name, arguments",
    [
        ("predict", "results.json", [YES]),
        ("predict", "classes_test.csv", ["--format=csv", YES]),
        ("embed", "state.npz", [YES]),
        ("classify-embeddings", "best.keras", ["--recordings=none"]),
        ("export", "best.keras", ["--format=keras"]),
    ],
)
def test_no_command_replaces_a_file_of_a_run(run, command, name, arguments):
    before = content(run)
    flags = "--model=speech_commands", f"--output={run / name}"
    done = run_command(command, *flags, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: `output` {MESSAGE}")
    assert done.stderr.count("\n") == 1
    assert content(run) == before


def test_the_file_of_the_model_is_not_replaced(classifier, tmp_path):
    path = tmp_path / "words.keras"
    classifier.save(path)
    before = path.read_bytes()
    done = run_command("predict", f"--model={path}", f"--output={path}", YES)
    assert "`output` must be another file than that of the model" in done.stderr
    assert path.read_bytes() == before
