"""The states of random generators that no Keras variable holds.

On PyTorch, `Dropout` without a seed draws from the generators of PyTorch.
"""

from collections.abc import Mapping
from typing import Any

import keras

_NAME = "torch_generator"


def read() -> dict[str, Any]:
    """Returns the present states, by name. There are none but on PyTorch."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {_NAME: torch.get_rng_state().numpy()}
    for i in range(torch.cuda.device_count()):
        states[f"{_NAME}_cuda_{i}"] = torch.cuda.get_rng_state(i).numpy()
    return states


def restore(states: Mapping[str, Any]) -> None:
    """Restores states.

    Args:
        states: What `read` returned; other names are left alone. Where a state
            is missing, the generator stays as it is.
    """
    if keras.backend.backend() != "torch":
        return
    import torch

    if _NAME in states:
        torch.set_rng_state(torch.from_numpy(states[_NAME]))
    for i in range(torch.cuda.device_count()):
        name = f"{_NAME}_cuda_{i}"
        if name in states:
            torch.cuda.set_rng_state(torch.from_numpy(states[name]), i)
