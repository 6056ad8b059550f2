"""Keeps log lines of libraries from the screen of a user."""

import contextlib
import logging
from collections.abc import Iterator

# It makes its logger when it is imported, of a class of its own.
import absl.logging  # noqa: F401


@contextlib.contextmanager
def only_from(level: int, *names: str) -> Iterator[None]:
    """Lets loggers of Python log from a level on, in the `with` block.

    Args:
        level: int, such as `logging.WARNING`.
        *names: The names of the loggers, such as "absl".
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= level

    # A level holds for loggers below one as well. A filter does not, but stays
    # where Keras sets the level of absl anew while it exports.
    for one in loggers:
        one.setLevel(max(level, one.level))
        one.addFilter(is_shown)
    try:
        yield
    finally:
        for one, before in zip(loggers, levels, strict=True):
            one.setLevel(before)
            one.removeFilter(is_shown)
