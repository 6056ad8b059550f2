"""The layout of the package: a room imports only from rooms below it."""

import ast
import functools
import pathlib
import re
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[1]

# From the top to the bottom. Rooms in one line do not import each other.
ROOMS = (
    ("example",),
    ("app",),
    ("serving",),
    ("training",),
    ("data",),
    ("callbacks",),
    ("diagnostics",),
    ("models",),
    ("frontend",),
    ("fast",),
    ("convolution", "pooling", "postprocessing"),
    ("initializers",),
    ("impulse_responses",),
    ("common",),
    ("version",),
)
# What `import leaf_audio` and `python -m leaf_audio` import.
NOT_ROOMS = {"__init__", "__main__"}
FLOOR = {room: floor for floor, row in enumerate(ROOMS) for room in row}

# The rooms from models down are plain Keras and NumPy.
NOT_FOR_LAYERS = {"absl", "gin", "tensorflow", "tensorflow_datasets"}
# LingvoSpecAugment passes TensorFlow's operations to lingvo.
USES_TENSORFLOW = {"leaf_audio/postprocessing/lingvo.py"}
# Linux, macOS or Windows lacks each of these.
NOT_EVERYWHERE = set(
    "crypt fcntl grp msvcrt posix pty pwd resource termios tty winreg".split()
)

MAX_LINES = 510


class Import(NamedTuple):
    """One imported module, and where it is imported."""

    path: str
    line: int
    room: str
    module: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def source_files(*folders: str) -> list[pathlib.Path]:
    files = [p for folder in folders for p in (ROOT / folder).rglob("*.py")]
    assert files
    return sorted(files)


def imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the room"
        if node.module == "leaf_audio":
            return [f"leaf_audio.{alias.name}" for alias in node.names]
        return [node.module]
    return []


@functools.cache
def imports() -> tuple[Import, ...]:
    """Reads the imports of all rooms, also those inside functions."""
    found = []
    for path in source_files("leaf_audio"):
        parts = path.relative_to(ROOT / "leaf_audio").with_suffix("").parts
        if parts[0] in NOT_ROOMS:
            continue
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            found += [
                Import(where, node.lineno, parts[0], module)
                for module in imported_modules(node)
            ]
    return tuple(found)


def room_of(module: str) -> str | None:
    package, _, rest = module.partition(".")
    if package == "example":
        return package
    return rest.partition(".")[0] if package == "leaf_audio" else None


def listed(faults: list) -> str:
    return "\n" + "\n".join(str(fault) for fault in faults)


def test_every_room_has_a_floor():
    package = ROOT / "leaf_audio"
    files = {path.stem for path in package.glob("*.py")} - NOT_ROOMS
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert files | folders | {"example"} == set(FLOOR)


def test_a_room_imports_only_from_rooms_below_it():
    faults = []
    for found in imports():
        target = room_of(found.module)
        if target is None or target == found.room:
            continue
        if FLOOR.get(target, -1) <= FLOOR[found.room]:
            faults.append(found)
    assert not faults, listed(faults)


def test_layers_and_models_import_neither_tensorflow_nor_gin():
    faults = [
        found
        for found in imports()
        if FLOOR[found.room] >= FLOOR["models"]
        and found.module.partition(".")[0] in NOT_FOR_LAYERS
        and found.path not in USES_TENSORFLOW
    ]
    assert not faults, listed(faults)


def test_only_app_imports_gin():
    faults = [
        found
        for found in imports()
        if found.room != "app" and re.match(r"gin\b", found.module)
    ]
    assert not faults, listed(faults)


def test_every_platform_has_what_is_imported():
    faults = [one for one in imports() if one.module in NOT_EVERYWHERE]
    assert not faults, listed(faults)


def test_no_file_is_too_long():
    faults = []
    for path in source_files("leaf_audio", "example", "benchmarks", "tests"):
        lines = len(path.read_text().splitlines())
        if lines > MAX_LINES:
            faults.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert not faults, listed(faults)
