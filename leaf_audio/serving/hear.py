"""The API of the HEAR benchmark, for trained classifiers.

HEAR (Holistic Evaluation of Audio Representations, arXiv:2203.03022) evaluates
any module with these three functions. Give it the name of this module,
`leaf_audio.serving.hear`, and as weights what `leaf_audio.load` takes. HEAR
knows the backends TensorFlow and PyTorch.
"""

import importlib
from typing import Any

import keras
import numpy as np

from leaf_audio.serving.batching import in_batches
from leaf_audio.serving.trained import Path, TrainedClassifier, load

# HEAR asks for at least one embedding every 50 ms.
_HOP_MS = 50
# The window of a model that takes clips of any length, in seconds.
_WINDOW_S = 1.0


def load_model(model_file_path: Path = "speech_commands") -> Any:
    """Loads a model for HEAR.

    Args:
        model_file_path: The folder of a run, a `.keras` file or the name of a
            model that comes with the package. Defaults to "speech_commands".

    Returns:
        A `tf.Module`, or a `torch.nn.Module` on the backend PyTorch, with the
        attributes `classifier`, `sample_rate`, `scene_embedding_size` and
        `timestamp_embedding_size`.

    Raises:
        ValueError: If there is no such classifier, or it has no embeddings.
    """
    classifier = load(model_file_path)
    model = _module()
    model.classifier = classifier
    model.sample_rate = classifier.sample_rate
    silence = np.zeros(classifier.window or _default_window(classifier))
    size = len(classifier.embed(silence, classifier.sample_rate))
    model.scene_embedding_size = model.timestamp_embedding_size = size
    return model


def _module() -> Any:
    """Returns an empty module of the backend."""
    if keras.backend.backend() == "torch":
        return importlib.import_module("torch").nn.Module()
    return importlib.import_module("tensorflow").Module()


def _default_window(classifier: TrainedClassifier) -> int:
    return round(_WINDOW_S * classifier.sample_rate)


def get_scene_embeddings(audio: Any, model: Any) -> Any:
    """Computes an embedding for each sound.

    It is the mean over windows of the length of the model's clips.

    Args:
        audio: Tensor of shape (sounds, samples), at `model.sample_rate`.
        model: What `load_model` has returned.

    Returns:
        A tensor of shape (sounds, `model.scene_embedding_size`).

    Raises:
        ValueError: If `audio` has another shape.
    """
    sounds = _sounds(audio)
    classifier = model.classifier
    found = [classifier.embed(one, model.sample_rate) for one in sounds]
    return keras.ops.convert_to_tensor(np.stack(found))


def get_timestamp_embeddings(audio: Any, model: Any) -> tuple[Any, Any]:
    """Computes embeddings of each sound every 50 ms.

    Each is that of a window round its time, of the length of the model's clips.
    Beyond the ends of a sound there is silence.

    Args:
        audio: Tensor of shape (sounds, samples), at `model.sample_rate`.
        model: What `load_model` has returned.

    Returns:
        The embeddings, a tensor of shape
        (sounds, times, `model.timestamp_embedding_size`), and their times in
        milliseconds, a tensor of shape (sounds, times).

    Raises:
        ValueError: If `audio` has another shape.
    """
    sounds = _sounds(audio)
    classifier = model.classifier
    length = classifier.window or _default_window(classifier)
    duration_ms = 1000 * sounds.shape[1] / classifier.sample_rate
    times = np.arange(_HOP_MS / 2, max(duration_ms, _HOP_MS), _HOP_MS)
    starts = np.round(times * classifier.sample_rate / 1000).astype(int)
    found = [_around(classifier, one, starts, length) for one in sounds]
    times = np.tile(times, (len(sounds), 1)).astype(np.float32)
    return (
        keras.ops.convert_to_tensor(np.stack(found)),
        keras.ops.convert_to_tensor(times),
    )


def _around(
    classifier: TrainedClassifier,
    sound: np.ndarray,
    centres: np.ndarray,
    length: int,
) -> np.ndarray:
    """Returns the embeddings of windows round some samples of a sound."""
    # A window that is centred at sample c begins at c in the padded sound.
    padded = np.pad(sound, (length // 2, length))
    rate = classifier.sample_rate
    clips = (
        (None, classifier.prepare(padded[start : start + length], rate))
        for start in centres
    )
    rows = in_batches(classifier.embeddings, clips)
    return np.stack([row for _, row in rows])


def _sounds(audio: Any) -> np.ndarray:
    sounds = np.asarray(keras.ops.convert_to_numpy(audio), np.float32)
    if sounds.ndim != 2 or not sounds.size:
        raise ValueError(
            "`audio` must be a tensor of shape (sounds, samples). Received: "
            f"audio of shape {sounds.shape}."
        )
    return sounds
