"""A file is replaced in one step, or not at all."""

import contextlib
import itertools
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from leaf_audio.common import files

pytestmark = pytest.mark.any_backend


def test_a_file_stays_as_it_was_if_writing_fails(tmp_path):
    path = tmp_path / "some.txt"
    files.write_text(path, "old")

    def write_half():
        with files.replacing(path) as partial:
            partial.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["some.txt"]


def test_two_processes_do_not_write_into_each_others_file(
    tmp_path, monkeypatch
):
    path = tmp_path / "some.txt"
    with files.replacing(path) as partial:
        partial.write_text("mi")
        with monkeypatch.context() as patch:
            # Another process that runs.
            patch.setattr(os, "getpid", os.getppid)
            files.write_text(path, "theirs")
        assert path.read_text() == "theirs"
        with partial.open("a") as file:
            file.write("ne")
    assert path.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["some.txt"]


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    path = tmp_path / "some.txt"
    code = f"""
import os, signal
from leaf_audio.common import files
with files.replacing_folder({str(tmp_path / "model")!r}) as made:
    made.mkdir()
    with files.replacing({str(path)!r}) as partial:
        partial.write_text("ha")
        os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    left = sorted(one.name for one in tmp_path.iterdir())
    assert [files.is_partial(name) for name in left] == [True, True]
    of_machine = left[0].rsplit("-", 2)[0]
    number = int(left[0].split("-")[2])
    kept = {
        # Another process that runs, and one of another machine.
        f"{of_machine}-{os.getppid()}-some.txt",
        f".partial-00000000-{number}-some.txt",
        ".partial-notes",
        ".hidden",
    }
    for name in kept:
        (tmp_path / name).write_text("mine")
    files.write_text(path, "new")
    assert {one.name for one in tmp_path.iterdir()} == {*kept, "some.txt"}


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"

    def write(text, fails=False):
        with files.replacing_folder(path) as made:
            made.mkdir()
            (made / text).write_text(text)
            if fails:
                raise OSError("disk full")

    for text in ("old", "new"):
        write(text)
        assert [one.name for one in path.iterdir()] == [text]
    with pytest.raises(OSError, match="disk full"):
        write("other", fails=True)
    assert [one.name for one in path.iterdir()] == ["new"]
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_the_file_that_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / "some.txt", tmp_path / "link.txt"
    files.write_text(path, "old")
    link.symlink_to(path)
    files.write_text(link, "new")
    assert link.is_symlink() and path.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_a_file_keeps_its_rights(tmp_path):
    path = tmp_path / "some.txt"
    files.write_text(path, "old")
    path.chmod(0o600)
    files.write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    about = tmp_path / "about.txt"
    with files.replacing_with_description(path, about) as partials:
        for partial in partials:
            partial.write_text("newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_tables_and_text_are_written_as_they_are_read(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5}]
    files.write_csv(tmp_path / "some.csv", ["epoch", "loss"], rows)
    assert (tmp_path / "some.csv").read_bytes() == b"epoch,loss\n1,0.5\n"
    files.write_json(tmp_path / "some.json", {"größe": "\udcff"})
    text = (tmp_path / "some.json").read_text(encoding="utf-8")
    assert text == '{\n  "größe": "\\udcff"\n}\n'


class Killed(BaseException):
    """The process ends here: nothing after it is done."""


@pytest.mark.parametrize("has_old", [True, False])
def test_a_file_is_never_beside_the_description_of_another(
    tmp_path, monkeypatch, has_old
):
    path, about = tmp_path / "model", tmp_path / "model.json"

    def write(text):
        with files.replacing_with_description(path, about) as partials:
            for one in partials:
                one.write_text(text)

    def calls_until_killed(count, text):
        """Writes, and is killed before the move or removal of a number."""
        left = [count]
        with monkeypatch.context() as patch:
            for owner, name in ((os, "replace"), (pathlib.Path, "unlink")):
                original = getattr(owner, name)

                def step(*args, original=original, **kwargs):
                    left[0] -= 1
                    if left[0] < 0:
                        raise Killed
                    return original(*args, **kwargs)

                patch.setattr(owner, name, step)
            with contextlib.suppress(Killed):
                write(text)
        return left[0] < 0

    seen = set()
    for count in itertools.count():
        if has_old:
            write("old")
        is_killed = calls_until_killed(count, "new")
        texts = [
            one.read_text() if one.exists() else None for one in (path, about)
        ]
        assert texts[0] is None or texts[0] == texts[1]
        seen.add(tuple(texts))
        if not is_killed:
            break
        for one in tmp_path.iterdir():
            one.unlink()
    assert ("new", "new") in seen
    assert (("old", "old") in seen) == has_old
    assert {one.name for one in tmp_path.iterdir()} == {"model", "model.json"}


def test_both_files_stay_if_writing_fails(tmp_path):
    path, about = tmp_path / "model", tmp_path / "model.json"
    for one in (path, about):
        one.write_text("old")

    def write_half():
        with files.replacing_with_description(path, about) as partials:
            partials[0].write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == about.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
