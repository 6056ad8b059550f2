"""A study does each run once, and tells what came of them."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import gin
import pytest
from tones import ROOT, flag_values, write_tones

from leaf_audio.app import configuration, run
from leaf_audio.app import study as study_command
from leaf_audio.app.data_configurables import DATA_CONFIGURABLES
from leaf_audio.training import study, study_results

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

CONFIGS = pathlib.Path(__file__).parents[2] / "example" / "configs"
SMALL = [
    "example/configs/audio_folder.gin",
    "train.num_epochs = 1",
    "align.seq_len = 1600",
    "sample_rate = 4000",
    "data.load.sample_rate = 4000",
]

# What the configs of the variants of `two` set.
OF = {"LEAF, one": {"A.b": "1"}, "mel": {}}


def finished(folder, test, drift=None):
    folder.mkdir(parents=True)
    results = {
        "metrics": {
            "test": {"accuracy": test},
            "validation": {"accuracy": test / 2},
        },
        "parameters": {"trainable": 12345, "frontend": 280},
    }
    (folder / "results.json").write_text(json.dumps(results))
    # The first epoch compiles, the second had to share the machine.
    seconds = (500, 999, 100 * test, 90 * test)
    rows = [
        {"epoch": epoch, "seconds": time, "drift_centre_hz": drift}
        for epoch, time in enumerate(seconds, start=1)
    ]
    if drift is None:
        for row in rows:
            del row["drift_centre_hz"]
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def two(tmp_path):
    made = study.Study(
        {"LEAF, one": ["a.gin", "A.b = 1"], "mel": ["c.gin"]},
        configs=["d.gin"],
        seeds=(0, 1),
        workdir=str(tmp_path),
    )
    for seed, accuracy in ((0, 0.8), (1, 0.9)):
        finished(made.run_folder("LEAF, one", seed), accuracy, drift=10 * seed)
    finished(made.run_folder("mel", 0), 0.7)
    for name, seed in (("LEAF, one", 0), ("LEAF, one", 1), ("mel", 0)):
        told = made.run_folder(name, seed).with_name(f"{seed}.json")
        told.write_text(json.dumps({"command": [], "settings": OF[name]}))
    return made


def test_a_row_has_mean_and_deviation_over_the_finished_seeds(two):
    rows = study_results.collect(two)
    assert study_results.cells(rows[0]) == [
        "LEAF, one",
        "85.0 ± 7.1 %",
        "–",
        "85.0 s",
        "42.5 ± 3.5 %",
        "12,345",
        "280",
        "5.00 ± 7.07 Hz",
    ]
    # Only seed 0 is finished: 0.7 against 0.8, and 70 s against 85 s.
    assert study_results.cells(rows[1])[1:5] == [
        *("70.0 %", "-10.0", "70.0 s (0.82 ×)", "35.0 %")
    ]
    assert study_results.cells(rows[1])[-1] == "–"


def test_the_difference_to_the_first_variant_has_an_interval(two):
    finished(two.run_folder("mel", 1), 0.84)
    rows = study_results.collect(two)
    assert rows[1]["differences"] == pytest.approx({0: -0.1, 1: -0.06})
    # 12.71 is the quantile of the t-distribution with one degree of freedom,
    # and 2 points the standard error of the mean.
    assert study_results.cells(rows[1])[2] == "-8.0 (-33.4 to +17.4)"


def test_finished_runs_that_are_not_in_the_table_are_listed(two):
    assert study_results.other_runs(two) == []
    fewer = study.Study({"mel": []}, seeds=[1], workdir=str(two.folder))
    leaf = two.run_folder("LEAF, one", 0).parent.name
    expected = [f"{leaf}/0", f"{leaf}/1", "mel/0"]
    assert study_results.other_runs(fewer) == expected


def test_equal_differences_have_no_interval(two):
    finished(two.run_folder("mel", 1), 0.8)
    rows = study_results.collect(two)
    assert study_results.cells(rows[1])[2] == "-10.0"


def test_another_metric_and_epochs_of_no_time_are_not_compared(two):
    path = two.run_folder("mel", 0) / "results.json"
    results = json.loads(path.read_text())
    results["metrics"] = {"test": {"map": 0.3}}
    path.write_text(json.dumps(results))
    row = study_results.collect(two)[1]
    assert row["differences"] == {} and row["epoch_ratio"] is None
    for seed in (0, 1):
        log = two.run_folder("LEAF, one", seed) / "metrics.csv"
        lines = log.read_text().splitlines()
        lines = [lines[0], *(f"{i},0.0,1" for i in range(4))]
        log.write_text("\n".join(lines) + "\n")
    finished_again = {"test": {"accuracy": 0.7}}
    results["metrics"] = finished_again
    path.write_text(json.dumps(results))
    row = study_results.collect(two)[1]
    assert row["differences"] and row["epoch_ratio"] is None


def test_a_table_and_a_figure_are_written(two):
    pytest.importorskip("matplotlib")
    study_results.write(two, study_results.collect(two))
    names = {file.name for file in two.folder.iterdir() if file.is_file()}
    assert names == {"results.md", "results.json", "results.png", "results.svg"}
    lines = (two.folder / "results.md").read_text().splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| LEAF, one | 85.0 ± 7.1 % |")


def test_a_run_is_one_of_main_with_its_own_settings(two):
    command = two.command("LEAF, one", 1, ["E.f = 2"])
    assert command == [
        *("-m", "leaf_audio.app.main", "--seed=1"),
        f"--workdir={two.folder / 'leaf_one' / '1'}",
        *("--gin_config=a.gin", "--gin_config=d.gin"),
        *("--gin_bindings=A.b = 1", "--gin_bindings=E.f = 2"),
    ]


def test_what_is_done_is_not_done_again_and_a_failure_is_told(
    two, monkeypatch, capsys
):
    started = []

    def run(command, log):
        started.append(command)
        log.write("some output\nError: no such thing\n  In a.gin\n")
        log.flush()
        return 1

    monkeypatch.setattr(study, "run_python", run)
    message = "'mel' with seed 1 has failed: no such thing\n  In a.gin "
    with pytest.raises(RuntimeError, match=message):
        study.run_all(two, [], OF)
    assert len(started) == 1
    assert f"--workdir={two.run_folder('mel', 1)}" in started[0]


# Ends as a run does: it needs a moment after the first signal.
SAVING = """
import pathlib, signal, time

