"""The scripts behind the numbers in README and docs/ run."""

import csv
import json
import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from tones import write_tones

from leaf_audio.data import audio_folder

pytestmark = pytest.mark.any_backend

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_frontends_are_timed_and_their_memory_is_measured(tmp_path):
    if sys.platform != "linux":
        pytest.skip("memory is measured on Linux only")
    output = tmp_path / "speed.json"
    name = "EfficientLeaf, 8G-opt"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "frontends.py", "--size=8x1s"),
            *(f"--frontend={name}", f"--output={output}"),
        ],
        check=True,
    )
    row = json.loads(output.read_text("utf-8"))["results"]["8x1s"][name]
    assert 0 < row["forward_ms"] < row["both_ms"]
    assert row["memory_mb"] > 0


@pytest.mark.slow
def test_the_search_of_plans_is_timed():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "plan_search.py"],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()[1:]]
    assert rows[-1][0] == "building"
    for _, first, others in rows:
        assert 0 < float(others) < float(first) < 10


@pytest.mark.slow
def test_encoders_are_probed(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            samples = generator.normal(0, 0.1, 9000)
            soundfile.write(tmp_path / name / f"{number}.wav", samples, 16000)
    done = subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "probe.py", "--seeds=1"),
            f"--recordings={tmp_path}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert len(rows) == 8
    assert "untrained, seed 0, 10 % of labels, knn" in rows
    assert all(0 <= float(accuracy) <= 1 for accuracy in rows.values())


@pytest.mark.slow
def test_streams_are_timed():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "streaming.py", "--seconds=2"],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines()[1:])
    assert "Leaf, chunks of 100 ms" in rows
    assert all(0 < float(factor) < 10 for factor in rows.values())


@pytest.mark.slow
def test_the_input_pipeline_is_timed(tmp_path):
    output = tmp_path / "data.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "data.py", "--clips=40"),
            *("--rounds=1", "--seconds=0.2", "--no_tf_data"),
            f"--output={output}",
        ],
        check=True,
    )
    content = json.loads(output.read_text("utf-8"))
    for row in content["results"].values():
        assert row["clips_per_second"] > 0
    assert content["microseconds"]["white noise"] > 0


@pytest.mark.slow
def test_leaf_stays_finite_on_hard_inputs_at_a_high_rate(tmp_path):
    """A thousand steps, as in the benchmark, with fewer filters."""
    output = tmp_path / "finite.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "finite.py", "--filters=8"),
            *("--input=silence", "--input=square waves", "--input=constants"),
            f"--output={output}",
        ],
        check=True,
    )
    results = json.loads(output.read_text("utf-8"))["results"]
    assert len(results) == 9
    for row in results.values():
        assert (row["steps"], row["fault"]) == (1000, None)


@pytest.mark.slow
def test_training_steps_are_timed(tmp_path):
    output = tmp_path / "training.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "training.py", "--rounds=2"),
            *("--frontend=mel", "--frontend=leaf, exact"),
            *("--encoder=ResNet", "--seconds=1", "--pretraining=cola"),
            f"--output={output}",
        ],
        check=True,
    )
    (rows,) = json.loads(output.read_text("utf-8"))["results"].values()
    assert rows["mel"]["times_first"] == 1
    assert rows["mel cola"]["times_first"] > 1
    for row in rows.values():
        assert 0 < row["step_ms"] < 1000 * row["first_step_seconds"]
        assert row["clips_per_second"] == pytest.approx(32e3 / row["step_ms"])


@pytest.mark.slow
def test_steps_that_wait_for_clips_are_timed(tmp_path):
    write_tones(tmp_path / "tones")
    output = tmp_path / "training.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "training.py", "--rounds=2"),
            *("--frontend=mel", "--encoder=ResNet", "--seconds=1"),
            *(f"--recordings={tmp_path / 'tones'}", f"--output={output}"),
        ],
        check=True,
    )
    (rows,) = json.loads(output.read_text("utf-8"))["results"].values()
    assert 0 < rows["mel"]["waits"] < 1


@pytest.mark.slow
def test_several_processes_are_timed(tmp_path):
    pytest.importorskip("jax", reason="needs JAX")
    if sys.platform != "linux" or os.cpu_count() < 2:
        pytest.skip("gives each process a core, on Linux")
    output = tmp_path / "processes.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "processes.py", "--steps=3"),
            *("--epochs=1", f"--output={output}"),
        ],
        check=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    results = json.loads(output.read_text("utf-8"))["results"]
    assert results["1"]["times_one"] == 1
    assert results["2"]["clips_per_second"] > 0


