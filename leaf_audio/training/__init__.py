"""Training of classifiers: settings, the loop, the folder of a run, studies.

This is plain Python. `train` takes its settings as a `TrainingConfig`, and the
model and the data as functions. `leaf_audio.app` calls it with what gin configs
say.

The names are imported when they are first used: whoever reads the folder of a
run does not need what training needs.
"""

from typing import TYPE_CHECKING

from leaf_audio.common import on_demand

if TYPE_CHECKING:
    from leaf_audio.training.config import TrainingConfig
    from leaf_audio.training.evaluation import NotWritten, evaluate
    from leaf_audio.training.finite import TrainingStopped
    from leaf_audio.training.observer import Observer
    from leaf_audio.training.schedules import ReduceOnPlateau
    from leaf_audio.training.teachers import NpzTeacher
    from leaf_audio.training.trainer import train
    from leaf_audio.training.workdir import Workdir

__all__ = [
    "NotWritten",
    "NpzTeacher",
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
    "NpzTeacher": "teachers",
    "Observer": "observer",
    "ReduceOnPlateau": "schedules",
    "TrainingConfig": "config",
    "TrainingStopped": "finite",
    "Workdir": "workdir",
    "evaluate": "evaluation",
    "train": "trainer",
}

__getattr__, __dir__ = on_demand.attributes(__name__, _MODULES, __all__)
