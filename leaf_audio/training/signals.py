"""Handles the signals that ask a program to end."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def handled(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls a function when the program is asked to end in the `with` block.

    The signals are SIGTERM, SIGHUP and SIGINT. A program that ignores SIGHUP or
    SIGINT goes on doing so, such as one that was started in the background, or
    by `nohup`. Nothing is handled in a thread other than the main one.

    Args:
        handle: Called with the number of the signal and the present frame.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _handlers()
    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Writes a line to stderr from a handler, if that is possible.

    The signal may have come while something else is written there. Whoever
    reads stderr, such as `tee`, may have ended by the same signal.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        print(text, file=sys.stderr)


def _handlers() -> dict[int, Any]:
    """Returns the signals that ask a run to end, with their handlers so far."""
    found = {}
    for name, usual in (
        ("SIGTERM", None),
        ("SIGINT", signal.default_int_handler),
        # Windows has none.
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)
        handler = None if number is None else signal.getsignal(number)
        # One that Python has not set could not be set again.
        if handler is not None and usual in (None, handler):
            found[number] = handler
    return found
