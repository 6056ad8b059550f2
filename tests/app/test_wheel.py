"""What an sdist holds, and what a wheel that is built from it installs."""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[2]


TOP = """
    setup.py pyproject.toml MANIFEST.in mkdocs.yml README.md LICENSE
    CHANGELOG.md CITATION.cff CONTRIBUTING.md .ci .github benchmarks docs
    example leaf_audio tests
""".split()


def build(source, command):
    """Builds an archive in `source/dist`, and returns its path."""
    setuptools = pytest.importorskip("setuptools")
    # Older ones need the package `wheel`.
    if int(setuptools.__version__.partition(".")[0]) < 71:
        pytest.importorskip("wheel")
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", command],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (archive,) = (source / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder of an sdist of this package, unpacked."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in TOP:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build(source, "sdist")) as opened:
        opened.extractall(folder, filter="data")
    (inside,) = folder.iterdir()
    return inside


@pytest.fixture(scope="module")
def names(unpacked):
    """The names of the files in a wheel that is built from the sdist."""
    with zipfile.ZipFile(build(unpacked, "bdist_wheel")) as opened:
        return set(opened.namelist())


def test_the_sdist_holds_what_builds_and_tests_need(unpacked):
    for name in TOP:
        assert (unpacked / name).exists(), name
    for name in ("tests/golden", "tests/recordings", "docs/site_hooks.py"):
        assert (unpacked / name).exists(), name


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
