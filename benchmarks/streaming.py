"""Measures how fast audio is processed while it comes in, on one core.

python benchmarks/streaming.py

The real-time factor is the time that a core is busy, divided by the duration of
the audio: 0.05 is 5 % of the time. Other programs do not count. Measured are
the frontends, with the audio in chunks of several lengths, and a classifier of
Leaf and the default encoder, which judges the last second several times a
second. The first seconds are not measured: they compile.
"""

import argparse
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

RATE = 16000
WARM_UP = 5  # Seconds.
REPEATS = 3
CHUNKS_MS = (20, 100, 1000)
HOPS = (0.5, 0.25)


def use_one_core() -> None:
    """Keeps this process and TensorFlow's threads on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def real_time_factor(make_stream, cut, audio, chunk: int) -> float:
    """Returns the least of several measurements.

    Args:
      make_stream: Function that makes a stream.
      cut: Function of the audio, the first sample and the last of a chunk.
      audio: The samples.
      chunk: Length of the chunks, in samples.
    """
    factors = []
    begin, end = WARM_UP * RATE, len(audio) // chunk * chunk
    for _ in range(REPEATS):
        stream = make_stream()
        for start in range(0, begin, chunk):
            stream.push(cut(audio, start, start + chunk))
        started = time.process_time()
        for start in range(begin, end, chunk):
            stream.push(cut(audio, start, start + chunk))
        seconds = (end - begin) / RATE
        factors.append((time.process_time() - started) / seconds)
    return min(factors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seconds", type=int, default=20, help="audio that is measured"
    )
    given = parser.parse_args()
    use_one_core()
    import leaf_audio
    from leaf_audio import frontend

    generator = np.random.default_rng(0)
    count = (WARM_UP + given.seconds) * RATE
    audio = generator.normal(0, 0.1, count).astype("float32")
    print(f"{platform.processor() or platform.machine()}, one core")
    frontends = {
        "Leaf": frontend.Leaf(),
        "Leaf(tolerance=0)": frontend.Leaf(tolerance=0),
        "EfficientLeaf(compression_fn='pcen')": frontend.EfficientLeaf(
            compression_fn="pcen"
        ),
        "MelFilterbanks": frontend.MelFilterbanks(),
        "SincNetPlus": frontend.SincNetPlus(),
    }
    for name, one in frontends.items():
        for chunk_ms in CHUNKS_MS:
            factor = real_time_factor(
                one.stream,
                lambda audio, start, end: audio[None, start:end],
                audio,
                RATE * chunk_ms // 1000,
            )
            print(f"{name}, chunks of {chunk_ms} ms: {factor:.4f}", flush=True)
    classifier = leaf_audio.load("speech_commands")
    for hop in HOPS:
        factor = real_time_factor(
            lambda hop=hop: classifier.stream(hop=hop),
            lambda audio, start, end: audio[start:end],
            audio,
            RATE // 10,
        )
        print(f"classifier, every {hop} s: {factor:.4f}", flush=True)


if __name__ == "__main__":
    main()
