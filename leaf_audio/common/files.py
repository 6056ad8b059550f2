"""Writing a file in one step.

A process may be killed at any moment. These functions leave either the old
file or the new one, never a part of one.

Until it is complete, a file has the name `.partial-<machine>-<process>-<name>`.
So two processes that write the same file do not write into each other's: the
one that ends last replaces what the other has written. What a killed process
has left is removed by the next one on the same machine that writes into the
same folder.
"""

import contextlib
import csv
import functools
import json
import os
import pathlib
import platform
import re
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from leaf_audio.common.plain import for_json

# Written into each page of a run. Only a file that holds it is replaced.
PAGE_MARK = "leaf-audio report"

_PARTIAL = re.compile(r"\.partial-([0-9a-f]{8})-(\d+)-.+")


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike, before: str | os.PathLike | None = None
) -> Iterator[pathlib.Path]:
    """Yields a temporary path, then moves the file written there to `path`.

    The temporary file lies in the same folder. It is forced to disk before the
    move, and the move itself is forced to disk too. If an error is raised, such
    as for a full disk, the temporary file is removed, and the file at `path`
    stays as it was.

    Args:
        path: The file to write or to replace. Its folder must exist.
        before: Where to keep the file that is replaced, if there is one.
            Default: None, which does not keep it.

    Yields:
        The path to write to.

    Raises:
        OSError: If the file cannot be written. The error names `path`.

    Example:

    ```python
    with replacing("model.keras") as partial:
        model.save(partial)
    ```
    """
    path = pathlib.Path(path)
    if path.is_symlink():
        # The file that the link leads to is replaced, and not the link.
        path = path.resolve()
    partial = _partial(path)
    rights = path.stat().st_mode if path.exists() else None
    try:
        yield partial
        if before is not None:
            _force_to_disk(partial)
            _keep(path, pathlib.Path(before))
        if rights is not None:
            # Some file systems do not let them be set.
            with contextlib.suppress(OSError):
                partial.chmod(stat.S_IMODE(rights))
        move(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno:
            # Writing to a file that is open does not name it.
            if error.filename in (None, str(partial)):
                error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing_with_description(
    path: str | os.PathLike, about: str | os.PathLike
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields temporary paths for a file and for another that describes it.

    Whenever the process is killed, the file is there with its own description,
    or not there. Two files cannot be moved at once, so the old file is removed
    first, then the description is moved, and then the file.

    Args:
        path: The file to write or to replace, as for `replacing`.
        about: The file that describes it.

    Yields:
        The paths to write the file and its description to.

    Raises:
        OSError: If a file cannot be written. The old ones stay as they were.
    """
    # Of a link, the file that it leads to is replaced.
    path = pathlib.Path(path).resolve()
    with replacing(path) as partial:
        with replacing(about) as partial_about:
            yield partial, partial_about
            for one in (partial, partial_about):
                _force_to_disk(one)
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path, then moves the folder made there to `path`.

    A folder cannot be replaced in one step. The old one is moved away first,
    and comes back if the new one cannot be moved.

    Args:
        path: The folder to write or to replace. The folder that holds it must
            exist.

    Yields:
        The path to make the folder at.

    Raises:
        OSError: If the folder cannot be written.
    """
    # A link stays one: what it leads to is replaced.
    path = pathlib.Path(os.path.realpath(path))
    around = _partial(path)
    shutil.rmtree(around, ignore_errors=True)
    around.mkdir()
    made, before = around / "made", around / "before"
    try:
        yield made
        try:
            if path.exists():
                os.replace(path, before)
            os.replace(made, path)
        except BaseException:
            if before.exists():
                os.replace(before, path)
            raise
    finally:
        shutil.rmtree(around, ignore_errors=True)


def is_partial(name: str) -> bool:
    """Returns whether this is the name of a file before it is complete.

    Those of earlier versions have neither machine nor process.
    """
    return name.startswith(".partial-")


def _partial(path: pathlib.Path) -> pathlib.Path:
    """Returns the temporary name of a file, and removes what others left."""
    _remove_leftovers(path.parent)
    # `path.name` stays at the end, since some writers choose their format by
    # the suffix.
    return path.with_name(f".partial-{_machine()}-{os.getpid()}-{path.name}")


@functools.cache
def _machine() -> str:
    """Returns a word for this machine, by its name.

    A folder may be shared with machines, or containers, whose processes have
    the same numbers.
    """
    return f"{zlib.crc32(platform.node().encode()):08x}"


# Once for each folder, since a process may write thousands of files into one.
@functools.cache
def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what processes that were killed have left in a folder."""
    with contextlib.suppress(OSError):
        for one in folder.iterdir():
            found = _PARTIAL.fullmatch(one.name)
            if found is None or found[1] != _machine():
                continue
            if _is_running(int(found[2])):
                continue
            if one.is_dir():
                shutil.rmtree(one, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    one.unlink()


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return True
    if os.name == "nt":
        # `os.kill` would end it.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # It belongs to another user.
        return True
    return True


def move(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Gives a complete file its name, and forces both to disk.

    Args:
        source: The file, in the same folder as `target`.
        target: Its new name. A file of this name is replaced.
    """
    target = pathlib.Path(target)
    _force_to_disk(pathlib.Path(source))
    os.replace(source, target)
    _force_to_disk(target.parent)


def _keep(path: pathlib.Path, before: pathlib.Path) -> None:
    """Keeps a file, if it exists, under a second name as well."""
    kept = _partial(before)
    kept.unlink(missing_ok=True)
    try:
        try:
            os.link(path, kept)
        except FileNotFoundError:
            return
        except OSError:
            # Not every file system has links, and none leads to another one.
            shutil.copyfile(path, kept)
            _force_to_disk(kept)
        os.replace(kept, before)
    finally:
        # An error leaves it. So does a move between two names of one file.
        kept.unlink(missing_ok=True)


def make_folder(path: pathlib.Path, name: str, given: Any) -> None:
    """Makes a folder, unless it is there.

    Args:
        path: The folder.
        name: The name of the argument that it comes from, for the message.
        given: The value of the argument.

    Raises:
        ValueError: If the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a folder that can be written to, or made. "
            f"Received: {name}={given!r}, where {error.filename} cannot be "
            f"made: {error.strerror}."
        ) from error


def remedy_of_folder(path: str | os.PathLike) -> str:
    """Says what to do if the folder that a file is to lie in does not exist.

    Args:
        path: The file.

    Returns:
        A sentence that follows another one, or "".
    """
    folder = pathlib.Path(path).parent
    return "" if folder.exists() else f" Make the folder {folder} first."


def without_mark(
    paths: Iterable[str | os.PathLike], mark: str
) -> list[pathlib.Path]:
    """Returns the files that exist and that a command has not written itself.

    Args:
        paths: The files that it is going to write.
        mark: A text that it writes into each of its files.
    """
    return [
        path
        for path in map(pathlib.Path, paths)
        if path.exists() and mark.encode() not in path.read_bytes()
    ]


@contextlib.contextmanager
def replacing_text(
    path: str | os.PathLike, newline: str | None = None
) -> Iterator[TextIO]:
    r"""Yields a text file in UTF-8, which replaces another in one step.

    File names may hold bytes that are not valid UTF-8. Python represents them
    by lone surrogates such as `\udcff`. They are written as this escape
    sequence, which both JSON and gin read back as the same name.

    Args:
        path: The file to write or to replace.
        newline: As for `open`. The module `csv` needs "". Default: None.

    Yields:
        The file, open for writing.
    """
    with (
        replacing(path) as partial,
        open(partial, "w", -1, "utf-8", "backslashreplace", newline) as file,
    ):
        yield file


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in one step, as `replacing_text` does.

    Args:
        path: The file to write or to replace.
        text: Its content.
    """
    with replacing_text(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes a JSON file, indented by two spaces, in one step.

    Args:
        path: The file to write or to replace.
        content: What `json.dumps` accepts, numbers of NumPy, and paths.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, default=for_json)
    write_text(path, f"{text}\n")


def read_json_object(path: str | os.PathLike) -> dict[str, Any] | None:
    """Reads a JSON file that holds an object.

    Args:
        path: The file.

    Returns:
        The object, or None if the file cannot be read or holds something else.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text("utf-8"))
    # Lists within lists within lists end in a RecursionError.
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def write_csv(
    path: str | os.PathLike,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Writes a CSV file with a header, in one step.

    Args:
        path: The file to write or to replace.
        columns: Names of the columns, in their order.
        rows: Values by the name of their column.
    """
    with replacing_text(path, newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_csv_rows(
    path: str | os.PathLike, rows: Iterable[Sequence[Any]]
) -> None:
    """Writes a CSV file from the cells of its rows, in one step.

    Unlike `write_csv`, it takes columns of the same name.

    Args:
        path: The file to write or to replace.
        rows: The cells of each row. The first row is the header.
    """
    with replacing_text(path, newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def safe_name(name: str) -> str:
    """Returns a name of a file that is like a name, such as a data set's."""
    return re.sub(r"[^\w.-]", "-", name)


def _force_to_disk(path: pathlib.Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        # Windows opens no folder, and keeps their lists in a journal.
        return
    # It forces to disk only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
