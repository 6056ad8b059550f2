"""How far a run has come, and whether it may go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from leaf_audio.training.config import TrainingConfig

if TYPE_CHECKING:
    from leaf_audio.training.workdir import Workdir

# Settings that may change between a run and its continuation.
_FREE = ("train.workdir", "train.data_dir", "train.num_epochs")


@dataclasses.dataclass
class Progress:
    """The settings of a run, and the metrics of its completed epochs.

    Args:
        identity: dict. The settings that make it this run and no other: text
            by name. The data set and its fingerprint are among them.
        history: list of dicts. For each completed epoch, its number ("epoch",
            from 1), its metrics ("loss", "accuracy", "val_loss",
            "val_accuracy") and its duration ("seconds"). Defaults to none.
    """

    identity: dict[str, str]
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The number, from 1, of the best epoch.

        This is the epoch with the highest validation accuracy. Of several such
        epochs, it is the one with the lowest validation loss, and of several
        such again, the earliest.
        """

        def rank(row: dict[str, float]) -> tuple[float, float, float]:
            return row["val_accuracy"], -row["val_loss"], -row["epoch"]

        return int(max(self.history, key=rank)["epoch"])


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Describes the settings in which two configurations differ.

    Args:
        one: The earlier settings, by name.
        other: The later settings, by name.

    Returns:
        One text for each difference, such as "train.seed (was 0, is 1)",
        sorted by name.
    """
    return [
        f"{key} (was {one.get(key, 'not set')}, is {other.get(key, 'not set')})"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


def check_unfinished(
    folder: Workdir, progress: Progress | None, config: TrainingConfig
) -> None:
    """Checks that there are epochs left to train or results left to write.

    Args:
        folder: The folder of the run.
        progress: The progress of the run there, or None if there is no run.
        config: The settings of the run that is about to start.

    Raises:
        ValueError: If the run is finished, or has had more epochs already.
    """
    done = len(progress.history) if progress else 0
    if folder.results.exists() and done >= config.num_epochs:
        advice = (
            "Choose another workdir. This run cannot be trained further, "
            "because its learning rate has reached the end of its schedule"
            if config.has_fixed_length
            else "Choose another workdir, or raise train.num_epochs to train on"
        )
        raise ValueError(
            "`workdir` must not hold a finished run. Received: "
            f"workdir={str(folder.path)!r}, where {done} epochs are done and "
            f"results are in {folder.results}. {advice}. To evaluate it, use "
            "--mode=eval."
        )
    if done > config.num_epochs:
        raise ValueError(
            f"`num_epochs` must be at least the {done} epochs done in workdir "
            f"{str(folder.path)!r}. Received: num_epochs={config.num_epochs}."
        )


def check_same_run(
    folder: Workdir,
    progress: Progress,
    identity: Mapping[str, str],
    config: TrainingConfig,
) -> None:
    """Checks that a run goes on with the settings that it began with.

    The workdir, the data folder and the number of epochs may change. The
    number of epochs must stay if the learning rate depends on it.

    Args:
        folder: The folder of the run.
        progress: The progress of the run there.
        identity: The present settings, as in `Progress.identity`.
        config: The present settings of training.

    Raises:
        ValueError: If another setting differs. The message names each.
    """
    free = _FREE[:-1] if config.has_fixed_length else _FREE
    was, now = (
        {k: v for k, v in one.items() if k not in free}
        for one in (progress.identity, identity)
    )
    differing = differences(was, now)
    if differing:
        message = (
            "`workdir` must be new or hold a run of the same configuration. "
            f"Received: workdir={str(folder.path)!r}, whose run differs in: "
            f"{'; '.join(differing)}."
        )
        is_longer = any("train.num_epochs" in one for one in differing)
        if config.has_fixed_length and is_longer:
            message += " The schedule is made for the length it began with."
        raise ValueError(message)
