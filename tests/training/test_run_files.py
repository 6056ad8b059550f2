"""Damaged files of a run end in one line that names them."""

import json

import pytest

from leaf_audio.training import run_files

pytestmark = [pytest.mark.any_backend, pytest.mark.fast]

SUMMARY = {
    "data": {
        "name": "set",
        "labels": ["a", "b"],
        "counts": {"test": 3},
        "is_multilabel": False,
        "sample_rate": 16000,
        "fingerprint": "v2",
        "skipped": {"a.wav": "it is cut off"},
        "warnings": [],
    },
    "kept_epoch": 1,
    "metrics": {"test": {"accuracy": 0.5}},
    "parameters": {"total": 9, "trainable": 7, "frontend": 2},
    "timings": {"epochs": 1, "seconds": 2.5},
    "versions": {"keras": "3"},
}
# Of no entry, all of these are values.
WRONG = [[], 3, -1, "x", None, [[1]], {"a": {"b": []}}, 10**400, True]
NAMES = [*SUMMARY, *(f"data.{name}" for name in SUMMARY["data"])]
METRICS = "epoch,loss\n1,0.5\n2,\n"
FILTERS = (
    "epoch,filter,centre_hz,bandwidth_hz,pooling_ms\n"
    "0,0,90,40,5\n0,1,190,50,5\n1,0,91,40,5\n1,1,192,50,5\n"
)
CLASSES = "label,clips,f1\na,3,0.5\nb,4,\n"
CONFUSION = "label \\ predicted,a,b\na,3,0\nb,1,3\n"
READERS = {
    "metrics.csv": (METRICS, lambda path: run_files.read_metrics(path, 2)),
    "filters.csv": (FILTERS, lambda path: run_files.read_filters(path, 1)),
    "classes.csv": (CLASSES, lambda path: run_files.read_classes(path, 2)),
    "confusion.csv": (
        CONFUSION,
        lambda path: run_files.read_confusion(path, 2),
    ),
}


def refusal(read, path, *args):
    """Returns the message of the error, which is one line with the name."""
    with pytest.raises(ValueError) as error:
        read(path, *args)
    message = str(error.value)
    assert message.startswith(f"{path} must ") and "Received: " in message
    assert "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_of_the_results_of_another_type_is_named(tmp_path, name):
    path = tmp_path / "results.json"
    *parents, last = name.split(".")
    refused = 0
    for value in WRONG:
        summary = json.loads(json.dumps(SUMMARY))
        (summary[parents[0]] if parents else summary)[last] = value
        path.write_text(json.dumps(summary))
        try:
            assert run_files.read_summary(path) == summary
        except ValueError:
            assert f"{name}=" in refusal(run_files.read_summary, path) or (
                f"{name}." in refusal(run_files.read_summary, path)
            )
            refused += 1
    # A text is any text, and a rate may be unknown.
    assert refused >= len(WRONG) - 2


def test_results_that_are_right_are_read_and_lacks_are_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(SUMMARY))
    assert run_files.read_summary(path, NAMES) == SUMMARY
    path.write_text("{}")
    assert run_files.read_summary(path) == {}
    for name in NAMES:
        message = refusal(run_files.read_summary, path, [name])
        assert f"as {name}. Received: none" in message


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "3", '"x"', "null", "[" * 100000, "\0", b"\xff"]
)
def test_what_is_no_json_object_is_named(tmp_path, text):
    path = tmp_path / "some.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refusal(run_files.read_summary, path)
    refusal(run_files.read_settings, path)


@pytest.mark.parametrize("value", [3, None, [], {}, True])
def test_a_setting_that_is_no_text_is_named(tmp_path, value):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"align.seq_len": "500"}))
    assert run_files.read_settings(path) == {"align.seq_len": "500"}
    path.write_text(json.dumps({"align.seq_len": value}))
    assert "align.seq_len" in refusal(run_files.read_settings, path)


def test_tables_that_are_right_are_read(tmp_path):
    found = {}
    for name, (text, read) in READERS.items():
        path = tmp_path / name
        # A line that is empty is none, as for Python's own reader.
        path.write_text(text + "\n")
        found[name] = read(path)
    assert found["metrics.csv"]["loss"].tolist()[0] == 0.5
    assert found["filters.csv"]["centre_hz"].tolist() == [90, 190, 91, 192]
    assert found["classes.csv"][1:] == [["a", "3", "0.5"], ["b", "4", ""]]
    labels, counts = found["confusion.csv"]
    assert labels == ["a", "b"] and counts.tolist() == [[3, 0], [1, 3]]


@pytest.mark.parametrize("name", READERS)
def test_a_table_that_was_cut_off_is_named(tmp_path, name):
    text, read = READERS[name]
    path = tmp_path / name
    read_whole = 0
    for size in range(len(text)):
        path.write_text(text[:size])
        try:
            read(path)
            read_whole += 1
        except ValueError:
            refusal(read, path)
    # Without its last byte, or with fewer digits of its last number.
    assert read_whole <= 3


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\0", b"a,b\n1,2\n", b"epoch\nx\n", b"a,a\n"]
)
@pytest.mark.parametrize("name", READERS)
def test_a_table_of_something_else_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    refusal(READERS[name][1], path)


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("metrics.csv", "epoch", "step", "a column for each of: epoch"),
        ("metrics.csv", "0.5", "much", "numbers in the column loss"),
        ("metrics.csv", "\n2,", "\n1.5,", "whole numbers.*column epoch"),
        ("metrics.csv", "\n2,", "\nnan,", "whole numbers.*column epoch"),
        ("metrics.csv", "\n2,", "\n3,", "rows of epoch 2"),
        ("filters.csv", "centre_hz", "centre", "a column for each of: .*centr"),
        ("filters.csv", "1,1,192,50,5\n", "", "2 rows of epoch 0, 1 of epoch"),
        ("filters.csv", "\n0,", "\n2,", "rows of epoch 0"),
        ("filters.csv", "1,1,192", "1,0,192", "for each filter in each epoch"),
        ("filters.csv", ",5\n1,1", "\n1,1", "5 cells in each row"),
        ("classes.csv", "clips", "n", "a column for each of: label, clips"),
        ("classes.csv", "b,4,\n", "", "2 labels. Received: 1 rows"),
        ("confusion.csv", "b,1,3\n", "", "2 labels.*2 columns and 1 rows"),
        ("confusion.csv", "b,1,3", "c,1,3", "labels, in one order"),
        ("confusion.csv", "1,3", "1,-3", "counts of clips"),
        ("confusion.csv", "1,3", "1," + "9" * 30, "counts of clips"),
    ],
)
def test_a_table_with_a_fault_is_named_with_it(
    tmp_path, name, old, new, message
):
    text, read = READERS[name]
    path = tmp_path / name
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read(path)
    refusal(read, path)


def test_a_matrix_of_fewer_labels_than_the_model_is_named(tmp_path):
    path = tmp_path / "confusion.csv"
    path.write_text(CONFUSION)
    message = refusal(run_files.read_confusion, path, 3)
    assert "each of the 3 labels" in message
