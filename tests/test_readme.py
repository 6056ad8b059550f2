"""README's Python runs as printed, its gin parses, its commands exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.mark.slow_on_jax
def test_python_blocks_run_in_order():
    python = blocks("python")
    assert len(python) >= 4
    namespace = {}
    for block in python:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["custom_leaf"].n_filters == 64


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"example/configs/\w+\.gin", README)))
)
def test_configs_named_are_there(path):
    assert (ROOT / path).is_file()


def test_every_config_is_named():
    for path in (ROOT / "example" / "configs").glob("*.gin"):
        assert path.stem in README, path
