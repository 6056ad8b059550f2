"""The scripts behind the numbers in README and docs/ run."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_backend

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


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
