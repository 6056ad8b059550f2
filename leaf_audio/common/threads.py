"""How many threads NumPy and scikit-learn compute with."""

import contextlib
import functools

import threadpoolctl


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Has many small problems be solved by one thread each, in a `with` block.

    The plan of a LEAF and a logistic regression solve hundreds of small systems
    of equations. To wait for other threads takes several times as long as to
    solve them, most of all on a machine that has other work to do.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    """Returns what sets the threads; to look for the libraries takes long."""
    return threadpoolctl.ThreadpoolController()
