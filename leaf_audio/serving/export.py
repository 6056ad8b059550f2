"""Writes a trained classifier for other runtimes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from leaf_audio import data
from leaf_audio.common import files
from leaf_audio.common.export_formats import beside, check_request, inside
from leaf_audio.common.portable import portable_operations
from leaf_audio.common.reasons import first_line
from leaf_audio.data.quiet import only_from
from leaf_audio.frontend import Leaf
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.serving import frontend_weights, onnx_files
from leaf_audio.serving.portable_preparation import Step, cut, prepare, split
from leaf_audio.serving.trained import Path, TrainedClassifier, as_classifier
from leaf_audio.serving.window_sizes import default_hop

if TYPE_CHECKING:
    import tensorflow as tf


def export(
    classifier: TrainedClassifier | Path,
    path: Path,
    format: str,
    quantize: str | None = None,
    window: int | None = None,
    keep_plan: bool = False,
) -> list[pathlib.Path]:
    """Writes a classifier in the form that another runtime reads.

    - "litert": a `.tflite` file for LiteRT (TensorFlow Lite), from the samples
      of one window, of shape (1, window), to probabilities (1, labels). It has
      LiteRT's own operations only.
    - "onnx": an `.onnx` file for ONNX Runtime and others, from samples of shape
      (batch, time) to probabilities (batch, labels), as of a SavedModel. It
      has operations of ONNX only.
    - "savedmodel": a folder for TensorFlow and TensorFlow Serving, with the
      endpoint `serve` from samples of shape (batch, time) to probabilities
      (batch, labels). Batches of any size and recordings of any length are
      judged as `TrainedClassifier.predict` does it.
    - "keras": one `.keras` file; see `TrainedClassifier.save`.

    The input are samples as they were recorded, from -1 to 1, at the sample
    rate of the classifier. The model prepares them itself, as
    `TrainedClassifier.prepare` does. Two things are left to the caller, and the
    list `preparation` of a JSON file names them: padding and cropping to the
    window of LiteRT, and functions that are not of `leaf_audio.data`, each with
    all functions that come before. That file also has the labels, the sample
    rate, the window, the distance of windows and the thresholds. It lies beside
    a `.tflite` file, and in the folder `assets.extra` of a SavedModel. An
    `.onnx` file has it as the text `leaf_audio` of its metadata.

    A LEAF that follows a plan is exported in its exact form, which makes a
    small file. Its probabilities differ by the plan's error. With `keep_plan`
    the file is up to twice as large, with int8 weights three times, and LEAF
    takes about a tenth of the time.

    Args:
        classifier: A `TrainedClassifier`, or what `leaf_audio.load` takes.
        path: What to write: a file that ends in `.tflite`, `.onnx` or
            `.keras`, or a folder. The folder that holds it must exist. What
            this function has written before is replaced, and a `.keras` file
            that `TrainedClassifier.save` has written. Nothing else is.
        format: "litert", "onnx", "savedmodel" or "keras".
        quantize: "float16" or "int8" stores the weights with fewer bits; only
            for "litert". "int8" leaves those of the frontend as they are.
            Defaults to None.
        window: int, in samples. The length of the input, only for "litert".
            Must be given if the model takes clips of any length, and is
            `classifier.window` otherwise. Defaults to None.
        keep_plan: bool. Whether LEAF is computed by its plan; not for "keras",
            which always keeps it. Defaults to False.

    Returns:
        The files and folders that were written.

    Raises:
        ValueError: If there is no such classifier, an argument is out of range,
            the backend of Keras is not TensorFlow, or the model cannot be
            converted, such as one in mixed precision to "litert".
        OSError: If the files cannot be written.
        ImportError: If `format` is "onnx" and tf2onnx is not installed.

    Warns:
        data.DataWarning: If the caller must do more than padding and cropping.
    """
    path = check_request(path, format, quantize, window, keep_plan)
    classifier = as_classifier(classifier)
    if keep_plan:
        _check_plans(classifier)
    if format == "keras":
        classifier.save(path)
        return [path]
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"KERAS_BACKEND must be tensorflow for format={format}; the model "
            "itself can be loaded on every backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}."
        )
    if isinstance(classifier.model, Contrastive):
        raise ValueError(
            f"`classifier` must have labels for format={format}. Received: "
            "a Contrastive, which was trained without labels."
        )
    _check_precision(classifier, format)
    # They log the steps of a conversion.
    with (
        _naming(path),
        only_from(logging.WARNING, "absl", "tensorflow", "tf2onnx"),
    ):
        if format == "litert":
            window = _check_window(classifier, window)
            endpoint = _Endpoint.of_one_window(classifier, window)
            written = _write_litert(endpoint, path, quantize, keep_plan)
        else:
            endpoint = _Endpoint.of_any_size(classifier)
            write = _write_onnx if format == "onnx" else _write_saved_model
            written = write(endpoint, path, keep_plan)
    endpoint.warn()
    return written


def _check_precision(classifier: TrainedClassifier, format: str) -> None:
    """Checks that a format has the precision that a model computes in."""
    refused = {"litert": ("float16", "bfloat16"), "onnx": ("bfloat16",)}
    dtypes = {
        layer.compute_dtype
        for layer in find_layers(classifier.model, keras.layers.Layer)
    }
    found = dtypes.intersection(refused.get(format, ()))
    if found:
        raise ValueError(
            f"`classifier` must not compute in 16 bits for format={format}. "
            f"Received: a model with layers in {', '.join(sorted(found))}. "
            "Train it with train.dtype_policy = 'float32', or export a "
            "SavedModel."
        )


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Turns TensorFlow's errors, such as for a full disk, into an OSError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(
            f"{path} cannot be written: {first_line(error)}"
        ) from error


def _check_plans(classifier: TrainedClassifier) -> None:
    """Renews plans that do not hold, and checks that there are some."""
    planned = [
        one
        for one in find_layers(classifier.model, Leaf)
        if one.plan is not None
    ]
    if not planned:
        raise ValueError(
            "`keep_plan` must be False without a Leaf that follows a plan. "
            "Received: keep_plan=True, no frontend with a plan."
        )
    for one in planned:
        one.replan(if_needed=True)


@dataclasses.dataclass(frozen=True)
class _Endpoint:
    """The function from samples to probabilities that is exported.

    Attributes:
        classifier: The classifier.
        shape: The shape of the samples, (batch, time); None is for any size.
        before: The steps of preparation that are left to the caller.
        included: The steps that the endpoint does itself.
        windows: The length and the hop, in samples, of the windows that it
            cuts a recording into; None if it judges it as a whole.
    """

    classifier: TrainedClassifier
    shape: tuple[int | None, int | None]
    before: Sequence[Step]
    included: Sequence[Step]
    windows: tuple[int, int] | None = None

    @classmethod
    def of_one_window(
        cls, classifier: TrainedClassifier, window: int
    ) -> _Endpoint:
        """Makes the endpoint for one window of a fixed length."""
        before, included = split(classifier.transform_fns, has_one_length=True)
        return cls(classifier, (1, window), before, included)

    @classmethod
    def of_any_size(cls, classifier: TrainedClassifier) -> _Endpoint:
        """Makes the endpoint for batches of any size and any length."""
        before, included = split(classifier.transform_fns, has_one_length=False)
        length = classifier.window
        if length is None:
            return cls(classifier, (None, None), before, included)
        if before:
            # Whoever prepares the windows has to cut them before.
            before, included = split(
                classifier.transform_fns, has_one_length=True
            )
            return cls(classifier, (None, length), before, included)
        windows = (length, default_hop(classifier.evaluation_hop, length))
        return cls(classifier, (None, None), before, included, windows)

    def describe(self) -> dict[str, Any]:
        """Returns what a user of the exported model must know."""
        thresholds = self.classifier.thresholds
        if thresholds is not None:
            thresholds = [float(one) for one in thresholds]
        length, hop = self.windows or (None, None)
        window, own_hop = self.shape[1], None
        if window is not None:
            own_hop = default_hop(self.classifier.evaluation_hop, window)
        return {
            "labels": list(self.classifier.labels),
            "sample_rate": self.classifier.sample_rate,
            "window": window,
            "hop": own_hop,
            "thresholds": thresholds,
            "preparation": list(self.before),
            "included": {
                "window": length,
                "hop": hop,
                "preparation": list(self.included),
            },
            "input": "float32 samples from -1 to 1",
            "output": "probabilities of the labels",
        }

    def warn(self) -> None:
        """Warns if the caller must do more than padding and cropping."""
        names = [one["name"] for one in self.before]
        if set(names) - {"align"}:
            # The name of any other function begins with its module.
            has_own = any("." in name for name in names)
            why = (
                "functions that are not of leaf_audio.data, and those before "
                "them, are not part of it"
                if has_own
                else "`align`, and what comes before it, is not part of it"
            )
            warnings.warn(
                "what the exported model gets must be prepared by "
                f"{', '.join(names)}: {why}",
                data.DataWarning,
                stacklevel=3,
            )

    def __call__(self, samples: tf.Tensor) -> tf.Tensor:
        """Computes probabilities, (batch, labels)."""
        if self.windows is None:
            return self._judge(samples)
        parts = cut(samples, *self.windows)
        count, length = keras.ops.shape(parts)[1:]
        rows = self._judge(keras.ops.reshape(parts, (-1, length)))
        labels = len(self.classifier.labels)
        return keras.ops.mean(
            keras.ops.reshape(rows, (-1, count, labels)), axis=1
        )

    def _judge(self, clips: tf.Tensor) -> tf.Tensor:
        has_several = self.classifier.thresholds is not None
        normalize = keras.ops.sigmoid if has_several else keras.ops.softmax
        clips = prepare(clips, self.included)
        return normalize(self.classifier.model(clips, training=False))


def _write_saved_model(
    endpoint: _Endpoint, path: pathlib.Path, keep_plan: bool
) -> list[pathlib.Path]:
    with files.replacing_folder(path) as folder:
        _save(endpoint, folder, keep_plan)
        about = inside(folder)
        about.parent.mkdir()
        files.write_json(about, endpoint.describe())
    return [path]


def _write_onnx(
    endpoint: _Endpoint, path: pathlib.Path, keep_plan: bool
) -> list[pathlib.Path]:
    with portable_operations(keep_plan):
        content = onnx_files.convert(
            endpoint, endpoint.shape, endpoint.describe()
        )
    with files.replacing(path) as partial:
        partial.write_bytes(content)
    return [path]


def _write_litert(
    endpoint: _Endpoint,
    path: pathlib.Path,
    quantize: str | None,
    keep_plan: bool,
) -> list[pathlib.Path]:
    about = beside(path)
    content = _convert(endpoint, quantize, keep_plan)
    with files.replacing_with_description(path, about) as partials:
        partials[0].write_bytes(content)
        files.write_json(partials[1], endpoint.describe())
    return [path, about]


def _check_window(classifier: TrainedClassifier, window: int | None) -> int:
    """Returns the length of the input of LiteRT."""
    if window is None:
        window = classifier.window
    if window is None or classifier.window not in (None, window):
        raise ValueError(
            "`window` must be the length of the model's clips, "
            f"{classifier.window}; it must be given where that is None, for "
            f"any length. Received: window={window}."
        )
    return window


def _convert(
    endpoint: _Endpoint, quantize: str | None, keep_plan: bool
) -> bytes:
    """Returns the content of a `.tflite` file."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        # By way of a SavedModel, the converter sees weights as constants.
        saved = pathlib.Path(folder) / "saved"
        _save(endpoint, saved, keep_plan)
        if quantize == "int8":
            kept = saved.with_name("kept")
            frontend_weights.keep(
                saved, endpoint.classifier.frontend.name, kept
            )
            saved = kept
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
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
            classifier = endpoint.classifier
            raise ValueError(
                "`classifier` must be a model that LiteRT can compute. "
                f"Received: {type(classifier.model).__name__} with "
                f"{type(classifier.frontend).__name__}: {first_line(error)}"
            ) from error


def _check_runs(content: bytes) -> None:
    """Raises an error if the runtime does not take a file."""
    import tensorflow as tf

    with warnings.catch_warnings():
        # TensorFlow's copy of the runtime is deprecated, and does here.
        warnings.simplefilter("ignore", UserWarning)
        # The default delegate tells on stderr that it is there.
        kind = tf.lite.experimental.OpResolverType
        tf.lite.Interpreter(
            model_content=content,
            experimental_op_resolver_type=kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        ).allocate_tensors()


def _save(endpoint: _Endpoint, folder: pathlib.Path, keep_plan: bool) -> None:
    """Writes an endpoint as a SavedModel."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(endpoint.classifier.model)
    signature = [tf.TensorSpec(endpoint.shape, np.float32, name="samples")]

    def serve(samples: tf.Tensor) -> tf.Tensor:
        return endpoint(samples)

    archive.add_endpoint("serve", serve, signature)
    # The endpoint is traced when it is written.
    with portable_operations(keep_plan):
        archive.write_out(str(folder), verbose=False)
