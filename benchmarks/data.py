"""Measures how many clips a second the input pipeline makes by itself.

    python benchmarks/data.py --output=out.json

The clips are one second at 16 kHz and lie in memory. Each is cropped or padded,
shifted, normalised, amplified and given noise; then two are mixed, as in the
augmentation of docs/augmentation.md. "tf.data" is the same in TensorFlow's
operations, as the package had it before. Both are measured in turns, so that
other work of the machine slows both alike. The load of the machine is reported,
and clips per second of CPU time, which depend little on the load.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import rich.console
import rich.table

from leaf_audio import data
from leaf_audio.data import clip_store
from leaf_audio.data.batches import DEFAULT_MAX_CACHE_BYTES

SAMPLE_RATE = 16000
NUM_LABELS = 35
RECIPE = {
    "crop or pad": data.align,
    "circular shift": data.circular_shift,
    "normalisation": data.loudness_normalization,
    "gain": data.gain,
    "white noise": data.white_noise,
}
MIXUP_ALPHA = 0.2


def make_clips(data_dir: str, count: int) -> data.AudioData:
    """Stores clips of noise, of 0.8 to 1.2 seconds."""
    rng = np.random.default_rng(0)

    def clip(number: int) -> clip_store.Clip:
        length = int(rng.uniform(0.8, 1.2) * SAMPLE_RATE)
        samples = (3000 * rng.standard_normal(length)).astype(np.int16)
        return clip_store.Clip(samples, number % NUM_LABELS)

    return clip_store.prepare_once(
        name="benchmark",
        data_dir=data_dir,
        settings={"count": count},
        state=[],
        sample_rate=SAMPLE_RATE,
        sources=lambda: {
            "train": clip_store.Source.of([*map(clip, range(count))])
        },
        describe=lambda _: {"label_names": [*map(str, range(NUM_LABELS))]},
    )


def of_package(
    audio_data: data.AudioData, batch_size: int, cache: int
) -> Iterator:
    batches = data.prepare(
        audio_data,
        list(RECIPE.values()),
        batch_size=batch_size,
        max_cache_bytes=cache,
        mixup_alpha=MIXUP_ALPHA,
    )
    return iter(batches.train())


def of_tf_data(audio_data: data.AudioData, batch_size: int) -> Iterator:
    import tensorflow as tf

    clips = audio_data.clips["train"]
    samples = tf.constant(clips._all_samples())
    offsets = tf.constant(clips.offsets)
    labels = tf.constant(clips.labels)
    count = len(clips)
    random = tf.random

    def shuffled(number: tf.Tensor) -> tf.data.Dataset:
        order = random.experimental.stateless_shuffle(
            tf.range(count, dtype=tf.int64), [0, number]
        )
        positions = tf.data.Dataset.from_tensor_slices(order).enumerate()
        return positions.map(lambda i, index: ([number, i], index))

    def example(seed: tf.Tensor, index: tf.Tensor) -> tuple:
        def draw(number: int, *limits: float) -> tf.Tensor:
            own = random.fold_in(seed, number)
            return random.stateless_uniform([], own, *limits)

        audio = tf.cast(samples[offsets[index] : offsets[index + 1]], "float32")
        surplus = tf.shape(audio)[0] - SAMPLE_RATE
        audio = tf.pad(audio / 32767, [[0, tf.maximum(-surplus, 0)]])
        surplus = tf.cast(tf.maximum(surplus, 0) + 1, "float32")
        start = tf.cast(draw(0) * surplus, "int32")
        audio = audio[start : start + SAMPLE_RATE]
        audio = tf.roll(audio, tf.cast(draw(1, -1600.0, 1601.0), "int32"), 0)
        audio *= 5.6 / tf.maximum(tf.math.reduce_std(audio), 1e-3)
        audio *= 10 ** (draw(2, -6.0, 6.0) / 20)
        noise = random.stateless_normal([SAMPLE_RATE], random.fold_in(seed, 3))
        level = 10 ** draw(4, -2.5, -0.8) * tf.math.reduce_std(audio)
        return audio + level * noise, labels[index]

    def mix(step: tf.Tensor, batch: tuple) -> tuple:
        audio, label = batch
        # Beta by two Gamma draws; the smaller share is that of the partner.
        draws = random.stateless_gamma([2, batch_size], [1, step], MIXUP_ALPHA)
        share = draws[0] / tf.maximum(draws[0] + draws[1], 1e-30)
        share = tf.maximum(share, 1 - share)[:, None]
        target = tf.one_hot(label, NUM_LABELS)
        return tuple(
            share * some + (1 - share) * tf.roll(some, 1, 0)
            for some in (audio, target)
        )

    dataset = tf.data.Dataset.counter(0).flat_map(shuffled)
    dataset = dataset.map(example, tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=True).enumerate()
    dataset = dataset.map(lambda step, batch: mix(step, batch))
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def speed(
    batches: Iterator, batch_size: int, seconds: float
) -> tuple[float, float]:
    """Returns clips per second of the clock, and of the process on all cores.

    The second hardly depends on what else the machine does.
    """
    start, worked = time.perf_counter(), time.process_time()
    steps = 0
    while time.perf_counter() < start + seconds:
        next(batches)
        steps += 1
    clips = steps * batch_size
    return (
        clips / (time.perf_counter() - start),
        clips / (time.process_time() - worked),
    )


def measure(options: argparse.Namespace, data_dir: str) -> dict[str, dict]:
    audio_data = make_clips(data_dir, options.clips)
    size = options.batch_size
    makers: dict[str, Callable[[], Iterator]] = {
        "Grain, in memory": lambda: of_package(
            audio_data, size, DEFAULT_MAX_CACHE_BYTES
        ),
        "Grain, from disk": lambda: of_package(audio_data, size, 0),
    }
    if not options.no_tf_data:
        makers["tf.data, in memory"] = lambda: of_tf_data(audio_data, size)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, make in makers.items():
            batches = make()
            # What was made ahead while nothing was measured does not count.
            for _ in range(10):
                next(batches)
            found[name].append(speed(batches, size, options.seconds))
            with contextlib.suppress(AttributeError):
                batches.close()
    return {
        name: {
            "clips_per_second": statistics.median(clock for clock, _ in some),
            "clips_per_cpu_second": statistics.median(cpu for _, cpu in some),
        }
        for name, some in found.items()
    }


def time_parts(repetitions: int = 200) -> dict[str, float]:
    """Returns the time of each transform of the recipe, in microseconds."""
    samples = np.random.default_rng(0).standard_normal(17000, np.float32)
    results = {}
    for name, fn in RECIPE.items():
        rng = np.random.default_rng(0)
        draws = {} if fn is data.loudness_normalization else {"rng": rng}
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            fn(samples, **draws)
            times.append(time.perf_counter() - start)
        results[name] = 1e6 * statistics.median(times)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--no_tf_data", action="store_true", help="measure the package only"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data_dir:
        results = measure(options, data_dir)
    parts = time_parts()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if options.output:
        about = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load": load,
        }
        with open(options.output, "w", encoding="utf-8") as file:
            content = {**about, "results": results, "microseconds": parts}
            json.dump(content, file, indent=2)
    table = rich.table.Table()
    table.add_column("pipeline")
    table.add_column("clips per second", justify="right")
    table.add_column("clips per second of CPU time", justify="right")
    for name, row in results.items():
        table.add_row(
            name,
            f"{row['clips_per_second']:.0f}",
            f"{row['clips_per_cpu_second']:.0f}",
        )
    for name, microseconds in parts.items():
        table.add_row(f"{name} alone", f"{1e6 / microseconds:.0f}", "")
    rich.console.Console().print(table)
    sys.stdout.write(f"load of the machine: {load}\n")


if __name__ == "__main__":
    main()
