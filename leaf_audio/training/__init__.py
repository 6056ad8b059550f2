"""Training of classifiers: settings, the loop, the folder of a run, studies.

This is plain Python. `train` takes its settings as a `TrainingConfig`, and the
model and the data as functions. `leaf_audio.app` calls it with what gin configs
say.

The names are imported when they are first used: whoever reads the folder of a
run does not need what training needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leaf_audio.training.config import TrainingConfig
    from leaf_audio.training.evaluation import NotWritten, evaluate
    from leaf_audio.training.finite import TrainingStopped
    from leaf_audio.training.observer import Observer
    from leaf_audio.training.schedules import ReduceOnPlateau
    from leaf_audio.training.trainer import train
    from leaf_audio.training.workdir import Workdir

__all__ = [
    "NotWritten",
    "Observer",
    "ReduceOnPlateau",
    "TrainingConfig",
    "TrainingStopped",
    "Workdir",
    "evaluate",
    "train",
]

_MODULES = {
    "NotWritten": "evaluation",
    "Observer": "observer",
    "ReduceOnPlateau": "schedules",
    "TrainingConfig": "config",
    "TrainingStopped": "finite",
    "Workdir": "workdir",
    "evaluate": "evaluation",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
