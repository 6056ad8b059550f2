"""What is said about a data set before it is used."""

import types

import numpy as np
import pytest

from leaf_audio import training
from leaf_audio.app import report
from leaf_audio.data import clips


def describe(capsys, label_names, skipped):
    report.print_data(
        clips.AudioData("set", label_names, 8000, {}, skipped, "", ""),
        "run/results.json",
    )
    return capsys.readouterr().out


def test_few_labels_are_named_and_of_many_the_first(capsys):
    few = tuple("ab")
    assert "set, 2 labels (a, b)\n" in describe(capsys, few, {})
    assert "(a, 'b, c')\n" in describe(capsys, ("a", "b, c"), {})
    many = tuple(map(str, range(100)))
    assert "100 labels (0, 1, 2, " in describe(capsys, many, {})
    assert ", 19 and 80 more)\n" in describe(capsys, many, {})


def test_labels_that_a_split_lacks_are_named(capsys):
    splits = {
        name: clips.Clips(None, [], 1, [0], np.array(labels))
        for name, labels in (("train", [0, 1, 2]), ("test", [1, 1]))
    }
    report.print_data(
        clips.AudioData("set", tuple("abc"), 8000, splits, {}, "", ""),
        "run/results.json",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["  test has none of: a, c"]


def test_warnings_of_the_data_are_printed(capsys):
    report.print_data(
        clips.AudioData("set", ("a",), 8000, {}, {}, "", "", ("x.", "y.")),
        "run/results.json",
    )
    assert capsys.readouterr().out.endswith("\nwarning: x.\nwarning: y.\n")


def test_the_first_skipped_files_are_named_with_their_reasons(capsys):
    assert "skipped" not in describe(capsys, ("a",), {})
    some = describe(capsys, ("a",), {"x.wav": "it is empty"})
    assert "skipped: 1 file that" in some
    assert some.endswith("  x.wav: it is empty\n")
    skipped = {f"{i}.wav": "it is empty" for i in range(9)}
    many = describe(capsys, ("a",), skipped)
    assert "skipped: 9 files that" in many
    assert many.count("it is empty") == 3
    assert many.endswith("  and 6 more; all of them: run/results.json\n")


def test_lengths_are_told_in_seconds(capsys):
    split = clips.Clips(None, [], 1, np.array([0, 4, 10]), [0, 1])
    some = clips.AudioData("set", ("a", "b"), 4, {"train": split}, {}, "", "")
    batches = types.SimpleNamespace(example_shape=(6,), evaluation_hop=None)
    report.print_lengths(some, batches)
    assert capsys.readouterr().out == (
        "length: 1.00 to 1.50 s; the model gets 1.50 s, 6 samples at 4 Hz\n"
    )
    batches = types.SimpleNamespace(example_shape=(12,), evaluation_hop=None)
    report.print_lengths(some, batches)
    assert "  all clips are padded, by much" in capsys.readouterr().out
    report.print_lengths_of_recordings(some)
    assert capsys.readouterr().out == "length: 1.00 to 1.50 s\n"
    batches = types.SimpleNamespace(example_shape=(4,), evaluation_hop=2)
    report.print_lengths(some, batches)
    assert capsys.readouterr().out == (
        "length: 1.00 to 1.50 s; the model gets 1.00 s, 4 samples at 4 Hz\n"
        "  longer clips are evaluated in chunks, one every 0.50 s\n"
    )
    batches = types.SimpleNamespace(example_shape=(4,), evaluation_hop=None)
    report.print_lengths(some, batches)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  longer clips are evaluated at their centre, or by "
        "data.prepare.evaluation_hop"
    ]


@pytest.mark.parametrize("labels", [[0] * 10 + [1] * 9, [0, 1] * 10])
def test_few_clips_of_most_labels_are_told(capsys, labels):
    split = clips.Clips(
        None, [], 1, np.arange(len(labels) + 1), np.array(labels)
    )
    some = clips.AudioData("set", ("a", "b"), 4, {"train": split}, {}, "", "")
    report.print_few(some)
    told = capsys.readouterr().out
    assert ("few: 9 to 10 clips" in told) == (labels.count(1) == 9)


def test_few_clips_are_not_told_of_several_labels(capsys):
    several = np.eye(2, dtype=bool)
    split = clips.Clips(None, [], 1, np.arange(3), several)
    some = clips.AudioData("set", ("a", "b"), 4, {"train": split}, {}, "", "")
    report.print_few(some)
    assert not capsys.readouterr().out


def test_the_table_of_metrics_has_the_interval_of_the_main_one(capsys):
    values = {
        "accuracy": 0.81234,
        "accuracy_low": 0.7,
        "accuracy_high": 0.9,
        "macro_f1": 0.75,
        "balanced_accuracy": 0.5,
        "loss": 0.4,
    }
    few = {"accuracy": 1.0, "loss": 0.0}
    report.print_metrics("a run", {"validation": values, "test": few})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    table = " ".join("\n".join(lines).replace("│", " ").split())
    assert "validation 0.8123 0.700 to 0.900 0.7500 0.4000" in table
    assert "test 1.0000 – – 0.0000" in table


def test_the_table_of_several_labels_has_their_metrics(capsys):
    values = {
        "map": 0.4,
        "map_low": 0.3,
        "map_high": 0.5,
        "auc": 0.9,
        "d_prime": 1.8,
        "loss": 0.1,
    }
    report.print_metrics("a run", {"test": values})
    table = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "mAP" in table and "ROC AUC" in table
    assert "test 0.4000 0.300 to 0.500 0.9000 0.1000" in table


def test_the_table_of_a_run_without_labels_has_the_accuracy_of_guessing(capsys):
    values = {"accuracy": 0.4, "top5_accuracy": 0.8, "loss": 2.0, "chance": 0.1}
    report.print_metrics("a run", {"test": values})
    table = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "by guessing" in table and "F1" not in table
    assert "test 0.4000 0.1000 0.8000 2.0000" in table and "–" not in table


def test_a_run_says_what_it_begins_with_and_learns_from(capsys):
    report.print_sources(training.TrainingConfig("run"))
    assert capsys.readouterr().out == ""
    report.print_sources(
        training.TrainingConfig(
            "run",
            init_from="runs/cola",
            frontend_learning_rate_factor=0,
            encoder_learning_rate_factor=0.1,
            teacher=training.NpzTeacher("a.npz", weight=0.7),
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "initial weights: those of runs/cola",
        "frontend: frozen",
        "encoder: 0.1 times the learning rate",
        "teacher: a.npz, its logits are 70 % of the training loss; validation "
        "has the labels alone",
    ]
