"""Has training runs killed, starved and damaged, and counts which recover.

    python benchmarks/faults.py --output=out.json

A small run, of LEAF on the embedded vowels with SpecAugment, dropout and batch
normalization, is trained once without interruption. Then the same command meets
each kind of fault, and is given again. It must then end with exit status 0, and
with the metrics of the uninterrupted run: those of each epoch, and those of the
kept model on each split. The log of the filters must be the same, too. The
state is saved after each step, so that many kills come while a file is written.
The first process must have ended as docs/training.md says. Folders of runs for
which any of this fails are kept.

The faults: SIGKILL at a random moment; SIGKILL when half of a file is written;
a disk that is full when half of a file is written; SIGTERM at a random moment;
and a newest state that is cut off, has a flipped bit, or is empty.
"""

import argparse
import contextlib
import csv
import datetime
import errno
import json
import math
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.table

ROOT = pathlib.Path(__file__).parents[1]
EPOCHS = 3
BINDINGS = (
    f"train.num_epochs = {EPOCHS}",
    "train.steps_per_epoch = 20",
    "train.batch_size = 8",
    "train.checkpoint_minutes = 1e-9",
    "Leaf.n_filters = 4",
    "ConvNet.filters = [4, 4]",
    "AudioClassifier.dropout = 0.2",
    "spec_augment = True",
)
# The files of a run, and how often each is written when a fault comes: mostly
# in the second epoch.
FILES = {
    "state.npz": 2,
    "state_within.npz": 22,
    "best.keras": 1,
    "metrics.csv": 2,
    "results.json": 1,
}
# In seconds; a process that takes longer hangs.
LIMIT = 300
# Metrics that differ by less, relatively, are equal.
TOLERANCE = 1e-5


