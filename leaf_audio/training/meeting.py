"""Waiting for other processes to be started, and saying for whom."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

# In seconds.
TELL_AFTER = 10.0
LIMIT = 300.0
_PAUSE = 0.2
_CONNECT = 2.0


def _tell(line: str) -> None:
    # All processes but the first one print nothing else to stdout.
    print(line, file=sys.stderr, flush=True)


def wait_for_addresses(
    own: str,
    others: Sequence[str],
    tell: Callable[[str], None] = _tell,
    tell_after: float = TELL_AFTER,
    limit: float = LIMIT,
) -> None:
    """Waits until each of several processes listens at its address.

    TensorFlow would wait for an hour without a word, and not even be stopped
    by a signal. All processes call this before they join it. A process listens
    at its address meanwhile; TensorFlow then does so in its place.

    Args:
        own: str, "host:port" of this process.
        others: Sequence of such str, of the other processes.
        tell: Is called with a line if others take long. Defaults to a function
            that prints to stderr.
        tell_after: float, in seconds. After how long. Defaults to 10.
        limit: float, in seconds. How long to wait. Defaults to 300.

    Raises:
        ValueError: If a process has not been started in this time, or the port
            of this one is in use.
    """
    begin = time.monotonic()
    missing = list(others)
    has_told = False
    with _listening(own):
        while missing := [one for one in missing if not _listens(one)]:
            seconds = time.monotonic() - begin
            if seconds > limit:
                raise ValueError(
                    "`TF_CONFIG` must list processes that are started within "
                    f"{limit:g} s of each other. Received: no answer from "
                    f"{', '.join(missing)}."
                )
            if seconds > tell_after and not has_told:
                has_told = True
                tell(
                    f"{own} waits for {', '.join(missing)} to be started, "
                    f"for at most {limit:g} s"
                )
            time.sleep(_PAUSE)


def is_address(text: str) -> bool:
    """Returns whether a text is "host:port"."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


@contextlib.contextmanager
def limited_wait(
    what: str,
    tell: Callable[[str], None] = _tell,
    tell_after: float = TELL_AFTER,
    limit: float = LIMIT,
    end: Callable[[int], None] = os._exit,
) -> Iterator[None]:
    """Ends the process if the `with` block takes too long, and says so before.

    Nothing else can end a block in which a library waits.

    Args:
        what: str. For what the block waits.
        tell: As for `wait_for_addresses`.
        tell_after: float, in seconds. As for `wait_for_addresses`.
        limit: float, in seconds. As for `wait_for_addresses`.
        end: Is called with the exit code. Defaults to ending the process.
    """

    def stop() -> None:
        tell(f"Error: {what} must be there within {limit:g} s, and is not.")
        end(1)

    line = f"waits for {what}, for at most {limit:g} s"
    timers = [
        threading.Timer(tell_after, tell, [line]),
        threading.Timer(limit, stop),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


@contextlib.contextmanager
def _listening(address: str) -> Iterator[None]:
    _, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # Connections of the process before it may still be closing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))
        except OSError as error:
            raise ValueError(
                "`TF_CONFIG` must give this process a port that is free. "
                f"Received: {address} ({error})."
            ) from error
        # Who connects is not talked to: that it can connect is enough.
        listener.listen(128)
        yield


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        place = (host.strip("[]"), int(port))
        socket.create_connection(place, timeout=_CONNECT).close()
    except OSError:
        return False
    return True
