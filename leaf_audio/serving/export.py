"""Writes a trained classifier for other runtimes."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from leaf_audio.common import files
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_path,
    check_positive_int,
    check_unless_none,
)
from leaf_audio.common.portable import portable_operations
from leaf_audio.frontend import Leaf
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.serving import onnx_files, preparation
from leaf_audio.serving.trained import Path, TrainedClassifier

if TYPE_CHECKING:
    import tensorflow as tf

FORMATS = ("litert", "onnx", "savedmodel", "keras")
QUANTIZATIONS = ("float16", "int8")
_SUFFIXES = {
    "litert": ".tflite",
    "onnx": ".onnx",
    "savedmodel": "",
    "keras": ".keras",
}


def export(
    classifier: TrainedClassifier,
    path: Path,
    format: str,
    quantize: str | None = None,
    window: int | None = None,
    keep_plan: bool = False,
) -> list[pathlib.Path]:
    """Writes a classifier in the form that another runtime reads.

    - "litert": a `.tflite` file for LiteRT (TensorFlow Lite), from one clip of
      shape (1, window) to probabilities (1, labels). It has LiteRT's own
      operations only.
    - "onnx": an `.onnx` file for ONNX Runtime and others, from clips of shape
      (batch, time) to probabilities (batch, labels), as of a SavedModel. It
      has operations of ONNX only.
    - "savedmodel": a folder for TensorFlow and TensorFlow Serving, with the
      endpoint `serve` from clips of shape (batch, time) to probabilities
      (batch, labels). The batch may have any size, and the clips any length
      that the model takes.
    - "keras": one `.keras` file; see `TrainedClassifier.save`.

    Clips must be prepared as `TrainedClassifier.prepare` does it. A JSON file
    says how: with the labels, the sample rate, the length of a clip, the
    thresholds and the preparation. It lies beside a `.tflite` file, and in the
    folder `assets.extra` of a SavedModel. An `.onnx` file has it as the text
    `leaf_audio` of its metadata.

    A LEAF that follows a plan is exported in its exact form, which makes a
    small file. Its probabilities differ by the plan's error. With `keep_plan`
    the file is about three times as large, and LEAF takes about a tenth of the
    time.

    Args:
        classifier: The classifier.
        path: What to write: a file that ends in `.tflite`, `.onnx` or
            `.keras`, or a folder. A file is replaced. A folder must not exist,
            or be a SavedModel, which is replaced.
        format: "litert", "onnx", "savedmodel" or "keras".
        quantize: "float16" or "int8" stores the weights with fewer bits; only
            for "litert". Defaults to None.
        window: int, in samples. The length of a clip, only for "litert". Must
            be given if the model takes clips of any length, and is
            `classifier.window` otherwise. Defaults to None.
        keep_plan: bool. Whether LEAF is computed by its plan; not for "keras",
            which always keeps it. Defaults to False.

    Returns:
        The files and folders that were written.

    Raises:
        ValueError: If an argument is out of range, the backend of Keras is not
            TensorFlow, or the model cannot be converted.
        ImportError: If `format` is "onnx" and tf2onnx is not installed.
    """
    path = pathlib.Path(check_path("path", path))
    check_choice("format", format, FORMATS)
    check_unless_none(check_positive_int, window=window)
    check_bool("keep_plan", keep_plan)
    if quantize is not None:
        check_choice("quantize", quantize, QUANTIZATIONS)
    if format != "litert" and (quantize is not None or window is not None):
        raise ValueError(
            "`format` must be litert with `quantize` or `window`. Received: "
            f"format={format}, quantize={quantize}, window={window}."
        )
    suffix = _SUFFIXES[format]
    if path.suffix != suffix:
        raise ValueError(
            f"`path` must end in {suffix or 'no suffix'} with format={format}. "
            f"Received: path={str(path)!r}."
        )
    if format in ("litert", "onnx") and not path.parent.is_dir():
        raise ValueError(
            "`path` must be a file in a folder that exists. "
            f"Received: path={str(path)!r}."
        )
    if keep_plan:
        _check_plans(classifier, format)
    if format == "keras":
        classifier.save(path)
        return [path]
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"KERAS_BACKEND must be tensorflow for format={format}; the model "
            "itself can be loaded on every backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if format == "savedmodel":
        return [_write_saved_model(classifier, path, keep_plan)]
    if format == "onnx":
        return [_write_onnx(classifier, path, keep_plan)]
    return _write_litert(classifier, path, quantize, window, keep_plan)


def _check_plans(classifier: TrainedClassifier, format: str) -> None:
    """Renews plans that do not hold, and checks that there are some."""
    planned = [
        one
        for one in find_layers(classifier.model, Leaf)
        if one.plan is not None
    ]
    if format == "keras" or not planned:
        raise ValueError(
            "`keep_plan` must be False with format=keras, and without a Leaf "
            f"that follows a plan. Received: keep_plan=True, format={format}, "
            f"{len(planned)} frontends with a plan."
        )
    for one in planned:
        one.replan(if_needed=True)


def _describe(
    classifier: TrainedClassifier, window: int | None
) -> dict[str, Any]:
    """Returns what a user of an exported model must know, as plain data."""
    return {
        "labels": list(classifier.labels),
        "sample_rate": classifier.sample_rate,
        "window": window,
        "thresholds": classifier.thresholds and list(classifier.thresholds),
        "preparation": preparation.to_config(classifier.transform_fns),
        "input": "float32 samples, prepared",
        "output": "probabilities of the labels",
    }


def _write_saved_model(
    classifier: TrainedClassifier, path: pathlib.Path, keep_plan: bool
) -> pathlib.Path:
    is_replaced = path.exists()
    if is_replaced and not (path / "saved_model.pb").is_file():
        raise ValueError(
            "`path` must be a new folder, or a SavedModel to replace. "
            f"Received: path={str(path)!r}."
        )
    about = _describe(classifier, classifier.window)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=".partial-"
    ) as partial:
        folder = pathlib.Path(partial) / "model"
        _save(classifier, folder, (None, classifier.window), keep_plan)
        extra = folder / "assets.extra"
        extra.mkdir()
        files.write_json(extra / "leaf_audio.json", about)
        if is_replaced:
            shutil.rmtree(path)
        os.replace(folder, path)
    return path


def _write_onnx(
    classifier: TrainedClassifier, path: pathlib.Path, keep_plan: bool
) -> pathlib.Path:
    described = _describe(classifier, classifier.window)
    shape = (None, classifier.window)
    with portable_operations(keep_plan):
        content = onnx_files.convert(_serve(classifier), shape, described)
    with files.replacing(path) as partial:
        partial.write_bytes(content)
    return path


def _write_litert(
    classifier: TrainedClassifier,
    path: pathlib.Path,
    quantize: str | None,
    window: int | None,
    keep_plan: bool,
) -> list[pathlib.Path]:
    if window is None:
        window = classifier.window
    if window is None or classifier.window not in (None, window):
        raise ValueError(
            "`window` must be the length of the model's clips, "
            f"{classifier.window}; it must be given where that is None, for "
            f"any length. Received: window={window}."
        )
    about = path.with_suffix(".json")
    described = _describe(classifier, window)
    content = _convert(classifier, window, quantize, keep_plan)
    with files.replacing(path) as partial:
        partial.write_bytes(content)
    files.write_json(about, described)
    return [path, about]


def _convert(
    classifier: TrainedClassifier,
    window: int,
    quantize: str | None,
    keep_plan: bool,
) -> bytes:
    """Returns the content of a `.tflite` file."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        # By way of a SavedModel, the converter sees weights as constants.
        _save(classifier, pathlib.Path(folder), (1, window), keep_plan)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
            _check_runs(content)
            return content
        # The converter and the runtime raise what their C++ parts raise.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                "`classifier` must be a model that LiteRT can compute. "
                f"Received: {type(classifier.model).__name__} with "
                f"{type(classifier.frontend).__name__}: {reason[0]}"
            ) from error


def _check_runs(content: bytes) -> None:
    """Raises an error if the runtime does not take a file."""
    import tensorflow as tf

    with warnings.catch_warnings():
        # TensorFlow's copy of the runtime is deprecated, and does here.
        warnings.simplefilter("ignore", UserWarning)
        tf.lite.Interpreter(model_content=content).allocate_tensors()


def _save(
    classifier: TrainedClassifier,
    folder: pathlib.Path,
    shape: tuple[int | None, int | None],
    keep_plan: bool,
) -> None:
    """Writes a SavedModel from clips of a shape to probabilities."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(classifier.model)
    signature = [tf.TensorSpec(shape, np.float32, name="clips")]
    archive.add_endpoint("serve", _serve(classifier), signature)
    # The endpoint is traced when it is written.
    with portable_operations(keep_plan):
        archive.write_out(str(folder), verbose=False)


def _serve(classifier: TrainedClassifier) -> Callable:
    """Returns the function from clips to probabilities."""
    has_several = classifier.thresholds is not None
    normalize = keras.ops.sigmoid if has_several else keras.ops.softmax

    def serve(clips: tf.Tensor) -> tf.Tensor:
        return normalize(classifier.model(clips, training=False))

    return serve
