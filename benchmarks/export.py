"""Measures exported models: size, accuracy and latency in their runtimes.

python benchmarks/export.py --recordings=/path/to/speech_commands/test

The folder holds `<label>/*` with the labels of the model. The latency is the
median time of a call with one window, on one thread.
"""

import argparse
import os
import pathlib
import tempfile
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import leaf_audio
from leaf_audio import data
from leaf_audio.common.export_formats import QUANTIZATIONS
from leaf_audio.data import read_recording
from leaf_audio.data.recordings import files_of
from leaf_audio.serving.export import export


def run_litert(path: pathlib.Path) -> Callable:
    with warnings.catch_warnings():
        # TensorFlow's copy of the runtime is deprecated, and does here.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()

    def run(samples: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(inputs["index"], samples)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return run


def run_onnx(path: pathlib.Path) -> Callable:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return lambda samples: session.run(None, {"samples": samples})[0]


RUNTIMES = {"litert": run_litert, "onnx": run_onnx}
VARIANTS = [
    *(
        (name, suffix, quantize, keep_plan)
        for keep_plan in (False, True)
        for name, suffix, quantize in (
            *(("litert", ".tflite", one) for one in (None, *QUANTIZATIONS)),
            ("onnx", ".onnx", None),
        )
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--model", default="speech_commands")
    given = parser.parse_args()
    classifier = leaf_audio.load(given.model)
    names = files_of([given.recordings])
    rate = classifier.sample_rate
    # The exported models change the level themselves, as `prepare` does.
    samples = [
        data.align(read_recording(one, rate), seq_len=classifier.window)
        for one in names
    ]
    clips = np.stack([classifier.prepare(one, rate) for one in samples])
    labels = [pathlib.Path(one).parent.name for one in names]
    right = np.array([classifier.labels.index(one) for one in labels])
    found = np.concatenate(
        [
            classifier.probabilities(some)
            for some in np.array_split(clips, max(1, len(clips) // 64))
        ]
    )
    print(f"Keras: accuracy {np.mean(found.argmax(axis=1) == right):.4f}")
    for name, suffix, quantize, keep_plan in VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"model{suffix}"
            export(classifier, path, name, quantize, keep_plan=keep_plan)
            size = path.stat().st_size
            run = RUNTIMES[name](path)
        hits, seconds = [], []
        for one, target in zip(samples, right, strict=True):
            started = time.perf_counter()
            (row,) = run(one[None])
            seconds.append(time.perf_counter() - started)
            hits.append(row.argmax() == target)
        print(
            f"{name}, {quantize or 'float32'}, "
            f"{'by plan' if keep_plan else 'exact'}: {size / 1000:.0f} kB, "
            f"accuracy {np.mean(hits):.4f}, {1000 * np.median(seconds):.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
