"""Uses the library audiomentations in a reproducible pipeline."""

import random
import threading
from collections.abc import Callable

import numpy as np

from leaf_audio.common.checks import check_positive_int

# audiomentations draws from the global generators of Python and NumPy, and
# keeps what it has drawn in its transforms. So clips take turns.
_GLOBAL_GENERATORS = threading.Lock()


class Audiomentation:
    """Calls a transform of audiomentations as an augmentation.

    In training, the global generators of Python and NumPy are seeded from `rng`
    for the time of the call, and put back after it. In evaluation, a clip is
    not changed. A program that draws from the global generators in another
    thread at the same time would make these draws irreproducible.

    Args:
        transform: A waveform transform of audiomentations, or a `Compose`,
            `OneOf` or `SomeOf` of several. Its `p` is the share of the clips
            that it changes; most transforms have 0.5 by default.
        sample_rate: int, in Hz. The sample rate of the clips. By gin, the
            default is `data.load.sample_rate`.

    Raises:
        ValueError: `transform` is not such a transform, or `sample_rate` not
            a positive integer.

    Example:

    ```python
    import audiomentations
    from leaf_audio import data

    pitch = data.Audiomentation(audiomentations.PitchShift(p=0.3), 16000)
    batches = data.prepare(audio_data, [pitch, data.align])
    ```
    """

    def __init__(self, transform: Callable, sample_rate: int):
        if isinstance(transform, type) or not callable(transform):
            raise ValueError(
                "`Audiomentation.transform` must be a transform of "
                "audiomentations, such as audiomentations.PitchShift(), in gin "
                f"@PitchShift(). Received: transform={transform!r}."
            )
        check_positive_int("sample_rate", sample_rate)
        self.transform = transform
        self.sample_rate = sample_rate
        self.__name__ = type(transform).__name__

    def __call__(
        self, samples: np.ndarray, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Augments a clip.

        Args:
            samples: float32 array of shape (time,).
            rng: numpy.random.Generator in training, None in evaluation.
                Default: None.

        Returns:
            A float32 array, whose length is what the transform makes of it.
        """
        if rng is None:
            return samples
        seed = int(rng.integers(2**32))
        with _GLOBAL_GENERATORS:
            states = random.getstate(), np.random.get_state()
            random.seed(seed)
            np.random.seed(seed)
            try:
                return self.transform(
                    samples=samples, sample_rate=self.sample_rate
                )
            finally:
                random.setstate(states[0])
                np.random.set_state(states[1])
