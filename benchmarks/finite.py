"""Trains Leaf on hard inputs at a high learning rate: is all of it finite?

    python benchmarks/finite.py --output=out.json
    python benchmarks/finite.py --input=silence --dtype=mixed_float16

A classifier of Leaf with PCEN and a small ConvNet learns from silence, from
square waves of full scale, from constants of full scale, or from a minute of
noisy tones, with Adam at a learning rate of 1e-2. After each step its loss and
its gradients must be finite. A step that a loss scale skips, since gradients
overflow in float16, does not count, unless the scale has fallen to 1. After
each epoch of 50 steps, all weights, the state of the optimizer, and the
features of the inputs must be finite too, and features must differ from zero.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import rich.console
import rich.table

from leaf_audio import callbacks, frontend, models
from leaf_audio.training import finite, step_watch

SAMPLE_RATE = 16000
LEARNING_RATE = 1e-2
STEPS_PER_EPOCH = 50


def silence() -> np.ndarray:
    return np.zeros((4, SAMPLE_RATE), np.float32)


def square_waves() -> np.ndarray:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    # The last one changes its sign with each sample.
    rates = np.array([50, 440, 3000, SAMPLE_RATE / 2])[:, None]
    return np.where((2 * rates * time) % 2 < 1, 1, -1).astype(np.float32)


def constants() -> np.ndarray:
    levels = np.array([[1], [-1], [1e-3], [0.5]], np.float32)
    return np.repeat(levels, SAMPLE_RATE, axis=1)


def minute() -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(60 * SAMPLE_RATE) / SAMPLE_RATE
    rates = rng.uniform(50, 7000, (2, 1))
    # Loud and nearly silent passages of five seconds.
    level = np.where(time % 10 < 5, 0.5, 1e-5)
    noise = rng.standard_normal((2, len(time)))
    waves = np.sin(2 * np.pi * rates * time) + 0.3 * noise
    return (level * waves).clip(-1, 1).astype(np.float32)


INPUTS = {
    "silence": silence,
    "square waves": square_waves,
    "constants": constants,
    "a minute": minute,
}
DTYPES = ("float32", "mixed_float16", "mixed_bfloat16")


class NotFinite(Exception):
    """A number is not finite; the message says which, and where."""


class CheckAll(keras.callbacks.Callback):
    """Raises `NotFinite` in `fit`, which runs within `watched_steps`."""

    def __init__(self, inputs: np.ndarray):
        super().__init__()
        self._inputs = inputs
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        if not np.isfinite(logs["loss"]):
            raise NotFinite(f"the loss or a gradient at step {self.steps}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        found = finite.not_finite(finite.saved_variables(self.model))
        if found:
            raise NotFinite(f"{found} after step {self.steps}")
        features = self.model.frontend(self._inputs)
        features = keras.ops.convert_to_numpy(
            keras.ops.cast(features, "float32")
        )
        if not np.isfinite(features).all():
            raise NotFinite(f"the features after step {self.steps}")
        if not features.any():
            raise NotFinite(f"all features are 0 after step {self.steps}")


def train(name: str, dtype: str, steps: int, filters: int) -> dict[str, object]:
    """Trains on an input; returns how many steps were done, and the fault."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(dtype)
    inputs = INPUTS[name]()
    labels = np.arange(len(inputs)) % 2
    model = models.AudioClassifier(
        2,
        frontend=frontend.Leaf(n_filters=filters, sample_rate=SAMPLE_RATE),
        encoder=models.ConvNet([8]),
    )
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.build(inputs.shape)
    model.optimizer.build(model.trainable_variables)
    size = len(inputs) if inputs.shape[1] == SAMPLE_RATE else 1
    repeats = STEPS_PER_EPOCH * size // len(inputs)
    check = CheckAll(inputs)
    begin = time.monotonic()
    fault = None
    try:
        with step_watch.watched_steps(model):
            model.fit(
                np.tile(inputs, (repeats, 1)),
                np.tile(labels, repeats),
                batch_size=size,
                epochs=-(-steps // STEPS_PER_EPOCH),
                callbacks=[callbacks.Replan(check_freq=10), check],
                shuffle=False,
                verbose=0,
            )
    except NotFinite as error:
        fault = str(error)
    return {
        "steps": check.steps,
        "fault": fault,
        "seconds": round(time.monotonic() - begin, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--filters", type=int, default=40)
    parser.add_argument(
        "--input", choices=INPUTS, action="append", help="by default all"
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, action="append", help="by default all"
    )
    options = parser.parse_args()
    table = rich.table.Table()
    for heading in ("input", "dtype", "steps", "not finite"):
        table.add_column(heading)
    results: dict[str, dict] = {}
    for name in options.input or INPUTS:
        for dtype in options.dtype or DTYPES:
            found = train(name, dtype, options.steps, options.filters)
            results[f"{name}, {dtype}"] = found
            row = (str(found["steps"]), str(found["fault"] or "nothing"))
            table.add_row(name, dtype, *row)
            if options.output:
                # All of them take an hour: what is known stays known.
                with open(options.output, "w", encoding="utf-8") as file:
                    about = {
                        "date": datetime.date.today().isoformat(),
                        "machine": f"{platform.machine()}, "
                        f"{os.cpu_count()} cores",
                        "filters": options.filters,
                    }
                    json.dump({**about, "results": results}, file, indent=2)
    rich.console.Console(width=80).print(table)
    sys.exit(any(one["fault"] for one in results.values()))


if __name__ == "__main__":
    main()
