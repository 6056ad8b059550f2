"""The commands that a run names for what comes next."""

import importlib.util

import pytest

from leaf_audio.app import run, train

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.usefixtures("fresh_gin"),
]

RESULTS = {
    "data": {"name": "audio_folder", "labels": ["a", "b"]},
    "kept_epoch": 1,
    "timings": {"epochs": 1},
    "metrics": {"test": {"accuracy": 1.0, "loss": 0.0}},
}


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """A function from the text of `config.gin` to what is told."""

    def told(config):
        (tmp_path / "config.gin").write_text(config)
        monkeypatch.setattr(train, "train", lambda: RESULTS)
        run.train([], [f"train.workdir = '{tmp_path}'"])
        _, _, after = capsys.readouterr().out.partition("next:\n")
        return after

    return told


@pytest.mark.parametrize(
    "config, is_needed",
    [
        ("import leaf_audio.app.configurables\n", False),
        ("import leaf_audio.app.configurables\nimport my_tables\n", True),
        ("from my.package import tables\n", True),
        ("# import my_tables\nsample_rate = 8000\n", False),
    ],
)
def test_a_run_with_code_of_ones_own_needs_its_config(
    told, tmp_path, config, is_needed
):
    flag = f"--gin_config={tmp_path / 'config.gin'}"
    lines = told(config).splitlines()[:-1]
    assert lines and {flag in line for line in lines} == {is_needed}


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_report_says_what_it_needs(told, monkeypatch, is_installed):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: is_installed or None
    )
    assert ("leaf_audio[plot]" in told("").splitlines()[0]) != is_installed
