"""What the readers of files of the user have in common."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from leaf_audio.common.checks import check_unless_none
from leaf_audio.common.listing import listed
from leaf_audio.data import decoding

# In Hz.
DEFAULT_SAMPLE_RATE = 16000
# How many of them an error message names.
_MAX_NAMED = 5


def chosen_rate(reader: str, own: int | None, asked: int | None) -> int:
    """Returns the sample rate that a reader brings all recordings to.

    Args:
        reader: The name of the reader.
        own: Its argument `sample_rate`.
        asked: Its argument `fallback_sample_rate`, which `load` has been asked
            for.

    Raises:
        ValueError: One of them is no sample rate, or they do not agree.
    """
    check_unless_none(
        decoding.check_sample_rate,
        **{
            f"{reader}.sample_rate": own,
            f"{reader}.fallback_sample_rate": asked,
        },
    )
    if own is not None and asked is not None:
        # Before all recordings are prepared at one of them.
        check_rates_agree(reader, own, asked)
    # 16000 and 16000.0 are one rate, and one preparation.
    return int(own or asked or DEFAULT_SAMPLE_RATE)


def check_rates_agree(reader: str, own: int | None, asked: int) -> None:
    """Raises a ValueError unless a reader gives the rate that `load` asks for.

    Args:
        reader: The name of the reader.
        own: The sample rate that it gives, in Hz.
        asked: The argument `sample_rate` of `load`.
    """
    if own != asked:
        raise ValueError(
            f"`{reader}.sample_rate` must be None or agree with "
            f"`data.load.sample_rate`. Received: {reader}.sample_rate={own}, "
            f"data.load.sample_rate={asked}."
        )


def check_on_error(reader: str, value: Any) -> None:
    """Raises a ValueError unless the value says what to do.

    Args:
        reader: The name of the reader, such as "audio_folder".
        value: Its argument `on_error`.
    """
    if value not in ("raise", "skip"):
        raise ValueError(
            f"`{reader}.on_error` must be 'raise' or 'skip'. "
            f"Received: on_error={value!r}."
        )


def check_all_used(
    reader: str, skipped: Mapping[str, str], on_error: str
) -> None:
    """Raises a ValueError if something was skipped that must not be.

    Args:
        reader: The name of the reader.
        skipped: The reason for each recording that was skipped.
        on_error: "raise" or "skip".
    """
    if not skipped or on_error == "skip":
        return
    named = [f"file={file!r}: {why}" for file, why in skipped.items()]
    raise ValueError(
        f"`{reader}.path` must hold usable audio files. "
        f"Received: {listed(named, _MAX_NAMED, separator='; ')}. "
        f"{reader}.on_error = 'skip' leaves such files out. All other files "
        "are prepared already."
    )


def check_folder(reader: str, path: Any, what: str) -> pathlib.Path:
    """Returns the folder of a reader, or raises a ValueError.

    Args:
        reader: The name of the reader.
        path: Its argument `path`.
        what: What the folder must be, for the message.
    """
    is_path = isinstance(path, (str, os.PathLike)) and str(path)
    folder = pathlib.Path(path if is_path else "").expanduser()
    if not is_path or not folder.is_dir():
        why = ""
        if is_path:
            why = ", a file" if folder.exists() else ", which is not there"
        raise ValueError(
            f"`{reader}.path` must be {what}, set by "
            f"--gin_bindings=\"{reader}.path = '/path/to/recordings'\" or "
            f"in a config. Received: path={path!r}{why}."
        )
    return folder.resolve()


def file_state(path: pathlib.Path) -> list[int]:
    """Returns what reveals that a file has changed: its size and times.

    Args:
        path: The file.
    """
    try:
        stat = path.stat()
    except OSError:
        # The file cannot be opened. Reading it raises an error with a reason.
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
