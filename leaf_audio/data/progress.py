"""Shows a progress bar while data is prepared."""

import contextlib
import sys
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar, cast

import rich.console
import rich.progress

_T = TypeVar("_T")


@contextlib.contextmanager
def progress(
    items: Iterable[_T],
    total: int,
    description: str,
    done: int = 0,
    transient: bool = False,
) -> Iterator[Iterable[_T]]:
    """Shows a progress bar on stderr while items are iterated over.

    Use it in a `with` statement, so that the bar also ends after an error.

    Args:
        items: Iterable. The items to process.
        total: int. The number of all items.
        description: str. The text in front of the bar.
        done: int. How many of them were processed before, and are not among
            `items`. Default: 0.
        transient: bool. Whether the bar is removed at the end, and not shown
            at all if stderr is not a terminal. Default: False.

    Yields:
        An iterable over the same items, which advances the bar.
    """
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(
        console=console,
        transient=transient,
        disable=transient and not console.is_terminal,
        # On a terminal, lines are printed above the bar. rich would do so, on
        # stderr, even where stdout is a file.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        tracked = bar.track(
            items, total=total, completed=done, description=description
        )
        # `tracked` owns a thread. If it were left to the garbage collector,
        # that thread would be joined at an arbitrary point of the program.
        with contextlib.closing(cast(Generator[_T, None, None], tracked)):
            yield tracked
