"""Random generators that depend on the seed of a run and on a key alone."""

import numpy as np


def generator(seed: int, *key: int) -> np.random.Generator:
    """Returns the generator of a key.

    Keys of different purposes have different lengths, so that no two draw the
    same: one and three numbers are for mixup, two for an example, four for a
    view in an evaluation, five for a pass of `balance` and six for `tasks`.

    Args:
        seed: int. The seed of the run.
        *key: int, from 0 to less than 2**32.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
