"""Tables of a split: by label, and which labels are taken for which."""

import csv
import sys

import numpy as np
import pytest

from leaf_audio.training import tables
from leaf_audio.training.scoring import Outcome

pytestmark = pytest.mark.any_backend

NAMES = ["größe", "a,b", "$x$", "\udcff"]
ONE = Outcome(np.array([0, 0, 0, 1]), 10.0 * np.eye(4)[[0, 2, 0, 1]])
SEVERAL = Outcome(
    np.array([[1, 0], [0, 1]], bool), np.array([[1.0, -1.0], [-1.0, 2.0]])
)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_tables_of_one_label_for_each_clip(tmp_path):
    tables.write(tmp_path, NAMES, {"test": ONE}, print)
    assert read(tmp_path / "classes_test.csv") == [
        ["label", "clips", "precision", "recall", "f1"],
        ["größe", "3", "1.0000", "0.6667", "0.8000"],
        ["a,b", "1", "1.0000", "1.0000", "1.0000"],
        ["$x$", "0", "0.0000", "", "0.0000"],
        ["\\udcff", "0", "", "", ""],
    ]
    rows = read(tmp_path / "confusion_test.csv")
    assert rows[0] == ["label \\ predicted", "größe", "a,b", "$x$", "\\udcff"]
    assert rows[1] == ["größe", "2", "0", "1", "0"]


def test_tables_of_several_labels_for_each_clip(tmp_path):
    tables.write(tmp_path, ["a", "b"], {"test": SEVERAL}, print)
    head, first, _ = read(tmp_path / "classes_test.csv")
    assert head[-2:] == ["average_precision", "auc"]
    assert first == ["a", "1", *["1.0000"] * 5]
    high = tables.class_table(["a", "b"], SEVERAL, [0.9, 0.2])
    assert high[1][2:] == ["", "0.0000", "0.0000", "1.0000", "1.0000"]
    assert high[2][2:5] == ["0.5000", "1.0000", "0.6667"]
    # Confusions need one label for each clip.
    assert [file.name for file in tmp_path.iterdir()] == ["classes_test.csv"]


def test_a_figure_shows_the_labels_that_are_there(tmp_path):
    pytest.importorskip("matplotlib")
    told = []
    outcomes = {"validation": ONE, "test": ONE}
    tables.write(tmp_path, NAMES, outcomes, told.append)
    for split in outcomes:
        content = (tmp_path / f"confusion_{split}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
    assert not told
    counts = np.array([[2, 0, 1, 0], [0, 1, 0, 0], [0] * 4, [0] * 4])
    (axes,) = tables.draw(counts, NAMES).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == NAMES[:3]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "2"]


def test_a_name_that_the_font_lacks_is_no_warning(tmp_path):
    pytest.importorskip("matplotlib")
    outcome = Outcome(np.array([0, 1]), np.eye(2))
    tables.write(tmp_path, ["日本", "b"], {"test": outcome}, print)
    assert (tmp_path / "confusion_test.png").exists()


def test_without_matplotlib_a_line_says_so_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    # Of an evaluation before, which these are not.
    (tmp_path / "confusion_test.png").touch()
    told = []
    tables.write(tmp_path, NAMES, {"validation": ONE, "test": ONE}, told.append)
    (line,) = told
    assert "needs matplotlib" in line
    assert {file.suffix for file in tmp_path.iterdir()} == {".csv"}


def test_a_very_long_name_leaves_room_for_the_figure():
    pytest.importorskip("matplotlib")
    names = ["a", "b" * 9000]
    figure = tables.draw(np.eye(2, dtype=int), names)
    assert max(figure.get_size_inches()) < 20
    assert figure.axes[0].get_xticklabels()[1].get_text().endswith("b…")
