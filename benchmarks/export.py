"""Measures exported models: size, accuracy and latency in LiteRT.

python benchmarks/export.py --recordings=/path/to/speech_commands/test

The folder holds `<label>/*` with the labels of the model. The latency is the
median time of a call with one clip, on one thread.
"""

import argparse
import os
import pathlib
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import leaf_audio
from leaf_audio.data import read_recording
from leaf_audio.serving.export import QUANTIZATIONS, export
from leaf_audio.serving.windows import files_of


def interpreter_of(path: pathlib.Path) -> tf.lite.Interpreter:
    with warnings.catch_warnings():
        # TensorFlow's copy of the runtime is deprecated, and does here.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--model", default="speech_commands")
    given = parser.parse_args()
    classifier = leaf_audio.load(given.model)
    names = files_of([given.recordings])
    rate = classifier.sample_rate
    clips = np.stack(
        [classifier.prepare(read_recording(one, rate), rate) for one in names]
    )
    labels = [pathlib.Path(one).parent.name for one in names]
    right = np.array([classifier.labels.index(one) for one in labels])
    found = np.concatenate(
        [
            classifier.probabilities(some)
            for some in np.array_split(clips, max(1, len(clips) // 64))
        ]
    )
    print(f"Keras: accuracy {np.mean(found.argmax(axis=1) == right):.4f}")
    for quantize in (None, *QUANTIZATIONS):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.tflite"
            export(classifier, path, "litert", quantize)
            size = path.stat().st_size
            interpreter = interpreter_of(path)
        (inputs,) = interpreter.get_input_details()
        (outputs,) = interpreter.get_output_details()
        hits, seconds = [], []
        for clip, target in zip(clips, right, strict=True):
            interpreter.set_tensor(inputs["index"], clip[None])
            started = time.perf_counter()
            interpreter.invoke()
            seconds.append(time.perf_counter() - started)
            row = interpreter.get_tensor(outputs["index"])
            hits.append(row.argmax() == target)
        print(
            f"LiteRT, {quantize or 'float32'}: {size / 1000:.0f} kB, accuracy "
            f"{np.mean(hits):.4f}, {1000 * np.median(seconds):.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
