"""A file is replaced in one step, or not at all."""

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


def test_the_file_that_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / "some.txt", tmp_path / "link.txt"
    files.write_text(path, "old")
    link.symlink_to(path)
    files.write_text(link, "new")
    assert link.is_symlink() and path.read_text() == "new"


def test_tables_and_text_are_written_as_they_are_read(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5}]
    files.write_csv(tmp_path / "some.csv", ["epoch", "loss"], rows)
    assert (tmp_path / "some.csv").read_bytes() == b"epoch,loss\n1,0.5\n"
    files.write_json(tmp_path / "some.json", {"größe": "\udcff"})
    text = (tmp_path / "some.json").read_text(encoding="utf-8")
    assert text == '{\n  "größe": "\\udcff"\n}\n'
