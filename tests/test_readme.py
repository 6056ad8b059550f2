"""README's Python runs as printed, its gin parses, its configs exist."""

import pathlib
import re
import shlex

import gin
import pytest
from tones import flag_values

from leaf_audio.app import configuration  # noqa: F401
from leaf_audio.training import (
    study,  # noqa: F401
    train,  # noqa: F401
)

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


@pytest.mark.any_backend
def test_configs_parse(tmp_path, fresh_gin):
    run, of_study = blocks("gin")
    own = tmp_path / "own.gin"
    own.write_text(run)
    configuration.parse([str(own)], [])
    assert configuration.bound()["Leaf.window_len"] == "32.0"

    gin.clear_config()
    gin.parse_config(of_study)
    made = study.Study()
    for name in made.variants:
        flags = made.command(name, 0, [])
        gin.clear_config()
        configuration.parse(
            flag_values(flags, "gin_config"), flag_values(flags, "gin_bindings")
        )
        assert configuration.bound()["Leaf.n_filters"] in name


@pytest.mark.any_backend
def test_bindings_of_commands_parse(fresh_gin):
    parsed = 0
    for command in "".join(blocks("bash")).replace("\\\n", "").splitlines():
        if "-m example.main" not in command:
            continue
        flags = shlex.split(command)
        given = flag_values(flags, "gin_bindings")
        gin.clear_config()
        configuration.parse(flag_values(flags, "gin_config"), given)
        parsed += len(given)
    assert parsed >= 8


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"example/configs/\w+\.gin", README)))
)
def test_configs_named_are_there(path):
    assert (ROOT / path).is_file()


def test_every_config_is_named():
    for path in (ROOT / "example" / "configs").glob("*.gin"):
        assert re.search(rf"\b{path.stem}(\.gin|`)", README), path
