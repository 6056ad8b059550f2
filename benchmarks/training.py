"""Measures how many clips a second a classifier trains on, by frontend.

    python benchmarks/training.py --output=out.json
    python benchmarks/training.py --frontend=mel --frontend=leaf --seconds=1
    python benchmarks/training.py --frontend=mel --pretraining=cola
    python benchmarks/training.py --seconds=1 --recordings=/path/to/recordings

A model, its optimizer and its loss are those of a config of the frontend with
own_recordings.gin, and five_seconds.gin for clips of five seconds; the learning
rate is constant. The encoder is the residual network of that recipe, or
EfficientNet-B0. With --pretraining, a row is added for each frontend that
learns without labels, of as many clips of the same length, two views of each.
A step is compiled, and watched as in a run; its clips are noise in memory, so
that reading and augmenting them is left out (`benchmarks/data.py` measures
that).

With --recordings, the clips are read from a folder and augmented as the recipe
says, while the model trains. "waits" is then the share of the time in which no
step is computed, since its clips are not ready.

Values are medians. The steps go in rounds over the frontends, so that other
work of the machine slows all of them alike; with --recordings, one frontend
follows the other, since batches are made ahead. "× first row" is the time of a
step divided by that behind the first frontend. "first step" includes building
the model, planning its filters and compiling it, in a process of its own for
each row. "leaf, exact" has no plan.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from leaf_audio.app import startup

with startup.importing_libraries():
    import frontends
    import gin
    import keras
    import numpy as np
    import rich.console
    import rich.table

    from leaf_audio.app import configuration, train
    from leaf_audio.training import building
    from leaf_audio.training.step_watch import watched_steps

SAMPLE_RATE = 16000
LABELS = 10
# The config of each frontend, and bindings.
FRONTENDS = {
    "mel": ("mel.gin",),
    "mel_pcen": ("mel_pcen.gin",),
    "leaf": ("leaf.gin",),
    "efficient_leaf": ("efficient_leaf.gin",),
    "leaf, exact": ("leaf.gin", "Leaf.tolerance = 0"),
    "leaf, fixed filters": ("leaf.gin", "Leaf.learn_filters = False"),
    "sincnet": ("sincnet.gin",),
    "sincnet_plus": ("sincnet_plus.gin",),
    "tfbanks": ("tfbanks.gin",),
    "wavegram": (
        "mel.gin",
        "AudioClassifier.frontend = @WaveGram()",
        "spec_augment = False",
    ),
}
ENCODERS = {
    "ResNet": [],
    "EfficientNetB0": ["AudioClassifier.encoder = @EfficientNetB0()"],
}
MORE_CONFIGS = {1: [], 5: ["five_seconds.gin"]}
PRETRAINING = {"cola": "@COLA", "simclr": "@SimCLR"}


class Measured:
    """A classifier, and what its training steps take.

    Attributes:
        first_step: Seconds from making the model to the end of its first step.
        steps: Seconds of the steps that count.
        waits: Seconds for which each of these steps has waited for its clips.
        batch_size: Clips in a step.
    """

    def __init__(
        self,
        name: str,
        encoder: str,
        seconds: int,
        pretraining: str | None,
        recordings: str | None,
        data_dir: str,
    ):
        config, *more = FRONTENDS[name]
        if name == "efficient_leaf" and encoder == "EfficientNetB0":
            # LogTBN gives two channels.
            more.append("EfficientNetB0.channels = 2")
        if pretraining is not None:
            more += [
                f"train.pretraining = {PRETRAINING[pretraining]}",
                "train.label_smoothing = 0",
            ]
        if recordings is not None:
            more += [
                "train.dataset = 'audio_folder'",
                f"train.data_dir = {data_dir!r}",
                f"audio_folder.path = {recordings!r}",
            ]
        configuration.parse(
            [config, "own_recordings.gin", *MORE_CONFIGS[seconds]],
            [*ENCODERS[encoder], *more],
        )
        settings = gin.get_configurable("train.train")()
        self.batch_size = settings.batch_size
        self.steps: list[float] = []
        self.waits: list[float] = []
        views = 1 if pretraining is None else 2
        labels = LABELS
        if recordings is None:
            self._batches = self._noise(views, seconds * SAMPLE_RATE)
        else:
            audio_data = train.load_for_training()
            labels = len(audio_data.label_names)
            batches = train.prepare(
                audio_data,
                batch_size=settings.batch_size,
                seed=settings.seed,
                views=views,
            )
            self._batches = iter(batches.train())
        start = time.perf_counter()
        self._model = building.build(
            settings,
            train.make_model,
            num_outputs=labels,
            example_shape=(seconds * SAMPLE_RATE,),
            learning_rate=settings.learning_rate,
        )
        self._watch = contextlib.ExitStack()
        self._watch.enter_context(watched_steps(self._model))
        self._model.train_on_batch(*next(self._batches))
        self.first_step = time.perf_counter() - start

    def _noise(self, views: int, samples: int) -> Iterator:
        rng = np.random.default_rng(0)
        axes = () if views == 1 else (views,)
        shape = (self.batch_size, *axes, samples)
        audio = rng.standard_normal(shape, "float32")
        labels = rng.integers(LABELS, size=self.batch_size)
        while True:
            yield audio, labels

    def end(self) -> None:
        """Ends the threads that make batches, and the watch."""
        self._batches.close()
        self._watch.close()

    def step(self) -> None:
        """Takes a step, and records its time."""
        start = time.perf_counter()
        batch = next(self._batches)
        begin = time.perf_counter()
        self._model.train_on_batch(*batch)
        self.steps.append(time.perf_counter() - start)
        self.waits.append(begin - start)


def first_step_alone(what: dict[str, Any]) -> float:
    """Returns the seconds that a first step takes in a new process.

    Args:
        what: The arguments of `Measured`.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        return pool.submit(_first_step, what).result()


