"""README and the pages in docs/ say what is true.

Their Python runs as printed, the gin they show parses, their commands have
valid flags and bindings, and the files that they name exist.
"""

import datetime
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import soundfile
from tones import flag_values

import leaf_audio
from leaf_audio.app import (
    configuration,
    run,  # noqa: F401 (registers with gin what configs name)
    study,
)

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}
TEXT = "\n".join(PAGES.values())
COMMANDS = sorted(
    path.stem
    for path in (ROOT / "example").glob("[a-z]*.py")
    if path.stem != "external_configurables"
)


def blocks(language, text=TEXT):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(program):
    """Returns the flags of each printed command that starts like this."""
    lines = "".join(blocks("bash")).replace("\\\n", "").splitlines()
    given = [one.strip() for line in lines for one in line.split("&&")]
    starts = [one for one in given if program in one]
    return [shlex.split(one.partition(program)[2]) for one in starts]


@pytest.mark.slow_on_jax
@pytest.mark.parametrize(
    "page",
    [
        page
        for page, text in PAGES.items()
        # That page has a test of its own.
        if blocks("python", text) and page != "docs/export.md"
    ],
)
def test_python_blocks_run_in_order(page):
    namespace = {}
    for block in blocks("python", PAGES[page]):
        exec(compile(block, page, "exec"), namespace)


# The page calls it, which TensorFlow has until another package takes its place.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_the_code_that_calls_exported_files_gives_the_predictions():
    namespace = {}
    for block in blocks("python", PAGES["docs/export.md"]):
        exec(compile(block, "docs/export.md", "exec"), namespace)
    samples, rate = soundfile.read(namespace["folder"] / "yes.wav")
    assert (samples.ndim, rate) == (2, 44100)
    mono = samples.mean(axis=1)
    expected = namespace["classifier"].predict(mono, rate)
    for found in (namespace["by_litert"], namespace["by_onnx"]):
        # LEAF follows a plan there, and is exact in the files.
        assert found == pytest.approx(expected, abs=5e-3)


@pytest.mark.fast
@pytest.mark.any_backend
def test_pages_with_python_are_found():
    assert len([page for page in PAGES.values() if blocks("python", page)]) >= 6


@pytest.mark.any_backend
def test_a_printed_config_parses(tmp_path, fresh_gin):
    (own,) = (one for one in blocks("gin") if "Study." not in one)
    path = tmp_path / "own.gin"
    path.write_text(own)
    configuration.parse([str(path)], [])
    assert configuration.bound()["Leaf.window_len"] == "32.0"


@pytest.mark.any_backend
def test_a_printed_study_parses(tmp_path, fresh_gin):
    (own,) = (one for one in blocks("gin") if "Study." in one)
    path = tmp_path / "own.gin"
    path.write_text(own)
    made = study.read([str(path)], [])
    for name in made.variants:
        flags = made.command(name, 0, [])
        configuration.parse(
            flag_values(flags, "gin_config"), flag_values(flags, "gin_bindings")
        )
        assert configuration.bound()["Leaf.n_filters"] in name


@pytest.mark.any_backend
def test_configs_and_bindings_of_commands_parse(fresh_gin):
    parsed = 0
    for flags in commands("-m example.main") + commands("leaf-audio train"):
        given = flag_values(flags, "gin_bindings")
        configuration.parse(flag_values(flags, "gin_config"), given)
        parsed += len(given)
    assert parsed >= 8


@pytest.mark.any_backend
def test_configs_of_studies_parse(fresh_gin):
    found = commands("-m example.study")
    assert found
    for flags in found:
        study.read(flag_values(flags, "gin_config"), [])


@pytest.mark.any_backend
@pytest.mark.parametrize("name", COMMANDS)
def test_flags_of_commands_exist(name):
    described = subprocess.run(
        [sys.executable, "-m", f"example.{name}", "--helpfull"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    found = commands(f"-m example.{name}")
    assert found
    for flag in filter(is_flag, sum(found, [])):
        assert f"{flag.partition('=')[0]}:" in described, flag


def is_flag(part):
    return part.startswith("--")


@pytest.mark.fast
@pytest.mark.any_backend
def test_flags_of_benchmarks_exist():
    names = set(re.findall(r"benchmarks/(\w+)\.py", TEXT))
    assert {"frontends", "leaf_error", "leaf_figure"} <= names
    for name in names:
        script = (ROOT / "benchmarks" / f"{name}.py").read_text("utf-8")
        for flags in commands(f"benchmarks/{name}.py"):
            for flag in filter(is_flag, flags):
                assert f'"{flag.partition("=")[0]}"' in script, flag


@pytest.mark.fast
@pytest.mark.any_backend
@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
            assert anchor in map(as_anchor, headings), link


def as_anchor(heading):
    """Returns the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")


@pytest.mark.fast
@pytest.mark.any_backend
@pytest.mark.parametrize("page", PAGES)
def test_paths_named_in_code_exist(page):
    top = r"`((?:leaf_audio|example|tests|benchmarks)/[\w/.]*)`"
    for path in re.findall(top, PAGES[page]):
        assert (ROOT / path).exists(), path


@pytest.mark.fast
@pytest.mark.any_backend
@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"example/configs/\w+\.gin", TEXT)))
)
def test_configs_named_are_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.fast
@pytest.mark.any_backend
def test_every_config_is_named():
    for path in (ROOT / "example" / "configs").glob("*.gin"):
        assert re.search(rf"\b{path.stem}\.gin`", TEXT), path


@pytest.mark.fast
@pytest.mark.any_backend
def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 200


@pytest.mark.fast
@pytest.mark.any_backend
def test_the_citation_has_the_version_and_its_date():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {leaf_audio.__version__}\n" in citation
    (date,) = re.findall(r"^date-released: (.+)$", citation, re.M)
    assert datetime.date.fromisoformat(date) >= datetime.date(2026, 11, 29)


@pytest.mark.fast
@pytest.mark.any_backend
def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "docs").rglob("*.ipynb"),
    ]
    for page in pages:
        name = page.relative_to(ROOT / "docs").as_posix()
        assert re.search(rf"(- |: ){re.escape(name)}$", navigation, re.M), name


# It trains. CI runs it by building the site.
@pytest.mark.slow
def test_the_code_of_the_notebook_runs(tmp_path):
    path = ROOT / "docs" / "notebooks" / "your_own_recordings.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(one["source"]) for one in cells if "outputs" in one]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
