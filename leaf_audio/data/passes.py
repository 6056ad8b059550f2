"""The order of training clips, drawn anew for each pass over them."""

import functools
from typing import Any

import numpy as np


class Passes:
    """Gives the index of the clip at each position of endless passes.

    A subclass draws the clips of a pass. The last passes are remembered, since
    several threads ask for positions, in the order of a pass or nearly so.

    Args:
        length: int. The number of positions of a pass, on average where a
            subclass writes `begin`.
    """

    def __init__(self, length: int):
        self._length = length
        self._pass = functools.lru_cache(maxsize=3)(self.draw)

    def __call__(self, position: int) -> int:
        """Returns the index of the clip at a position.

        Args:
            position: int. Counted from the start of training, over all passes.
        """
        number = position // self._length
        while self.begin(number) > position:
            number -= 1
        while self.begin(number + 1) <= position:
            number += 1
        return int(self._pass(number)[position - self.begin(number)])

    def begin(self, number: int) -> int:
        """Returns the position at which a pass begins.

        Args:
            number: int. The number of the pass.
        """
        return number * self._length

    def draw(self, number: int) -> np.ndarray:
        """Returns the indices of the clips of a pass, of shape (length,).

        Args:
            number: int. The number of the pass.
        """
        raise NotImplementedError

    # Another process remembers passes of its own.
    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_pass"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._pass = functools.lru_cache(maxsize=3)(self.draw)