def train_with_fault(fault: str, name: str, count: int) -> None:
    """Trains in this process until half of a file is written.

    Args:
        fault: "kill", or "full" for a disk that is full.
        name: The name of the file.
        count: How often the file is written by then.
    """
    from leaf_audio.app import main
    from leaf_audio.common import files

    replacing = files.replacing
    left = count

    @contextlib.contextmanager
    def replacing_half(path, before=None):
        nonlocal left
        with replacing(path, before) as partial:
            yield partial
            left -= pathlib.Path(path).name == name
            if left == 0:
                os.truncate(partial, partial.stat().st_size // 2)
                if fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.replacing = replacing_half
    main.run()


class Runs:
    """Starts runs that differ in nothing but their folders.

    Args:
        folder: Where the folders of the runs are made, and the prepared data.
        seed: Of the moments at which something happens.

    Attributes:
        random: Chooses the moments.
        newest: The folder of the run that was made last.
        training_seconds: The time that an uninterrupted run trains.
        expected: The metrics of an uninterrupted run, by name.
    """

    def __init__(self, folder: pathlib.Path, seed: int):
        self._folder = folder
        self._count = 0
        self._two_epochs: pathlib.Path | None = None
        self.random = random.Random(seed)
        # The second run finds the data prepared, as all others do.
        for _ in range(2):
            workdir = self.new()
            process = self.start(workdir)
            wait_for_training(process, workdir)
            start = time.monotonic()
            code, text = end_of(process)
            self.training_seconds = time.monotonic() - start
            if code:
                sys.exit(text)
        self.expected = metrics_of(workdir)

    def new(self) -> pathlib.Path:
        """Returns the folder of a new run."""
        self._count += 1
        self.newest = self._folder / f"run{self._count}"
        # Also kept if its process fails before it makes the folder.
        self.newest.mkdir()
        return self.newest

    def start(
        self, workdir: pathlib.Path, *fault: str | int
    ) -> subprocess.Popen:
        """Starts to train in a folder, until the fault if one is given."""
        program = ["-m", "leaf_audio", "train"]
        if fault:
            called = f"faults.train_with_fault{fault}"
            program = ["-c", f"import faults; {called}"]
        paths = [str(ROOT), str(ROOT / "benchmarks")]
        return subprocess.Popen(
            [
                sys.executable,
                *program,
                "--gin_config=quickstart.gin",
                *(f"--gin_bindings={binding}" for binding in BINDINGS),
                f"--workdir={workdir}",
                f"--data_dir={self._folder / 'prepared'}",
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def signalled(self, number: signal.Signals) -> pathlib.Path:
        """Sends a signal at a random moment, and returns the run's folder."""
        while True:
            workdir = self.new()
            process = self.start(workdir)
            wait_for_training(process, workdir)
            time.sleep(self.random.uniform(0, self.training_seconds))
            process.send_signal(number)
            code, text = end_of(process)
            # It may have come to its end before the signal.
            if code:
                killed = number == signal.SIGKILL
                # Before and after its steps, SIGTERM ends it at once.
                codes = {-number} if killed else {-number, 128 + number}
                check(code in codes, f"status {code}: {text}")
                return workdir

    def stopped_at(self, fault: str, name: str) -> pathlib.Path:
        """Has a run stopped when half of a file is written."""
        workdir = self.new()
        process = self.start(workdir, fault, name, FILES[name])
        code, text = end_of(process)
        if fault == "kill":
            check(code == -signal.SIGKILL, f"status {code}: {text}")
            return workdir
        check(code == 1, f"status {code}: {text}")
        told = f"No space left on device: '{workdir / name}'"
        check(told in text and "Traceback" not in text, text)
        check(not list(workdir.glob(".partial-*")), "a part of a file is left")
        return workdir

    def damaged(self, damage: Callable[[bytes], bytes]) -> pathlib.Path:
        """Has the newest state damaged, when two epochs are done."""
        if self._two_epochs is None:
            self._two_epochs = self.stopped_at("kill", "metrics.csv")
        workdir = self.new()
        shutil.copytree(self._two_epochs, workdir, dirs_exist_ok=True)
        state = workdir / "state.npz"
        state.write_bytes(damage(state.read_bytes()))
        return workdir

    def flipped(self, content: bytes) -> bytes:
        """Flips a random bit."""
        changed = bytearray(content)
        place = self.random.randrange(len(changed))
        changed[place] ^= 1 << self.random.randrange(8)
        return bytes(changed)


class Unexpected(Exception):
    """A process has not ended as it should."""


def check(is_true: bool, what: str) -> None:
    if not is_true:
        raise Unexpected(what)


def wait_for_training(process: subprocess.Popen, workdir: pathlib.Path) -> None:
    """Waits until a process has begun to train, or has ended."""
    deadline = time.monotonic() + LIMIT
    while not (workdir / "settings.json").exists() and process.poll() is None:
        check(time.monotonic() < deadline, "it does not begin")
        time.sleep(0.01)


def end_of(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for the end of a process; returns its status and its output."""
    try:
        text, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Unexpected("it does not end") from None
    return process.returncode, text


def metrics_of(workdir: pathlib.Path) -> dict[str, float]:
    """Returns all metrics and filters of a run, but no durations."""
    results = json.loads((workdir / "results.json").read_text("utf-8"))
    found = dict(numbers_in("results", results["metrics"]))
    with open(workdir / "metrics.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            row.pop("seconds")
            number = row.pop("epoch")
            for name, value in row.items():
                found[f"epoch {number}, {name}"] = float(value)
    with open(workdir / "filters.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            which = f"epoch {row.pop('epoch')}, filter {row.pop('filter')}"
            for name, value in row.items():
                found[f"{which}, {name}"] = float(value)
    return found


def numbers_in(name: str, content: object) -> Iterator[tuple[str, float]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from numbers_in(f"{name}, {key}", value)
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from numbers_in(f"{name}, {i}", value)
    elif isinstance(content, (int, float)):
        yield name, float(content)


def difference(one: dict[str, float], other: dict[str, float]) -> float:
    """Returns the largest relative difference of two runs' metrics."""
    if one.keys() != other.keys():
        return math.inf
    return max(
        abs(one[name] - other[name]) / max(abs(one[name]), 1e-12)
        for name in one
    )


# How each kind of fault comes about, by the number of the attempt; and how
# often it is tried.
KINDS: dict[str, tuple[Callable[[Runs, int], pathlib.Path], int]] = {
    "SIGKILL at a random moment": (
        lambda runs, _: runs.signalled(signal.SIGKILL),
        10,
    ),
    "SIGKILL while a file is written": (
        lambda runs, i: runs.stopped_at("kill", [*FILES][i]),
        len(FILES),
    ),
    "disk full": (
        lambda runs, i: runs.stopped_at("full", [*FILES][i]),
        len(FILES),
    ),
    "SIGTERM at a random moment": (
        lambda runs, _: runs.signalled(signal.SIGTERM),
        5,
    ),
    "newest state cut off": (
        lambda runs, _: runs.damaged(
            lambda content: content[: runs.random.randrange(1, len(content))]
        ),
        3,
    ),
    "bit of the newest state flipped": (
        lambda runs, _: runs.damaged(runs.flipped),
        5,
    ),
    "newest state empty": (lambda runs, _: runs.damaged(lambda _: b""), 1),
}


def meet(
    runs: Runs, kind: str, at_most: int, keep: pathlib.Path
) -> dict[str, object]:
    """Has a fault happen several times, and continues each of the runs."""
    make, times = KINDS[kind]
    times = min(times, at_most)
    recovered = equal = 0
    largest = 0.0
    problems = []
    for i in range(times):
        try:
            workdir = make(runs, i)
            code, text = end_of(runs.start(workdir))
            check(code == 0, f"status {code} of the second process: {text}")
            recovered += 1
            found = difference(runs.expected, metrics_of(workdir))
            largest = max(largest, found)
            check(found <= TOLERANCE, f"metrics differ by {found}")
            equal += 1
        except Unexpected as error:
            kept = keep / f"{kind.replace(' ', '_')}_{i}"
            shutil.copytree(runs.newest, kept, dirs_exist_ok=True)
            problems.append(f"{kept}: {error}")
    return {
        "times": times,
        "recovered": recovered,
        "equal": equal,
        "largest_difference": largest,
        "problems": problems,
    }


def print_table(results: dict[str, dict]) -> None:
    table = rich.table.Table("fault")
    for heading in ("times", "recovered", "equal metrics"):
        table.add_column(heading, justify="right")
    for kind, row in results.items():
        counts = (row["times"], row["recovered"], row["equal"])
        table.add_row(kind, *map(str, counts))
    rich.console.Console(width=80).print(table)


def write(path: str, results: dict[str, dict]) -> None:
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**about, "results": results}, file, indent=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        action="append",
        help="may be repeated; by default all",
    )
    parser.add_argument(
        "--at_most", type=int, default=10, help="how often each kind is tried"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", default="faults", help="where faults are kept"
    )
    options = parser.parse_args()
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(pathlib.Path(folder), options.seed)
        for kind in options.kind or KINDS:
            keep = pathlib.Path(options.keep)
            results[kind] = meet(runs, kind, options.at_most, keep)
            if options.output:
                # All kinds take an hour: what is known stays known.
                write(options.output, results)
    print_table(results)
    problems = [one for row in results.values() for one in row["problems"]]
    if problems:
        sys.exit(json.dumps(problems, indent=2))


if __name__ == "__main__":
    main()
