"""What a process writes where nobody reads any more."""

import os


def discard(descriptor: int) -> None:
    """Has what is written to a file descriptor go nowhere.

    Use it when the program that reads it, such as `head`, or the terminal is
    gone. What is left in a buffer would be an error at the end of the program.

    Args:
        descriptor: int, such as 1 for stdout. It may be closed.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    if null == descriptor:
        # It was closed. Programs that are started need it too.
        os.set_inheritable(descriptor, True)
        return
    os.dup2(null, descriptor)
    os.close(null)
