"""Finds gin configs, and reads what they say as data.

gin itself keeps the last value of each binding and forgets where it stood. To
tell the user in which file and line a binding stands, and which bindings a
later one has replaced, the same files are read here a second time, with gin's
own parser.

Configs are text in UTF-8, with or without a byte order mark, whatever the
encoding of the system is.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TextIO

import gin
from gin import config_parser


def _find_configs() -> pathlib.Path:
    package = pathlib.Path(__file__).parents[1]
    installed = package / "configs"
    clone = package.parent / "example" / "configs"
    return installed if installed.is_dir() else clone


# The configs that come with the package: in an installed package inside it, in
# a clone in `example/configs`.
CONFIGS = _find_configs()


class Key(NamedTuple):
    """What a binding sets: `scope/configurable.argument`, or a macro.

    Attributes:
        scope: The scopes, separated by slashes. Empty without scopes.
        configurable: The shortest name of the configurable. Empty for a macro.
        argument: The name of the argument or of the macro.
    """

    scope: str
    configurable: str
    argument: str

    @property
    def is_macro(self) -> bool:
        """Whether the key is the name of a macro."""
        return not self.configurable

    def __str__(self) -> str:
        scope = f"{self.scope}/" if self.scope else ""
        if self.is_macro:
            return self.argument
        return f"{scope}{self.configurable}.{self.argument}"


@dataclasses.dataclass(frozen=True)
class Reference:
    """A value such as `@scope/Leaf()`.

    Attributes:
        scope: The scopes, separated by slashes. Empty without scopes.
        configurable: The shortest name of the configurable.
        is_called: Whether there are parentheses after the name.
    """

    scope: str
    configurable: str
    is_called: bool

    def __str__(self) -> str:
        scope = f"{self.scope}/" if self.scope else ""
        return f"@{scope}{self.configurable}" + "()" * self.is_called


@dataclasses.dataclass(frozen=True)
class Macro:
    """A value such as `%sample_rate`."""

    name: str

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclasses.dataclass(frozen=True)
class Binding:
    """One statement `key = value`.

    Attributes:
        key: What is set.
        value: The value, with references and macros as `Reference` and `Macro`.
        file: The file in which the statement stands. None for a statement from
            the command line.
        line: The number of its first line, from 1.
    """

    key: Key
    value: Any
    file: str | None
    line: int

    @property
    def place(self) -> str:
        """Where the statement stands, in words."""
        if self.file is None:
            return "gin_bindings"
        relative = os.path.relpath(self.file)
        file = self.file if relative.startswith("..") else relative
        return f"{file}, line {self.line}"


def is_there(file: str) -> bool:
    """Returns whether a config can be found by this name."""
    return os.path.isfile(file) or _is_shipped(file)


def check(files: Sequence[str], bindings: Sequence[str]) -> None:
    """Raises a ValueError for mistakes that can be seen without TensorFlow.

    These are files that are not there, lines that are not valid gin, and a
    binding `audio_folder.path` of what is no folder. Nothing is executed.

    Args:
        files: Names of configs.
        bindings: Lines in gin's syntax, which come after the files.
    """
    from leaf_audio.data.user_files import check_folder

    check_there(files)
    with as_value_errors(bindings):
        read(files, bindings)
    typed = {one.key: one.value for one in read_text("\n".join(bindings))}
    for key, path in typed.items():
        names = str(key).split("/")[-1].split(".")
        if names[-2:] == ["audio_folder", "path"] and isinstance(path, str):
            check_folder("audio_folder", path, "a folder of recordings")


@contextlib.contextmanager
def as_value_errors(bindings: Sequence[str]) -> Iterator[None]:
    """Raises a ValueError in place of gin's errors about files and syntax.

    Args:
        bindings: Lines in gin's syntax that the `with` block parses, which the
            message shows.
    """
    try:
        yield
    except SyntaxError as error:
        raise ValueError(_syntax_message(error, bindings)) from error
    except tokenize.TokenError as error:
        raise ValueError(_open_message(error, "a binding")) from error
    except (OSError, ImportError) as error:
        raise ValueError(str(error)) from error


def _syntax_message(error: SyntaxError, bindings: Sequence[str]) -> str:
    # Removes Python's own description of a value that gin cannot read.
    what = re.sub(r"malformed node or string.*\n *", "", error.msg)
    if not _is_made_up(error.filename):
        where = f"{what} in line {error.lineno} of {error.filename}"
    else:
        lines = "\n".join(bindings).splitlines()
        # It is not always among them, as that of a setting which was recorded.
        line = "\n".join(lines[(error.lineno or 0) - 1 : error.lineno])
        where = f"{what} Received: {(line or error.text or '').strip()}"
    return (
        f"{where}\n(Text is quoted, a function is written @name, and what was "
        "opened before is closed.)"
    )


def _open_message(error: tokenize.TokenError, where: str) -> str:
    return f"{error.args[0]}, in {where}: something is opened and never closed."


def _is_made_up(file: str | None) -> bool:
    """Returns whether it is what Python calls a text, such as "<tokenize>"."""
    return not file or file.startswith("<")


def check_there(files: Sequence[str]) -> None:
    """Raises a ValueError unless all configs can be found.

    Args:
        files: Names of configs.
    """
    for file in files:
        if not is_there(file):
            raise ValueError(
                "`gin_config` must name a file, in the current folder or in "
                f"{CONFIGS}. Received: gin_config={file!r}."
            )


def read(files: Sequence[str], bindings: Sequence[str]) -> list[Binding]:
    """Reads all statements that set something, in the order of gin.

    Args:
        files: Names of configs. Their `include` lines are followed.
        bindings: Lines in gin's syntax, which come after the files.

    Returns:
        All bindings. If two have the same key, the later one is in force.

    Raises:
        ValueError: A config includes itself, is not text in UTF-8, or opens
            what it does not close.
    """
    return [
        *(binding for file in files for binding in _read_file(file, [])),
        *read_text("\n".join(bindings)),
    ]


def read_text(text: str, follow_includes: bool = True) -> Iterator[Binding]:
    """Reads the bindings in a text, such as that of `gin.config_str()`.

    Nothing is executed: `import` lines have no effect.

    Args:
        text: The text.
        follow_includes: Whether to read the files that `include` lines name.
            Default: True.
    """
    return _read(io.StringIO(text), None, [], follow_includes)


def short_name(name: str) -> str:
    """Returns the shortest name by which gin knows a configurable.

    Args:
        name: A name as written in a config, such as `leaf_audio.frontend.Leaf`.

    Returns:
        The shortest part of it that is not ambiguous, such as `Leaf`. A name
        that gin does not know is returned unchanged.
    """
    try:
        configurable = gin.get_configurable(name)
    except (KeyError, ValueError):
        return name
    parts = name.split(".")
    for count in range(1, len(parts)):
        short = ".".join(parts[-count:])
        try:
            if gin.get_configurable(short) is configurable:
                return short
        except (KeyError, ValueError):
            continue  # It is ambiguous.
    return name


class _Values(config_parser.ParserDelegate):
    """Tells gin's parser how to represent references and macros."""

    def configurable_reference(
        self, scoped_configurable_name: str, evaluate: bool
    ) -> Reference:
        scope, _, name = scoped_configurable_name.rpartition("/")
        return Reference(scope, short_name(name), evaluate)

    def macro(self, macro_name: str) -> Macro:
        return Macro(macro_name)


