"""Measures how long Leaf searches for a plan, when it is built.

    python benchmarks/plan_search.py

Each setting has a process of its own: what the first Leaf of a process takes,
and the median of others after it. Importing Keras is left out. "building" is a
Leaf without a plan (`tolerance=0`), which the search comes on top of.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "40 filters, 16 kHz": {},
    "20 filters, 16 kHz": {"n_filters": 20},
    "80 filters, 16 kHz": {"n_filters": 80},
    "128 filters, 16 kHz": {"n_filters": 128},
    "40 filters, 8 kHz": {"sample_rate": 8000},
    "40 filters, 44.1 kHz": {"sample_rate": 44100},
    "building": {"tolerance": 0},
}
REPEATS = 5


def measure(setting: str) -> list[float]:
    """Returns the seconds of some Leafs in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from leaf_audio import frontend

    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        frontend.Leaf(**SETTINGS[setting]).build((None, None))
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    setting = parser.parse_args().setting
    if setting:
        print(json.dumps(measure(setting)))
        return
    print(f"{'setting':24}{'first':>8}{'others':>8}  seconds")
    for setting in SETTINGS:
        command = [sys.executable, __file__, f"--setting={setting}"]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True
        )
        first, *others = json.loads(done.stdout)
        print(f"{setting:24}{first:8.2f}{statistics.median(others):8.2f}")


if __name__ == "__main__":
    main()
