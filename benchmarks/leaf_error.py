"""Measures the error of Leaf by plan on real audio.

    python benchmarks/leaf_error.py --audio=/path/to/recordings

The error is the RMS difference between the log energies of Leaf by plan and of
Leaf computed exactly, over all frames and filters. As in Leaf, energies below
1e-5 count as 1e-5. The inputs are 64 one-second clips at two levels, and white
noise. The levels are a standard deviation of 0.1, and one of 5.6, the level of
the trainer's loudness normalisation.

For gradients, the script prints the largest relative L2 distance of the
gradient of a weight. The gradient is that of the mean squared output of Leaf
with PCEN.
"""

import argparse
import functools
import json
import pathlib
import sys

import keras
import numpy as np
import rich.console
import rich.table
import soundfile
import soxr
from keras import ops

from leaf_audio import frontend
from leaf_audio.data.recordings import files_of

SAMPLE_RATE = 16000
CLIPS = 64
FLOOR = 1e-5
# None is the default of Leaf.
TOLERANCES = (1e-2, None, 5e-4)


def read_clips(folder: str) -> np.ndarray:
    """Reads the first second of files that are evenly spread over a folder.

    Returns:
      An array of shape `(clips, samples)`, without silent clips.
    """
    paths = files_of([folder])
    if len(paths) < CLIPS:
        raise SystemExit(f"{folder} must hold {CLIPS} recordings at least.")
    clips = np.zeros((CLIPS, SAMPLE_RATE), "float32")
    for clip, index in zip(
        clips, np.linspace(0, len(paths) - 1, CLIPS, dtype=int), strict=True
    ):
        samples, rate = soundfile.read(paths[index], always_2d=True)
        samples = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
        clip[: min(len(samples), SAMPLE_RATE)] = samples[:SAMPLE_RATE]
    return clips[clips.std(axis=1) > 0]


def log_energies(leaf: keras.Model, x: np.ndarray) -> np.ndarray:
    batches = np.array_split(x, max(len(x) // 8, 1))
    energies = [ops.convert_to_numpy(leaf(batch)) for batch in batches]
    return np.log(np.maximum(np.concatenate(energies), FLOOR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", required=True, help="a folder of recordings")
    parser.add_argument(
        "--tolerance",
        type=float,
        action="append",
        help="may be repeated; by default 0.01, the default of Leaf, 0.0005",
    )
    parser.add_argument("--n_filters", type=int, default=40)
    parser.add_argument("--output", help="where to write the errors as JSON")
    options = parser.parse_args()
    sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
    from gradients import grad_mean_square

    clips = read_clips(options.audio)
    unit = clips / clips.std(axis=1, keepdims=True)
    noise = np.random.default_rng(0).normal(0, 0.1, clips.shape)
    inputs = {
        "std 0.1": 0.1 * unit,
        "std 5.6": 5.6 * unit,
        "white noise": noise.astype("float32"),
    }
    make_leaf = functools.partial(frontend.Leaf, n_filters=options.n_filters)
    exact = make_leaf(tolerance=0, compression_fn=None)
    expected = {name: log_energies(exact, x) for name, x in inputs.items()}
    exact_pcen = make_leaf(tolerance=0)
    _, expected_gradients = grad_mean_square(exact_pcen, 0.1 * unit[:8])

    table = rich.table.Table("tolerance", "input")
    for heading in ("all filters", "median filter", "worst filter"):
        table.add_column(heading, justify="right")
    lines = []
    errors = {}
    for tolerance in options.tolerance or TOLERANCES:
        title = "default" if tolerance is None else f"{tolerance:g}"
        leaf = make_leaf(tolerance=tolerance, compression_fn=None)
        for name, x in inputs.items():
            difference = log_energies(leaf, x) - expected[name]
            by_filter = np.sqrt(np.mean(difference**2, axis=(0, 1)))
            figures = (
                np.sqrt(np.mean(by_filter**2)),
                np.median(by_filter),
                by_filter.max(),
            )
            table.add_row(title, name, *(f"{value:.1e}" for value in figures))
            errors.setdefault(title, {})[name] = float(figures[0])
        table.add_section()
        leaf = make_leaf(tolerance=tolerance)
        _, found = grad_mean_square(leaf, 0.1 * unit[:8])
        distances = {
            variable.path.split("/", 1)[-1]: np.linalg.norm(a - b)
            / np.linalg.norm(b)
            for variable, a, b in zip(
                exact_pcen.trainable_variables,
                found,
                expected_gradients,
                strict=True,
            )
        }
        worst = max(distances, key=distances.get)
        lines.append(
            f"gradients, tolerance {title}: {distances[worst]:.1e} at most "
            f"({worst})"
        )
    console = rich.console.Console(width=100)
    console.print(f"{len(clips)} clips of {options.audio}")
    console.print(table)
    for line in lines:
        console.print(line)
    if options.output:
        pathlib.Path(options.output).write_text(
            json.dumps(errors, indent=2) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