def _read_file(file: str, outer: Sequence[str]) -> list[Binding]:
    """Reads a config that is included by others, the outermost first."""
    with _open(file, outer) as opened:
        path = os.path.realpath(opened.name)
        if path in outer:
            raise ValueError(_loop_message(file, path, outer))
        try:
            return list(_read(opened, opened.name, [*outer, path]))
        except tokenize.TokenError as error:
            raise ValueError(_open_message(error, opened.name)) from error
        except IndentationError as error:
            # Unlike the errors of gin's parser, it does not know the file.
            if _is_made_up(error.filename):
                error.filename = opened.name
            raise


def _loop_message(file: str, path: str, outer: Sequence[str]) -> str:
    between = outer[outer.index(path) + 1 :]
    by = f" by {', '.join(between)}" if between else ""
    message = (
        "`include` must name another config. Received: "
        f"include {file!r} in {outer[-1]}, so that {path} includes itself{by}."
    )
    shipped = _shipped(file)
    if shipped is not None and str(shipped.resolve()) != path:
        name = f"example/configs/{shipped.relative_to(CONFIGS).as_posix()}"
        message += f" That of the package is {name!r}."
    return message


def _read(
    stream: TextIO,
    file: str | None,
    outer: Sequence[str],
    follow_includes: bool = True,
) -> Iterator[Binding]:
    for statement in config_parser.ConfigParser(stream, _Values()):
        if isinstance(statement, config_parser.IncludeStatement):
            if follow_includes:
                yield from _read_file(statement.filename, outer)
        elif isinstance(statement, config_parser.BindingStatement):
            line = statement.location.line_num
            yield Binding(_key(statement), statement.value, file, line)


