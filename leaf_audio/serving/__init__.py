"""Trained models in use: they classify and embed recordings.

`leaf_audio.load` makes a `TrainedClassifier` of a run, of a file or of a name.
`leaf_audio.import_frontend` makes a frontend of the weights of another system.
This is plain Python, without gin.
"""

from leaf_audio.serving.embeddings import embed
from leaf_audio.serving.finished import finished_run
from leaf_audio.serving.importing import import_frontend
from leaf_audio.serving.predictions import Prediction, given_labels, predict
from leaf_audio.serving.run_teacher import RunTeacher
from leaf_audio.serving.streaming import ClassifierStream, Judgement
from leaf_audio.serving.trained import TrainedClassifier, Window, load
from leaf_audio.serving.windows import Windows

__all__ = [
    "ClassifierStream",
    "Judgement",
    "Prediction",
    "RunTeacher",
    "TrainedClassifier",
    "Window",
    "Windows",
    "embed",
    "finished_run",
    "given_labels",
    "import_frontend",
    "load",
    "predict",
]
