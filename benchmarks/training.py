"""Measures how many clips a second a classifier trains on, by frontend.

    python benchmarks/training.py --output=out.json
    python benchmarks/training.py --frontend=mel --frontend=leaf --seconds=1
    python benchmarks/training.py --frontend=mel --pretraining=cola

A model, its optimizer and its loss are those of a config of the frontend with
own_recordings.gin, and five_seconds.gin for clips of five seconds; the learning
rate is constant. The encoder is the residual network of that recipe, or
EfficientNet-B0. With --pretraining, a row is added for each frontend that
learns without labels, of as many clips of the same length, two views of each.
A step is compiled; its clips are noise in memory, so that
reading and augmenting them is left out (`benchmarks/data.py` measures that).

Values are medians. The steps go in rounds over the frontends, so that other
work of the machine slows all of them alike. "× first row" is the time of a step
divided by that behind the first frontend. "first step" includes building the
model, planning its filters and compiling it; that of the first model also
includes what the backend does once.
"""

import argparse
import statistics
import time

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

SAMPLE_RATE = 16000
LABELS = 10
FRONTENDS = {
    "mel": "mel.gin",
    "leaf": "leaf.gin",
    "efficient_leaf": "efficient_leaf.gin",
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
        batch_size: Clips in a step.
    """

    def __init__(
        self, config: str, encoder: str, seconds: int, pretraining: str | None
    ):
        more = []
        if pretraining is not None:
            more += [
                f"train.pretraining = {PRETRAINING[pretraining]}",
                "train.label_smoothing = 0",
            ]
        configuration.parse(
            [config, "own_recordings.gin", *MORE_CONFIGS[seconds]],
            [*ENCODERS[encoder], *more],
        )
        settings = gin.get_configurable("train.train")()
        self.batch_size = settings.batch_size
        self.steps: list[float] = []
        rng = np.random.default_rng(0)
        views = () if pretraining is None else (2,)
        shape = (self.batch_size, *views, seconds * SAMPLE_RATE)
        self._audio = rng.standard_normal(shape, "float32")
        self._labels = rng.integers(LABELS, size=self.batch_size)
        start = time.perf_counter()
        self._model = building.build(
            settings,
            train.make_model,
            num_outputs=LABELS,
            example_shape=shape[-1:],
            learning_rate=settings.learning_rate,
        )
        self._model.train_on_batch(self._audio, self._labels)
        self.first_step = time.perf_counter() - start

    def step(self) -> None:
        """Takes a step, and records its time."""
        start = time.perf_counter()
        self._model.train_on_batch(self._audio, self._labels)
        self.steps.append(time.perf_counter() - start)


def measure(
    names: list[str],
    encoder: str,
    seconds: int,
    rounds: int,
    pretraining: list[str],
) -> dict[str, dict[str, float]]:
    """Measures frontends in turns, before one encoder."""
    measured = {
        f"{name} {method}" if method else name: Measured(
            FRONTENDS[name], encoder, seconds, method
        )
        for name in names
        for method in (None, *pretraining)
    }
    for _ in range(rounds):
        for one in measured.values():
            one.step()
    first = statistics.median(next(iter(measured.values())).steps)
    rows = {}
    for name, one in measured.items():
        taken = statistics.median(one.steps)
        rows[name] = {
            "step_ms": 1000 * taken,
            "clips_per_second": one.batch_size / taken,
            "times_first": taken / first,
            "first_step_seconds": one.first_step,
        }
    return rows


def print_table(results: dict[str, dict[str, dict[str, float]]]) -> None:
    table = rich.table.Table("encoder, clips", "frontend")
    for heading in ("a step", "clips/s", "× first row", "first step"):
        table.add_column(heading, justify="right")
    for size, rows in results.items():
        for name, row in rows.items():
            table.add_row(
                size,
                name,
                f"{row['step_ms']:.0f} ms",
                f"{row['clips_per_second']:.0f}",
                f"{row['times_first']:.2f}",
                f"{row['first_step_seconds']:.1f} s",
            )
        table.add_section()
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
    options = parser.parse_args()
    results = {}
    for encoder in options.encoder or ENCODERS:
        for seconds in options.seconds or MORE_CONFIGS:
            results[f"{encoder}, {seconds} s"] = measure(
                options.frontend or list(FRONTENDS),
                encoder,
                seconds,
                options.rounds,
                options.pretraining,
            )
            # The models of this size are not needed any more.
            keras.backend.clear_session()
    print_table(results)
    if options.output:
        frontends.write(options.output, results)


if __name__ == "__main__":
    main()