def _key(statement: config_parser.BindingStatement) -> Key:
    scope, name = statement.scope, statement.selector
    if statement.arg_name:
        return Key(scope, short_name(name), statement.arg_name)
    return Key("", "", f"{scope}/{name}" if scope else name)


def _open(file: str, outer: Sequence[str]) -> TextIO:
    """Opens a config in the place where gin finds it.

    Raises:
        ValueError: It is not there, or is not text in UTF-8.
    """
    path = _find(file)
    if path is None:
        raise ValueError(
            f"`include` must name a file, in the current folder or in {CONFIGS}"
            f". Received: include {file!r} in "
            f"{outer[-1] if outer else 'a binding'}."
        )
    return _open_utf8(path)


def _find(file: str) -> str | None:
    if os.path.isfile(file):
        return file
    shipped = _shipped(file)
    if shipped is not None:
        return str(shipped)
    try:
        with gin.resource_reader.system_path_reader(file) as opened:
            return opened.name
    # Depending on whether Python finds a package, a folder, or neither.
    except (ImportError, OSError, TypeError, ValueError):
        return None


def _open_utf8(path: str) -> TextIO:
    content = pathlib.Path(path).read_bytes()
    try:
        return _Text(content.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} must be text in UTF-8. Received: byte "
            f"{error.object[error.start]:#04x} in line {line}."
        ) from error


class _Text(io.StringIO):
    """The text of a config, which has its name like a file that is open.

    Args:
        text: The text.
        name: The name of the file.
    """

    def __init__(self, text: str, name: str):
        super().__init__(text, newline=None)
        self.name = name


@contextlib.contextmanager
def same_for_gin() -> Iterator[None]:
    """Has gin find and read files as this module does, in a `with` block.

    gin itself reads them with the encoding of the system.
    """
    reader = (
        lambda file: _open(file, ()),
        lambda file: _find(file) is not None,
    )
    # Those that are registered come after gin's own.
    readers = gin.config._FILE_READERS
    readers.insert(0, reader)
    try:
        yield
    finally:
        readers.remove(reader)


def _shipped(file: str) -> pathlib.Path | None:
    """Returns the config of the package that is meant, or None."""
    parts = pathlib.PurePath(file).parts
    if parts[:2] == ("example", "configs"):
        parts = parts[2:]
    path = CONFIGS.joinpath(*parts)
    is_one = CONFIGS in path.parents and ".." not in parts
    return path if is_one and path.is_file() else None


def _is_shipped(file: str) -> bool:
    return _shipped(file) is not None


def _open_shipped(file: str) -> TextIO:
    return _open_utf8(str(_shipped(file)))


# With this, gin itself finds `leaf.gin` and `example/configs/leaf.gin` from any
# folder, and whether or not there is a clone. Both names also work in the
# `include` lines of a config that lies elsewhere. So do `published/crema_d.gin`
# and `example/configs/published/crema_d.gin`.
gin.config.register_file_reader(_open_shipped, _is_shipped)
