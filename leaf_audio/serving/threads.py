"""How many threads NumPy and scikit-learn compute with."""

import threadpoolctl


def one_thread() -> threadpoolctl.threadpool_limits:
    """Has many small problems be solved by one thread each, in a `with` block.

    The plan of a LEAF and a logistic regression solve hundreds of small systems
    of equations. To wait for other threads takes several times as long as to
    solve them, most of all on a machine that has other work to do.
    """
    return threadpoolctl.threadpool_limits(1)
