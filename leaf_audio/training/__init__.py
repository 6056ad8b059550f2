"""Training of classifiers: settings, the loop, the folder of a run, studies.

This is plain Python. `train` takes its settings as a `TrainingConfig`, and the
model and the data as functions. `leaf_audio.app` calls it with what gin configs
say.
"""

from leaf_audio.training.config import TrainingConfig
from leaf_audio.training.evaluation import evaluate
from leaf_audio.training.finite import TrainingStopped
from leaf_audio.training.observer import Observer
from leaf_audio.training.schedules import ReduceOnPlateau
from leaf_audio.training.trainer import train
from leaf_audio.training.workdir import Workdir

__all__ = [
    "Observer",
    "ReduceOnPlateau",
    "TrainingConfig",
    "TrainingStopped",
    "Workdir",
    "evaluate",
    "train",
]
