"""A run with a damaged file ends the report with one line, and no page."""

import json
import shutil

import gin
import pytest
from tones import LEAF, bindings, write_tones

from leaf_audio.app import configuration, report_page, train

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_tones(folder / "tones")
    more = (f"train.workdir = '{folder / 'run'}'", "train.num_epochs = 1")
    configuration.parse([], bindings(folder, *more, frontend=LEAF))
    train.train()
    gin.clear_config()
    return folder / "run"


def cut(text):
    return text[: len(text) * 2 // 3].rstrip("0123456789.,")


def without_first_column(text):
    rows = [line.split(",")[1:] for line in text.splitlines()]
    return "\n".join(",".join(row) for row in rows)


def without_last_row(text):
    return "\n".join(text.splitlines()[:-1])


def with_entry(name, value):
    """Returns a function that replaces an entry of a JSON file."""

    def change(text):
        content = json.loads(text)
        *parents, last = name.split("/")
        part = content
        for parent in parents:
            part = part[parent]
        part[last] = value
        return json.dumps(content)

    return change


@pytest.mark.parametrize(
    "name, damage",
    [
        ("filters.csv", cut),
        ("filters.csv", without_first_column),
        ("filters.csv", without_last_row),
        ("metrics.csv", cut),
        ("metrics.csv", without_first_column),
        ("metrics.csv", without_last_row),
        ("classes_test.csv", without_last_row),
        ("confusion_test.csv", without_last_row),
        ("confusion_validation.csv", without_first_column),
        ("results.json", cut),
        ("results.json", with_entry("metrics", [])),
        ("results.json", with_entry("kept_epoch", "first")),
        ("results.json", with_entry("data/counts", 3)),
        ("results.json", with_entry("data/labels", ["low", "low", "high"])),
        ("results.json", with_entry("timings", "long")),
        ("settings.json", cut),
        ("settings.json", with_entry("align.seq_len", [500])),
        ("settings.json", with_entry("align.seq_len", "'long'")),
        ("settings.json", with_entry("align.padding", "(((")),
    ],
)
def test_a_damaged_file_is_named_and_no_page_is_written(
    whole, tmp_path, name, damage
):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    file = workdir / name
    file.write_text(damage(file.read_text("utf-8")))
    with pytest.raises(ValueError) as error:
        report_page.write(str(workdir))
    message = str(error.value)
    assert str(file) in message and "\n" not in message
    assert not list(workdir.rglob("*report*"))


def test_a_table_that_is_missing_is_left_out(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    for name in ("metrics.csv", "filters.csv", "confusion_test.csv"):
        (workdir / name).unlink()
    file, _ = report_page.write(str(workdir))
    page = file.read_text("utf-8")
    assert "The run has no metrics.csv." in page
    assert "confusion matrix of validation" in page
    assert "confusion matrix of test" not in page