@pytest.mark.slow
def test_runs_recover_from_faults(tmp_path):
    """Other tests kill runs, damage states, and raise SIGTERM in a process."""
    output = tmp_path / "faults.json"
    kinds = ("disk full", "SIGTERM at a random moment", "newest state cut off")
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "faults.py", "--at_most=1"),
            *(f"--kind={kind}" for kind in kinds),
            *(f"--output={output}", f"--keep={tmp_path}"),
        ],
        check=True,
    )
    results = json.loads(output.read_text("utf-8"))["results"]
    assert set(results) == set(kinds)
    for row in results.values():
        assert (row["times"], row["recovered"], row["equal"]) == (1, 1, 1)


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make_mixtures(source, target, *arguments):
    paths = [f"--source={source}", f"--target={target}"]
    counts = ["--train=12", "--validation=4", "--test=5", "--seconds=1.5"]
    script = runpy.run_path(str(BENCHMARKS / "mixtures.py"))
    script["main"]([*paths, *counts, *arguments])


def test_mixtures_of_clips_keep_the_folds_and_the_levels(esc10, tmp_path):
    make_mixtures(esc10, tmp_path / "one")
    rows = read_table(tmp_path / "one/index.csv")
    assert [row["split"] for row in rows] == (
        ["train"] * 12 + ["validation"] * 4 + ["test"] * 5
    )
    parts = read_table(tmp_path / "one/sources.csv")
    split_of = {
        row["file"]: row["split"] for row in read_table(esc10 / "index.csv")
    }
    for row in rows:
        samples, rate = soundfile.read(tmp_path / "one" / row["file"])
        assert (len(samples), rate) == (24000, 16000)
        assert 0.001 < np.abs(samples).max() < 1
        own = [part for part in parts if part["file"] == row["file"]]
        labels = [part["label"] for part in own]
        assert row["labels"].split(";") == sorted(set(labels))
        assert 2 <= len(labels) == len(set(labels)) <= 3
        assert {split_of[part["source"]] for part in own} == {row["split"]}
        levels = [float(part["level_db"]) for part in own]
        assert levels[0] == 0 and all(-10 <= one <= 0 for one in levels)
    assert len({len(row["labels"].split(";")) for row in rows}) == 2

    result = audio_folder(
        str(tmp_path / "one"), data_dir=str(tmp_path), for_training=False
    )
    assert result.is_multilabel
    assert result.counts == {"train": 12, "validation": 4, "test": 5}

    # The same seed gives the same files, and another others.
    make_mixtures(esc10, tmp_path / "two", "--train=3")
    make_mixtures(esc10, tmp_path / "three", "--seed=1")
    one, two, three = (
        [(tmp_path / name / f"train/0000{i}.wav").read_bytes() for i in (0, 2)]
        for name in ("one", "two", "three")
    )
    assert one == two and not {*one} & {*three}
    with pytest.raises(SystemExit, match="one must be new or empty"):
        make_mixtures(esc10, tmp_path / "one")


@pytest.mark.slow
def test_preparation_is_timed(tmp_path):
    output = tmp_path / "preparation.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "preparation.py", "--small"),
            *("--files=100", f"--output={output}"),
        ],
        check=True,
    )
    results = json.loads(output.read_text("utf-8"))["results"]
    assert len(results) == 3
    for row in results.values():
        assert row["hours_per_minute"] > 0
        assert 0 < row["megabytes_per_hour"] < 120


@pytest.mark.slow
def test_damaged_files_are_skipped_or_told(tmp_path):
    output = tmp_path / "fuzz.json"
    subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "fuzz.py", "--count=300"),
            *("--tables=30", "--prepared=30"),
            *(f"--output={output}", f"--keep={tmp_path}"),
        ],
        check=True,
    )
    content = json.loads(output.read_text("utf-8"))
    assert content["recordings"]["clips skipped"] > 100
    assert content["recordings"]["clips stored"] > 50
    assert content["tables"]["tables refused"] > 5
    assert content["prepared clips"]["files refused"] > 10
    assert not content["faults"]
