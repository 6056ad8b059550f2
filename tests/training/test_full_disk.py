"""A disk that is full while a run writes its files."""

import errno

import gin
import pytest
from training_runs import rows, train_with

from leaf_audio.common import files
from leaf_audio.training import state
from leaf_audio.training import workdir as workdir_module
from leaf_audio.training.state import SavedState, read_epoch

pytestmark = pytest.mark.usefixtures("fresh_gin")
SETTINGS = (
    "train.learning_rate = 0.01",
    "train.num_epochs = 2",
    "train.keep = 'last'",
)


def full(*unused):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.any_backend
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(tmp_path):
    path = tmp_path / "file"
    files.write_text(path, "old")
    with pytest.raises(OSError) as error:
        with files.replacing(path) as partial:
            partial.write_text("ne")
            full()
    assert (error.value.errno, error.value.filename) == (
        errno.ENOSPC,
        str(path),
    )
    assert str(path) in str(error.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    metrics = train_with(folder, workdir, *SETTINGS)["metrics"]
    gin.clear_config()
    return rows(workdir), metrics


# The disk is full in the second epoch, while its state or model is written.
@pytest.mark.parametrize(
    "module, function, file, epochs",
    [
        (state, "save_archive", "state.npz", 1),
        (workdir_module, "mark_epoch", "best.keras", 2),
    ],
)
def test_a_run_goes_on_when_there_is_space_again(
    folder, whole, tmp_path, monkeypatch, module, function, file, epochs
):
    workdir = tmp_path / "run"
    write = getattr(module, function)
    calls = []

    def fill(*arguments):
        calls.append(arguments)
        write(*arguments)
        if len(calls) == 2:
            full()

    with monkeypatch.context() as patch:
        patch.setattr(module, function, fill)
        with pytest.raises(OSError, match="No space left") as error:
            train_with(folder, workdir, *SETTINGS)
    assert str(workdir / file) in str(error.value)
    assert not list(workdir.glob(".partial-*"))
    progress, _ = SavedState(workdir).read()
    assert len(progress.history) == epochs
    assert read_epoch(workdir / "best.keras", default=0) == 1

    metrics = train_with(folder, workdir, *SETTINGS)["metrics"]
    for row, expected in zip(rows(workdir), whole[0], strict=True):
        assert {name: float(value) for name, value in row.items()} == (
            pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-5)
        )
    for split, expected in whole[1].items():
        assert metrics[split] == pytest.approx(expected, rel=1e-5)
