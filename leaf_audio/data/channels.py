"""Mixes the channels of a recording to one."""

import numpy as np

# The channels count as cancelling if their mean has less than this fraction of
# the power that the mean of independent channels would have. For two channels
# of equal power, the limit corresponds to a correlation of -0.9.
_MIN_POWER = 0.1


class ChannelMixer:
    """Averages the channels of one recording, block by block.

    It also measures whether the channels cancel each other. They do so if one
    channel of a stereo recording has the opposite sign of the other, as a
    swapped pair of wires or a difference signal causes. The mean is then close
    to silence, although the recording is not.
    """

    def __init__(self) -> None:
        self._n_samples = 0
        self._sums: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0
        self._mean_squares = 0.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Returns the mean of the channels of the next block.

        Args:
            block: float32 array of shape (time, channels).

        Returns:
            A float32 array of shape (time,).
        """
        mono = block.mean(axis=1)
        if block.shape[1] > 1:
            self._n_samples += len(block)
            self._sums = self._sums + block.sum(axis=0, dtype=np.float64)
            self._squares = self._squares + np.sum(
                np.square(block, dtype=np.float64), axis=0
            )
            self._mean_squares += float(
                np.sum(np.square(mono, dtype=np.float64))
            )
        return mono

    @property
    def cancels(self) -> bool:
        """Whether the channels of all blocks so far cancel each other."""
        if not self._n_samples:
            return False
        # Without the constant part, which adds up even if the rest cancels.
        means = np.asarray(self._sums) / self._n_samples
        powers = np.asarray(self._squares) / self._n_samples - means**2
        power = self._mean_squares / self._n_samples - means.mean() ** 2
        # Rounding errors of silence are no signal.
        if not powers.mean() > 1e-12:
            return False
        return bool(power < _MIN_POWER * powers.mean() / len(powers))
