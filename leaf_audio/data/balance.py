"""Balanced sampling: rare labels are trained on as often as frequent ones.

Clips are drawn with weights instead of each once in a pass. No loss has to know
of it, so it goes with any loss, with mixup and with augmentations, which make
the repetitions of a clip differ.
"""

import numpy as np

from leaf_audio.data.passes import Passes
from leaf_audio.data.random_keys import generator


class BalancedOrder(Passes):
    """The clips of each pass, such that labels come equally often.

    A pass has as many positions as there are clips. The weight of a clip is
    1 / n, where n is the number of clips with its label. Where clips have
    several labels, n is that of the rarest label of the clip. Clips without any
    label count as if this were a label.

    The clips of a pass are drawn by systematic sampling: a clip whose expected
    number of positions is 2.3 gets 2 or 3. With one label for each clip, the
    numbers of two labels in a pass differ by 1 at most. The clips are then
    shuffled.

    Args:
        labels: As `Clips.labels`: integers of shape (clips,), or bool of shape
            (clips, labels).
        seed: int. With the number of the pass, it determines what is drawn.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        self._groups, self._weights = _groups(labels)
        self._seed = seed
        super().__init__(len(self._weights))

    def draw(self, number: int) -> np.ndarray:
        """Returns the indices of the clips of a pass; see `Passes`."""
        count = len(self._weights)
        rng = generator(self._seed, number, 0, 0, 0, 0)
        # At random within each group, since neighbours are drawn together.
        order = np.lexsort((rng.random(count), self._groups))
        ends = np.cumsum(self._weights[order])
        marks = (np.arange(count) + rng.random()) * (ends[-1] / count)
        drawn = np.searchsorted(ends, marks, side="right")
        # Rounding may put the last mark beyond the last end.
        return rng.permutation(order[np.minimum(drawn, count - 1)])


def _groups(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the group and the weight of each clip, of shape (clips,)."""
    if labels.ndim == 1:
        groups = labels
        counts = np.bincount(labels)
    else:
        # A last column for clips without any label.
        columns = np.column_stack([labels, ~labels.any(axis=1)])
        counts = columns.sum(axis=0)
        groups = np.where(columns, counts, len(labels) + 1).argmin(axis=1)
    return groups, 1 / counts[groups]