def _first_step(what: dict[str, Any]) -> float:
    one = Measured(**what)
    one.end()
    return one.first_step


def measure(
    names: list[str],
    encoder: str,
    seconds: int,
    rounds: int,
    pretraining: list[str],
    recordings: str | None,
    data_dir: str,
) -> dict[str, dict[str, float]]:
    """Measures frontends, before one encoder."""
    measured, first_steps = {}, {}
    for name in names:
        for method in (None, *pretraining):
            row = f"{name} {method}" if method else name
            what = {
                "name": name,
                "encoder": encoder,
                "seconds": seconds,
                "pretraining": method,
                "recordings": recordings,
                "data_dir": data_dir,
            }
            first_steps[row] = first_step_alone(what)
            one = measured[row] = Measured(**what)
            if recordings is not None:
                # The first steps take batches that were made before them.
                for _ in range(rounds):
                    one.step()
                one.steps, one.waits = [], []
                for _ in range(rounds):
                    one.step()
                one.end()
    if recordings is None:
        for _ in range(rounds):
            for one in measured.values():
                one.step()
        for one in measured.values():
            one.end()
    first = statistics.median(next(iter(measured.values())).steps)
    rows = {}
    for name, one in measured.items():
        taken = statistics.median(one.steps)
        rows[name] = {
            "step_ms": 1000 * taken,
            "clips_per_second": one.batch_size / taken,
            "times_first": taken / first,
            "first_step_seconds": first_steps[name],
        }
        if recordings is not None:
            rows[name]["waits"] = sum(one.waits) / sum(one.steps)
    return rows


def print_tables(results: dict[str, dict[str, dict[str, float]]]) -> None:
    headings = ("a step", "clips/s", "× first row", "first step", "waits")
    for size, rows in results.items():
        table = rich.table.Table("frontend", title=size)
        for heading in headings:
            table.add_column(heading, justify="right")
        for name, row in rows.items():
            table.add_row(
                name,
                f"{row['step_ms']:.0f} ms",
                f"{row['clips_per_second']:.0f}",
                f"{row['times_first']:.2f}",
                f"{row['first_step_seconds']:.1f} s",
                f"{row['waits']:.1%}" if "waits" in row else "",
            )
        rich.console.Console(width=80).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    several = {"action": "append", "help": "may be repeated; by default all"}
    parser.add_argument("--frontend", choices=FRONTENDS, **several)
    parser.add_argument("--encoder", choices=ENCODERS, **several)
    parser.add_argument("--seconds", choices=MORE_CONFIGS, type=int, **several)
    parser.add_argument(
        "--pretraining",
        choices=PRETRAINING,
        action="append",
        default=[],
        help="may be repeated; by default none",
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--recordings", help="a folder as audio_folder reads")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data_dir:
        results = measure_all(options, data_dir)
    print_tables(results)
    if options.output:
        frontends.write(options.output, results)


def measure_all(
    options: argparse.Namespace, data_dir: str
) -> dict[str, dict[str, dict[str, float]]]:
    results = {}
    for encoder in options.encoder or ENCODERS:
        for seconds in options.seconds or MORE_CONFIGS:
            results[f"{encoder}, {seconds} s"] = measure(
                options.frontend or list(FRONTENDS),
                encoder,
                seconds,
                options.rounds,
                options.pretraining,
                options.recordings,
                data_dir,
            )
            # The models of this size are not needed any more.
            keras.backend.clear_session()
    return results


if __name__ == "__main__":
    main()
