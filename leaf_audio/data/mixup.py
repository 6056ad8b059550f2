"""mixup: training on weighted sums of two clips and of their targets.

Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk
Minimization", https://arxiv.org/abs/1710.09412.
"""

import numpy as np


def mixup(
    audio: np.ndarray,
    targets: np.ndarray,
    alpha: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Mixes each clip of a batch with the clip before it.

    The share of the clip itself is the larger of s and 1 - s, where s is drawn
    from the distribution Beta(`alpha`, `alpha`), for each clip anew. Clips come
    in random order, so that the clip before is a random one.

    Args:
        audio: float32 array of shape (batch, time).
        targets: float32 array of shape (batch, labels), one-hot or multi-hot.
        alpha: float, above 0. The smaller, the less most clips are mixed.
        rng: numpy.random.Generator.

    Returns:
        The mixed audio and targets, of the same shapes.
    """
    share = rng.beta(alpha, alpha, len(audio)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    return _mixed(audio, share), _mixed(targets, share)


def one_hot(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Turns labels into float32 targets.

    Args:
        labels: Integer array of shape (batch,); or multi-hot targets of shape
            (batch, num_labels), which are only converted.
        num_labels: int. The number of labels.

    Returns:
        A float32 array of shape (batch, num_labels).
    """
    if labels.ndim == 2:
        return labels.astype(np.float32)
    return np.eye(num_labels, dtype=np.float32)[labels]


def _mixed(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return share * values + (1 - share) * np.roll(values, 1, axis=0)
