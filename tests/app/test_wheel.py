"""What a wheel installs."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The names of the files in a wheel of this package."""
    setuptools = pytest.importorskip("setuptools")
    # Older ones need the package `wheel`.
    if int(setuptools.__version__.partition(".")[0]) < 71:
        pytest.importorskip("wheel")
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("leaf_audio", "example"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel"],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def test_it_holds_one_package(names):
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "leaf_audio"
    }


def test_the_configs_and_the_types_are_in_it(names):
    configs = ROOT / "example" / "configs"
    shipped = [f.relative_to(configs) for f in configs.rglob("*.gin")]
    inside = {n for n in names if n.startswith("leaf_audio/configs/")}
    assert inside == {f"leaf_audio/configs/{f.as_posix()}" for f in shipped}
    assert "leaf_audio/configs/published/crema_d.gin" in inside
    assert "leaf_audio/py.typed" in names


def test_it_installs_the_command(names):
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)
