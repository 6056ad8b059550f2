"""Measures how many clips a second one and more processes train on together.

    KERAS_BACKEND=jax python benchmarks/processes.py --output=out.json

The processes train with `train.strategy = 'data_parallel'`, on noise in a
folder, by a config of a frontend with own_recordings.gin. Each has one core of
its own, as if it were a machine, and the batch of all of them together stays
the same. An epoch has many steps and few clips for validation; its time is that
in metrics.csv. The first epoch does not count, since its steps are compiled; of
the others, the quickest counts. Other work of the machine slows several
processes more than one, since they wait for the slowest at each step. The load
of the machine is reported.
"""

import argparse
import csv
import datetime
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import tempfile

import numpy as np
import rich.console
import rich.table
import soundfile

ROOT = pathlib.Path(__file__).parents[1]
SAMPLE_RATE = 16000
# Clips by split, all together.
CLIPS = {"train": 256, "validation": 2, "test": 2}


def write_noise(folder: pathlib.Path) -> None:
    """Writes clips of one second, of two labels."""
    rng = np.random.default_rng(0)
    for split, count in CLIPS.items():
        for number in range(count):
            place = folder / split / f"label{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            samples = 0.1 * rng.standard_normal(SAMPLE_RATE)
            soundfile.write(place / f"{number}.wav", samples, SAMPLE_RATE)


def free_address() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def seconds_of_epoch(
    folder: pathlib.Path, count: int, options: argparse.Namespace
) -> float:
    """Trains with some processes, and returns the time of an epoch."""
    workdir = folder / f"run{count}"
    bindings = [
        "train.strategy = 'data_parallel'",
        f"audio_folder.path = '{folder / 'noise'}'",
        f"train.num_epochs = {options.epochs + 1}",
        f"train.steps_per_epoch = {options.steps}",
        "train.warmup_epochs = 0",
        f"train.batch_size = {options.batch_size}",
    ]
    configs = (f"{options.frontend}.gin", "audio_folder.gin")
    flags = [
        *(f"--gin_config={name}" for name in (*configs, "own_recordings.gin")),
        *(f"--gin_bindings={binding}" for binding in bindings),
        f"--workdir={workdir}",
        f"--data_dir={folder / 'prepared'}",
    ]
    address = free_address()
    started = [
        subprocess.Popen(
            [
                *("taskset", "--cpu-list", str(number)),
                *(sys.executable, "-m", "leaf_audio", "train", *flags),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LEAF_AUDIO_ADDRESS": address,
                "LEAF_AUDIO_NUM_PROCESSES": str(count),
                "LEAF_AUDIO_PROCESS": str(number),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(count)
    ]
    outputs = [process.communicate()[0] for process in started]
    for process, text in zip(started, outputs, strict=True):
        if process.returncode:
            sys.exit(text)
    with open(workdir / "metrics.csv", newline="", encoding="utf-8") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    return min(seconds[1:])


def print_table(results: dict[str, dict[str, float]]) -> None:
    table = rich.table.Table("processes")
    for heading in ("clips per second", "× one"):
        table.add_column(heading, justify="right")
    for count, row in results.items():
        speed = row["clips_per_second"]
        table.add_row(count, f"{speed:.0f}", f"{row['times_one']:.2f}")
    rich.console.Console(width=80).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument("--frontend", default="mel", help="its config")
    parser.add_argument("--processes", type=int, default=2, help="at most")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30, help="of an epoch")
    parser.add_argument("--batch_size", type=int, default=32)
    options = parser.parse_args()
    if os.environ.get("KERAS_BACKEND") != "jax":
        sys.exit("Error: set KERAS_BACKEND=jax.")
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_noise(folder / "noise")
        for count in range(1, options.processes + 1):
            seconds = seconds_of_epoch(folder, count, options)
            speed = options.steps * options.batch_size / seconds
            first = results.get("1", {}).get("clips_per_second", speed)
            results[str(count)] = {
                "clips_per_second": speed,
                "times_one": speed / first,
            }
    load = os.getloadavg()[0]
    print_table(results)
    sys.stdout.write(f"load of the machine: {load}\n")
    if options.output:
        about = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load": load,
        }
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({**about, "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
