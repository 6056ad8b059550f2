"""What to do with recordings that cannot be used."""

from collections.abc import Mapping
from typing import Any

from leaf_audio.common.listing import listed

# How many of them an error message names.
_MAX_NAMED = 5


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
        f"{reader}.on_error = 'skip' leaves such files out. The others are "
        "prepared already."
    )
