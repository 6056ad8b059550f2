"""Measures the preparation of recordings: speed, size, memory and start-up.

    python benchmarks/preparation.py --recordings=/path --output=out.json

It prepares the recordings in a folder, and folders of its own that hold few and
many clips, of a second and of an hour. Each folder is prepared in a process of
its own, whose largest memory is reported: after the preparation, and after it
has made batches of one-second examples from disk as training does. Memory
beyond that of the imports is what counts. Last, it opens a prepared folder of
many files again, which is what a run waits for at its start.
"""

import argparse
import concurrent.futures
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import rich.console
import rich.table
import soundfile

SAMPLE_RATE = 16000
# The number of recordings, and their length in seconds.
FOLDERS = ((2000, 1), (20000, 1), (360, 10), (4, 3600))


def make_folder(path: pathlib.Path, count: int, seconds: float) -> None:
    """Writes recordings of filtered noise, of two labels."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(int(seconds * SAMPLE_RATE))
    # A slope as that of many recordings, which FLAC compresses.
    noise = np.convolve(noise, np.hanning(15), mode="same")
    first = path
    for i in range(count):
        file = path / f"label{i % 2}" / f"{i}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        # A file may have some ten thousand names.
        if i % 10000 == 0:
            soundfile.write(file, 0.01 * noise, SAMPLE_RATE, subtype="PCM_16")
            first = file
        else:
            # One file of many names: only the number of names counts.
            os.link(first, file)


def megabytes() -> float:
    """Returns the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(
    path: str, data_dir: str, fractions: dict[str, float]
) -> dict[str, float]:
    """Prepares a folder, opens it again and makes batches; see `main`."""
    from leaf_audio import data

    warnings.simplefilter("ignore", data.DataWarning)
    # What is imported at first use counts as imports.
    with tempfile.TemporaryDirectory() as folder:
        make_folder(pathlib.Path(folder, "small"), 40, 0.1)
        small = data.audio_folder(f"{folder}/small", data_dir=folder)
        next(iter(data.prepare(small, batch_size=8).train()))
    imports = megabytes()

    def load() -> tuple[data.AudioData, float]:
        start = time.perf_counter()
        found = data.audio_folder(path, data_dir=data_dir, **fractions)
        return found, time.perf_counter() - start

    audio_data, seconds = load()
    prepared = megabytes()
    _, opened = load()
    batches = data.prepare(audio_data, batch_size=32, max_cache_bytes=0)
    batches.evaluation.clear()
    iterator = iter(batches.train())
    for _ in range(40):
        next(iterator)
    iterator.close()
    clips = audio_data.clips.values()
    samples = sum(int(some.offsets[-1]) for some in clips)
    stored = sum(shard.nbytes for some in clips for shard in some.shards)
    hours = samples / SAMPLE_RATE / 3600
    return {
        "clips": sum(audio_data.counts.values()),
        "hours": hours,
        "hours_per_minute": hours / seconds * 60,
        "megabytes_per_hour": stored / 1e6 / hours,
        "memory_to_prepare_mb": prepared - imports,
        "memory_with_training_mb": megabytes() - imports,
        "seconds_to_open": opened,
    }


def in_a_process(
    path: str, data_dir: str, **fractions: float
) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(measure, path, data_dir, fractions).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument("--recordings", help="a folder of your own")
    parser.add_argument(
        "--files",
        type=int,
        default=100000,
        help="how many files the folder has that is opened at last",
    )
    parser.add_argument(
        "--small", action="store_true", help="a short run, to test the script"
    )
    options = parser.parse_args()
    folders = ((60, 1), (4, 60)) if options.small else FOLDERS
    results = {}
    with tempfile.TemporaryDirectory() as work:
        if options.recordings:
            results[options.recordings] = in_a_process(
                options.recordings, f"{work}/prepared"
            )
        for count, seconds in (*folders, (options.files, 0.1)):
            path = pathlib.Path(work, f"{count}-{seconds}")
            make_folder(path, count, seconds)
            results[f"{count} recordings of {seconds:g} s"] = in_a_process(
                str(path),
                f"{work}/prepared",
                validation_fraction=0,
                test_fraction=0.5,
            )
    if options.output:
        about = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load": os.getloadavg()[0],
        }
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({**about, "results": results}, file, indent=2)
    table = rich.table.Table()
    headings = (
        "hours a minute",
        "MB an hour",
        "MB to prepare",
        "MB with training",
        "s to open",
    )
    for heading in ("recordings", *headings):
        table.add_column(heading, justify="right")
    for name, row in results.items():
        table.add_row(
            name,
            f"{row['hours_per_minute']:.1f}",
            f"{row['megabytes_per_hour']:.0f}",
            f"{row['memory_to_prepare_mb']:.0f}",
            f"{row['memory_with_training_mb']:.0f}",
            f"{row['seconds_to_open']:.1f}",
        )
    rich.console.Console().print(table)
    sys.stdout.write(f"load of the machine: {os.getloadavg()[0]}\n")


if __name__ == "__main__":
    main()
