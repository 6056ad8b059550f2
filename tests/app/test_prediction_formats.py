"""What `predict` writes can be read by those that it is written for."""

import csv
import dataclasses
import io
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from tones import ROOT, run_command

from leaf_audio.app import prediction_formats
from leaf_audio.app.prediction_formats import Choice
from leaf_audio.serving import Prediction

pytestmark = pytest.mark.any_backend

LABELS = ["a", "b", "c"]


def made(rows, recording="one.wav"):
    starts = 0.5 * np.arange(len(rows))
    return Prediction(recording, starts, starts + 1, np.array(rows), LABELS)


@pytest.mark.parametrize(
    "choice, text",
    [
        (Choice(None, 2), "b 0.600, c 0.300"),
        (Choice(None), "b 0.600, c 0.300, a 0.100"),
        (Choice(None, None, 0.2), "b 0.600, c 0.300"),
        (Choice(None, 1, 0.2), "b 0.600"),
        (Choice(None, None, 0.7), "no label"),
        (
            Choice([0.5, 0.5, 0.5], 3),
            "b 0.600; below threshold: c 0.300 (0.500), a 0.100 (0.500)",
        ),
        (Choice([0.1, 0.5, 0.3]), "b 0.600, c 0.300, a 0.100"),
        (Choice([0.1, 0.5, 0.3], 1), "b 0.600"),
        (Choice([0.9, 0.9, 0.9], None, 0.5), "b 0.600"),
        (
            Choice([0.1, 0.7, 0.5], 2),
            "a 0.100; below threshold: b 0.600 (0.700)",
        ),
        (
            Choice([0.7, 0.7, 0.7], 1),
            "no label; below threshold: b 0.600 (0.700)",
        ),
    ],
)
def test_a_line_tells_the_labels_of_a_recording(choice, text):
    found = [made([[0.0, 0.8, 0.2], [0.2, 0.4, 0.4]])]
    lines = list(prediction_formats.text(found, choice, timeline=False))
    assert lines == [f"one.wav: {text}"]


def test_a_label_with_a_comma_is_quoted():
    found = dataclasses.replace(
        made([[0.2, 0.5, 0.3]]), labels=["hum", "speech, far", "rain"]
    )
    (line,) = prediction_formats.text([found], Choice(None), timeline=False)
    assert line == "one.wav: 'speech, far' 0.500, rain 0.300, hum 0.200"


@pytest.mark.parametrize(
    "choice, told",
    [
        (Choice([0.05, 0.9, 0.2]), [("c", 1), ("a", 1), ("b", 0)]),
        (Choice([0.05, 0.9, 0.2], 1), [("c", 1)]),
        (Choice([0.9, 0.9, 0.9], 2), [("b", 0), ("c", 0)]),
        (Choice([0.9, 0.9, 0.9], None, 0.2), [("b", 1), ("c", 1)]),
    ],
)
def test_all_formats_tell_the_same_labels(choice, told):
    found = [made([[0.1, 0.6, 0.3]])]
    rows = list(prediction_formats.table(found, choice, timeline=False))
    cells = list(csv.DictReader(io.StringIO("\n".join(rows))))
    assert [(one["label"], int(one["reached"])) for one in cells] == told
    (line,) = prediction_formats.json_lines(found, choice, False)
    content = json.loads(line)
    assert list(content["scores"]) == [label for label, _ in told]
    assert content["labels"] == [label for label, reached in told if reached]
    (line,) = prediction_formats.text(found, choice, timeline=False)
    above, _, below = line.partition("below threshold")
    assert all(
        f"{label} 0." in (above if is_reached else below)
        for label, is_reached in told
    )
    assert line.count("0.") == len(told) + below.count("(")


