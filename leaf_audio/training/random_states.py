"""The states of PyTorch's generators, from which its dropout draws.

On other backends, all generators are variables of the model, and there is
nothing to read or restore here.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np


def read() -> dict[str, np.ndarray]:
    """Returns the states of the generators, by name."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"torch_cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        states["torch_cuda"] = torch.cuda.get_rng_state().numpy()
    return states


def restore(states: Mapping[str, np.ndarray]) -> None:
    """Gives the generators states that `read` has returned.

    Args:
        states: The states, possibly among other arrays. One that is missing,
            as in the state of an earlier version, is left as it is.
    """
    if keras.backend.backend() != "torch":
        return
    import torch

    if "torch_cpu" in states:
        torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
    if "torch_cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Leaves the states as they were, whatever the `with` block draws.

    A first evaluation draws where it builds what is not built yet.
    """
    states = read()
    yield
    restore(states)


class KeepRandomStates(keras.callbacks.Callback):
    """Begins the first step of `fit` with the states from before its call.

    `fit` draws before its first step. A run that goes on within an epoch calls
    it once more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._states = read()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        restore(self._states)
        self._states = {}

    def on_train_end(self, logs: Any = None) -> None:
        self._states = read()