asked = []
for one in (signal.SIGINT, signal.SIGTERM):
    signal.signal(one, lambda number, frame: asked.append(number))
print("ready", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(1)
print("saved", len(asked), flush=True)
"""
STUDY = """
import sys

from leaf_audio.training import study

with open(sys.argv[1], "w") as log:
    study.run_python(["-c", sys.argv[2]], log)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_has_saved_when_its_study_is_ended(tmp_path, number):
    log = tmp_path / "log"
    process = subprocess.Popen(
        [sys.executable, "-c", STUDY, str(log), SAVING],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (log.exists() and log.read_text()):
        time.sleep(0.05)
    # As a terminal does, to the study and all that it has started.
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert log.read_text() == "ready\nsaved 1\n"
    if number == signal.SIGINT:
        assert "Ctrl-C again" in told and process.returncode != 0
    else:
        assert process.returncode == 128 + signal.SIGTERM


def test_names_of_variants_are_text(two, capsys):
    pytest.importorskip("matplotlib")
    rows = study_results.collect(two)
    rows[0]["name"], rows[1]["name"] = "a | b $\\foo$", "leaf [fixed] [/y]"
    study_results.write(two, rows)
    _, _, first, _ = (two.folder / "results.md").read_text().splitlines()
    assert first.startswith("| a \\| b $")
    study_command.print_table(
        study_results.headings(rows), map(study_results.cells, rows)
    )
    assert "leaf [fixed] [/y]" in capsys.readouterr().out


def test_a_run_without_its_settings_is_not_taken(two):
    two.run_folder("mel", 0).with_name("0.json").unlink()
    with pytest.raises(ValueError, match="which holds mel/0/results.json"):
        study.run_all(two, [], OF)


def test_the_filters_are_those_of_the_kept_model(two):
    folder = two.run_folder("LEAF, one", 1)
    log = folder / "metrics.csv"
    lines = log.read_text().splitlines()
    lines[2] = "2,999,55"
    log.write_text("\n".join(lines) + "\n")
    results = json.loads((folder / "results.json").read_text())
    for kept, expected in ((2, 55), (4, 10)):
        results["kept_epoch"] = kept
        (folder / "results.json").write_text(json.dumps(results))
        assert study_results.collect(two)[0]["drift_hz"] == [0, expected]


def test_the_reason_of_a_run_that_broke_is_its_last_line():
    assert (
        study.failure_reason("Traceback\n  File\nKeyError: 'x'\n")
        == "KeyError: 'x'"
    )
    assert study.failure_reason("") == "it printed nothing"


def test_a_config_of_a_run_is_not_taken_for_one_of_a_study():
    message = "belong into Study.configs.* Received: train.num_epochs"
    with pytest.raises(ValueError, match=message):
        study_command.read([], ["train.num_epochs = 3"])
    own = "Study.variants = {'a': []}"
    with pytest.raises(ValueError, match="there is .* study"):
        run.train([], [own])
    with pytest.raises(ValueError, match="effect: sample_rate"):
        study_command.read([], [own, "sample_rate = 8000"])


def test_a_mistake_in_any_variant_is_found_before_the_first_run():
    made = study.Study({"one": [], "two": ["Leaf.n_filter = 3"]})
    message = "variant 'two': .*parameter named 'n_filter'"
    with pytest.raises(ValueError, match=message):
        study_command.check_settings(made, [])
    with pytest.raises(ValueError, match="variant 'one': .*Study.seeds"):
        study_command.check_settings(
            study.Study({"one": []}), ["Study.seeds = [1]"]
        )
    settings = study_command.check_settings(
        study.Study({"one": ["leaf.gin"]}), ["sample_rate = 4000"]
    )
    assert settings["one"]["sample_rate"] == "4000"
    assert settings["one"]["PCENLayer.root"] == "2.0"


def test_variants_may_have_names_in_any_script():
    made = study.Study({"フィルタ": [], "é": [], "ü": []})
    assert len({made.run_folder(name, 0) for name in made.variants}) == 3


def test_finished_runs_of_other_settings_are_not_taken(two):
    """Also where the text of a config has changed, and not the command."""
    message = "'LEAF, one' with seed 0 must .*A.b .was 1, is 2.; E.f .was not"
    changed = {**OF, "LEAF, one": {"A.b": "2", "E.f": "3"}}
    with pytest.raises(ValueError, match=message):
        study.run_all(two, [], changed)


def test_finished_runs_may_have_read_their_data_otherwise(two, monkeypatch):
    monkeypatch.setattr(study, "run_python", lambda command, log: 0)
    changed = {
        name: settings | {"data.prepare.worker_processes": "2"}
        for name, settings in OF.items()
    }
    study.run_all(two, [], changed)
    # Other data or another teacher would not be comparable.
    for key in ("train.num_epochs", "audio_folder.path", "NpzTeacher.path"):
        other = {**changed, "mel": changed["mel"] | {key: "3"}}
        with pytest.raises(ValueError, match=f"{key} .was not set, is 3"):
            study.run_all(two, [], other)


def test_a_study_that_was_moved_keeps_its_runs(two, tmp_path, monkeypatch):
    started = []

    def run(command, log):
        started.append(command)
        return 0

    monkeypatch.setattr(study, "run_python", run)
    two.folder = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    study.run_all(two, [], OF, "--data_dir=elsewhere")
    (command,) = started
    assert f"--workdir={two.run_folder('mel', 1)}" in command
    assert "--data_dir=elsewhere" in command


def test_the_printed_table_has_a_line_for_each_row_in_80_columns(two, capsys):
    finished(two.run_folder("mel", 1), 0.72)
    rows = study_results.collect(two)
    rows[1]["name"] = "SincNet+, fixed filters"
    study_command.print_table(
        study_results.headings(rows), map(study_results.cells, rows)
    )
    *_, first, second = capsys.readouterr().out.rstrip().splitlines()
    assert "LEAF, one" in first and "85.0 ± 7.1 %" in first
    assert "SincNet+, fixed filters" in second and "(0.8" in second
    assert max(len(first), len(second)) <= 80


def test_a_split_that_is_not_there_has_no_accuracy(two):
    path = two.run_folder("mel", 0) / "results.json"
    results = json.loads(path.read_text())
    del results["metrics"]["test"]
    path.write_text(json.dumps(results))
    rows = study_results.collect(two)
    study_results.write(two, rows)
    assert study_results.cells(rows[1])[1:3] == ["–", "–"]
    assert study_results.cells(rows[1])[4] == "35.0 %"


@pytest.mark.parametrize(
    "settings,message",
    [
        ({}, "variants=None"),
        ({"variants": {"a": "b.gin"}}, "lists of configs"),
        ({"variants": {"a": []}, "seeds": [1, 1]}, r"seeds=\[1, 1\]"),
        ({"variants": {"a": [3]}}, "all of them text"),
        ({"variants": {1: []}}, "{1: "),
        ({"variants": ["a"]}, "variants=.'a'"),
        ({"variants": {"a": []}, "seeds": 3}, "seeds=3"),
        ({"variants": {"a": []}, "seeds": [0, 0.5]}, "seeds=.0, 0.5"),
        ({"variants": {"a": []}, "seeds": [True]}, "seeds=.True"),
        ({"variants": {"": []}}, "must have letters"),
        ({"variants": {"a": []}, "configs": [None]}, "configs=.None"),
        ({"variants": {"a": []}, "workdir": 3}, "workdir=3"),
        ({"variants": {"a": []}, "configs": "b.gin"}, "configs='b.gin'"),
        ({"variants": {"a": [], "A!": []}}, "must have letters .*'A!'"),
    ],
)
def test_what_is_no_grid_is_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        study.Study(**settings)


@pytest.mark.parametrize(
    "name", sorted(file.stem for file in CONFIGS.glob("study_*.gin"))
)
def test_each_run_of_a_shipped_study_uses_all_its_bindings(name):
    gin.add_config_file_search_path(str(CONFIGS.parents[1]))
    made = study_command.read([f"{name}.gin"], [])
    for variant in made.variants:
        flags = made.command(variant, 0, ())
        gin.clear_config()
        configuration.parse(
            flag_values(flags, "gin_config"), flag_values(flags, "gin_bindings")
        )
        gin.get_configurable("AudioClassifier")(num_outputs=2)
        configuration.check_all_used(later=("train.train", *DATA_CONFIGURABLES))


@pytest.mark.slow
def test_a_study_runs_from_the_command_line(tmp_path):
    write_tones(tmp_path / "tones")
    variants = {"mel": ["example/configs/mel.gin"]}
    command = [
        *(sys.executable, "-m", "example.study"),
        f"--workdir={tmp_path / 'study'}",
        f"--data_dir={tmp_path / 'data'}",
        f"--gin_bindings=Study.variants = {variants!r}",
        f"--gin_bindings=Study.configs = {SMALL!r}",
        "--gin_bindings=Study.seeds = [0]",
        f"--gin_bindings=audio_folder.path = '{tmp_path / 'tones'}'",
    ]
    for other in (False, True):
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=CONFIGS.parents[1]
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert "results.md" in done.stdout
        assert ("not in the table: " in done.stdout) == other
        if not other:
            # As of a variant that the study has no more.
            finished(tmp_path / "study" / "gone" / "7", 0.5)
    assert done.stdout.endswith("gone/7\n")
    assert (tmp_path / "study" / "results.md").exists()


def test_a_study_of_several_labels_shows_their_metric(tmp_path):
    made = study.Study({"one": []}, seeds=[0], workdir=tmp_path)
    folder = made.run_folder("one", 0)
    finished(folder, 0.5)
    results = json.loads((folder / "results.json").read_text())
    results["metrics"] = {"test": {"map": 0.25, "loss": 0.1}}
    (folder / "results.json").write_text(json.dumps(results))
    (row,) = study_results.collect(made)
    assert row["metric"] == "map" and row["test"] == [0.25]
    study_results.write(made, [row])
    heading, _, line = (tmp_path / "results.md").read_text().splitlines()
    columns = "| test mAP | difference in points | an epoch | validation mAP |"
    assert columns in heading
    assert "| 25.0 % | – | 50.0 s | – |" in line


@pytest.mark.parametrize(
    "name, content",
    [
        ("results.json", "[]"),
        ("results.json", '{"metrics": {}}'),
        ("results.json", '{"metrics": {"test": 3}}'),
        ("metrics.csv", "epoch,loss\n1,2\n"),
        ("metrics.csv", ""),
        ("metrics.csv", "epoch,seconds\n1,soon\n"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, name, content):
    made = study.Study({"one": []}, seeds=[0], workdir=tmp_path)
    folder = made.run_folder("one", 0)
    finished(folder, 0.5)
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} must .*Received: "):
        study_results.collect(made)