def test_a_timeline_tells_what_is_in_each_window():
    found = [made([[0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])]
    lines = prediction_formats.text(found, Choice(None), timeline=True)
    assert list(lines) == [
        "one.wav 0.00-1.00 s: b 0.800",
        "one.wav 0.50-1.50 s: c 0.500",
    ]
    several = Choice([0.1, 0.9, 0.5])
    lines = prediction_formats.text(found, several, timeline=True)
    assert list(lines) == [
        "one.wav 0.00-1.00 s: a 0.100",
        "one.wav 0.50-1.50 s: c 0.500, a 0.200",
    ]
    high = Choice(None, None, 0.6)
    lines = prediction_formats.text(found, high, timeline=True)
    assert list(lines) == ["one.wav 0.00-1.00 s: b 0.800"]


def test_a_table_is_csv():
    names = ["one.wav", 'a "b", c.wav']
    found = [made([[0.1, 0.8, 0.1]], name) for name in names]
    lines = prediction_formats.table(found, Choice(None, 2), timeline=False)
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert [row["file"] for row in rows] == [names[0]] * 2 + [names[1]] * 2
    assert [row["label"] for row in rows] == ["b", "a"] * 2
    assert float(rows[0]["score"]) == 0.8
    lines = prediction_formats.table(found, Choice(None), timeline=True)
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert [float(row["end"]) for row in rows] == [1, 1]
    assert set(rows[0]) == {"file", "start", "end", "label", "score"}
    several = Choice([0.5, 0.9, 0.05])
    lines = prediction_formats.table(found, several, timeline=False)
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    found = [(row["label"], row["reached"]) for row in rows[:3]]
    assert found == [("c", "1"), ("b", "0"), ("a", "0")]


def test_a_name_in_a_table_may_have_several_lines():
    found = [made([[0.1, 0.8, 0.1]], "a\nb.wav")]
    lines = prediction_formats.table(found, Choice(None, 1), timeline=False)
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    assert rows[1][0] == "a\nb.wav"


def test_lines_of_json_hold_the_scores():
    found = [made([[0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])]
    (line,) = prediction_formats.json_lines(found, Choice(None, 1), False)
    assert json.loads(line) == {"file": "one.wav", "scores": {"b": 0.55}}
    several = Choice([0.5, 0.5, 0.5], 1)
    (line,) = prediction_formats.json_lines(found, several, False)
    assert json.loads(line)["labels"] == ["b"]
    lines = prediction_formats.json_lines(found, Choice(None), True)
    assert [json.loads(line) for line in lines] == [
        {"file": "one.wav", "start": 0.0, "end": 1.0, "scores": {"b": 0.8}},
        {"file": "one.wav", "start": 0.5, "end": 1.5, "scores": {"c": 0.5}},
    ]


def test_annotations_have_the_columns_of_their_programs():
    one = made([[0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    one = dataclasses.replace(one, labels=["a", "b\tb", "c"])
    lines = list(prediction_formats.audacity(one, Choice(None)))
    assert lines == [
        "0.000000\t1.000000\tb b 0.800",
        "0.500000\t1.500000\tc 0.500",
    ]
    head, *rows = prediction_formats.raven(one, Choice(None), 8000.0)
    columns = head.split("\t")
    assert columns[:7] == [
        "Selection",
        "View",
        "Channel",
        "Begin Time (s)",
        "End Time (s)",
        "Low Freq (Hz)",
        "High Freq (Hz)",
    ]
    cells = dict(zip(columns, rows[1].split("\t"), strict=True))
    assert cells["Selection"] == "2" and cells["Begin Time (s)"] == "0.500000"
    assert cells["High Freq (Hz)"] == "8000" and cells["Label"] == "c"


def test_recordings_of_one_name_have_files_of_their_own():
    names = [
        *("a/x.wav", "b/x.wav", "b/../b/x.wav", "c/b-x.wav", "d/B-X.wav"),
        *("../.hidden.wav", "é" * 124 + ".wav", "/root/x.wav"),
    ]
    taken = set()
    for name in names:
        free = prediction_formats.free_name(name, ".labels.txt", taken)
        assert free.casefold() not in taken and not free.startswith(".")
        assert len(free.encode()) < 240 and "/" not in free
        taken.add(free.casefold())
    assert {"x.wav.labels.txt", "b-x.wav.labels.txt"} <= taken


def test_the_command_writes_annotations_of_each_recording(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a/x.wav", "b/x.wav"):
        (tmp_path / name).parent.mkdir()
        samples = generator.normal(0, 0.1, 24000)
        soundfile.write(tmp_path / name, samples, 16000)
    (tmp_path / "b/y.wav").write_text("no recording")
    output = tmp_path / "out"
    process = run_command(
        *("predict", "--model=speech_commands", "--hop=0.25"),
        *("--format=raven", f"--output={output}"),
        *(str(tmp_path / "a"), str(tmp_path / "b")),
    )
    assert process.returncode == 1
    assert process.stderr.endswith("Error: 1 recording left out.\n")
    first, second = sorted(output.iterdir(), key=lambda one: len(one.name))
    assert first.name == "x.wav.selections.txt"
    assert second.name.endswith("-b-x.wav.selections.txt")
    assert len(first.read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--model=speech_commands"], "recordings must be given"),
        (["x.wav"], "one of `workdir` and `model` must be given"),
        (["--model=a", "--workdir=b", "x.wav"], "Received: workdir=b, model=a"),
        (["--model=birds", "x.wav"], "one of speech_commands"),
        (
            ["--model=speech_commands", "--output=no/x.csv", "x.wav"],
            "`output` must be a file in a folder that exists",
        ),
        (
            [
                *("--model=speech_commands", "--format=raven"),
                *(f"--output={__file__}", "x.wav"),
            ],
            "`output` must be a folder",
        ),
        (
            ["--model=speech_commands", "--format=raven", "x.wav"],
            "`output` must be a folder",
        ),
        (
            ["--model=speech_commands", f"--output={__file__}", __file__],
            "`output` must be another file than the recordings",
        ),
        (
            ["--model=speech_commands", "--output=/dev/null", "x.wav"],
            "`output` must be a file in a folder that exists",
        ),
    ],
)
def test_what_the_command_cannot_use_is_told_in_a_line(flags, message):
    process = run_command("predict", *flags)
    assert process.returncode == 1 and not process.stdout
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: ") and message in line


@pytest.mark.slow
def test_a_reader_that_ends_early_is_no_error():
    recording = str(ROOT / "tests/recordings/yes.flac")
    for arguments in (["--help"], ["--model=speech_commands", recording]):
        command = [sys.executable, "-m", "example.predict", *arguments]
        done = subprocess.run(
            f"{shlex.join(command)} | true",
            shell=True,
            cwd=ROOT,
            capture_output=True,
            timeout=300,
        )
        assert not done.stderr


def test_a_threshold_that_is_no_number_is_refused():
    flags = ("--model=speech_commands", "--threshold=nan")
    process = run_command("predict", *flags, "x.wav")
    assert process.returncode == 1
    assert "`threshold` must be a number from 0 to 1" in process.stderr


def test_names_with_line_ends_stay_in_one_row_and_one_line():
    for name in ("a\rb.wav", "a\nb.wav", "a\r\nb.wav"):
        found = [made([[0.1, 0.8, 0.1]], name)]
        lines = prediction_formats.table(found, Choice(None, 1), timeline=False)
        rows = list(csv.reader(io.StringIO("\n".join(lines), newline="")))
        assert rows[1][0] == name and len(rows) == 2
    found = [made([[0.1, 0.8, 0.1]], "\x1b[31ma\nb\u202e.wav")]
    (line,) = prediction_formats.text(found, Choice(None, 1), timeline=False)
    assert line == "\\x1b[31ma\\nb\\u202e.wav: b 0.800"
    free = prediction_formats.free_name("a\nb.wav", ".labels.txt", set())
    assert free == "a-b.wav.labels.txt"


def test_annotations_that_are_there_are_not_replaced(tmp_path):
    mine = tmp_path / "yes.flac.selections.txt"
    mine.write_text("corrected by hand")
    done = run_command(
        *("predict", "--model=speech_commands", "--format=raven"),
        *(f"--output={tmp_path}", str(ROOT / "tests/recordings/yes.flac")),
    )
    assert done.returncode == 1 and mine.read_text() == "corrected by hand"
    assert done.stderr.startswith("Error: `output` must be a folder without")
    assert "another folder, or remove those of a command" in done.stderr
