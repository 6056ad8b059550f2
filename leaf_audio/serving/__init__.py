"""Trained models in use: they classify recordings.

This is plain Python. `leaf_audio.app` calls it with what the gin config of a
run says.
"""

from leaf_audio.serving.predict import (
    TrainedClassifier,
    finished_run,
    given_labels,
    predict,
)

__all__ = ["TrainedClassifier", "finished_run", "given_labels", "predict"]
