"""Short runs on the tones, for tests of training."""

import csv
import pathlib
from typing import Any

from tones import bindings

from leaf_audio.app import configuration, train


class Loaded(Exception):
    """Data was asked for."""


def train_with(
    folder: pathlib.Path, workdir: pathlib.Path, *more: str, **parts: Any
) -> dict[str, Any]:
    """Trains on the tones of `folder`; see `tones.bindings`."""
    workdir = f"train.workdir = '{workdir}'"
    configuration.parse([], bindings(folder, workdir, *more, **parts))
    return train.train()


def rows(workdir: pathlib.Path) -> list[dict[str, str]]:
    """Returns metrics.csv without the seconds, which differ between runs."""
    with open(workdir / "metrics.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(file)
        ]
