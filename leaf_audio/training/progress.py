"""How far a run has come, and whether it may go on."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leaf_audio.training.config import TrainingConfig
from leaf_audio.training.schedules import ReduceOnPlateau

if TYPE_CHECKING:
    from leaf_audio.training.workdir import Workdir

# Settings that have no effect on the results of a run: how the data is read,
# and where the run is computed.
_WITHOUT_EFFECT = (
    "train.checkpoint_minutes",
    "data.prepare.worker_processes",
    "data.prepare.max_cache_bytes",
    "data_parallel.address",
    "data_parallel.devices",
    "data_parallel.num_processes",
    "data_parallel.process",
    "mirrored.devices",
    "tpu.address",
)
# Settings that may change between a run and its continuation. Whether
# recordings and teacher are the same is told by their fingerprints.
_FREE = (
    *_WITHOUT_EFFECT,
    "train.workdir",
    "train.data_dir",
    "train.num_epochs",
    "audio_folder.path",
    "audio_folder.on_error",
    "tfrecords.path",
    "tfrecords.on_error",
    "NpzTeacher.path",
    "RunTeacher.path",
    "train.teacher.path",
)


@dataclasses.dataclass
class Progress:
    """The settings of a run, and the metrics of its completed epochs.

    Args:
        identity: dict. The settings that make it this run and no other: text
            by name. The data set and its fingerprint are among them.
        history: list of dicts. For each completed epoch, its number ("epoch",
            from 1), its metrics (such as "loss", "accuracy", "val_loss" and
            "val_accuracy") and its duration ("seconds"). Defaults to none.
        ends: list of int. The number of epochs after which each schedule of the
            learning rate ends: one, and another each time that the finished run
            was trained further. Defaults to none, for `begin_schedule` to add.
        keep: str. "best" or "last", the epoch whose model is kept. Defaults to
            "best".
        first_candidate: int. The first epoch that may be the best one. Above 1
            where the model of an earlier one was lost. Defaults to 1.
        moves: bool. Whether the learning rate changes over the whole schedule,
            so that its length must stay. Defaults to False, for
            `begin_schedule` to set.
        data: dict. The "labels" of the data set, and "is_multilabel", whether a
            clip may have several. Empty in a run of an earlier version.
    """

    identity: dict[str, str]
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    ends: list[int] = dataclasses.field(default_factory=list)
    keep: str = "best"
    first_candidate: int = 1
    moves: bool = False
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    def begin_schedule(self, num_epochs: int, moves: bool) -> tuple[int, int]:
        """Finds the schedule for the next epoch, or begins a new one.

        Args:
            num_epochs: The number of epochs to train in total.
            moves: Whether the learning rate changes over the whole schedule, so
                that its length must stay.

        Returns:
            The epochs at which the schedule begins and ends.

        Raises:
            ValueError: If the present schedule has another length.
        """
        self.moves = moves
        done = len(self.history)
        if not moves or not self.ends or done == 0:
            # A constant rate has one schedule, of any length.
            self.ends = [num_epochs]
        elif done == self.ends[-1] and num_epochs > done:
            self.ends.append(num_epochs)
        elif num_epochs != self.ends[-1]:
            raise ValueError(
                f"`num_epochs` must be {self.ends[-1]} until the run is "
                "finished, since the schedule of its learning rate has this "
                f"length. Received: num_epochs={num_epochs}, after epoch "
                f"{done}. A finished run can be trained further."
            )
        return ([0, *self.ends][-2], num_epochs)

    @property
    def best_epoch(self) -> int:
        """The number, from 1, of the best epoch.

        This is the epoch with the highest validation accuracy, or with the
        highest mean average precision in validation where clips have several
        labels. Of several such epochs, it is the one with the lowest validation
        loss, and of several such again, the earliest.
        """

        def rank(row: dict[str, float]) -> tuple[float, float, float]:
            # The mean average precision is undefined, and left out, where no
            # clip has a label.
            main = row.get("val_map", row.get("val_accuracy", 0.0))
            return main, -row["val_loss"], -row["epoch"]

        candidates = self.history[self.first_candidate - 1 :]
        return int(max(candidates, key=rank)["epoch"])

    @property
    def kept_epoch(self) -> int:
        """The number, from 1, of the epoch whose model is kept."""
        return len(self.history) if self.keep == "last" else self.best_epoch


def differences(
    one: Mapping[str, str],
    other: Mapping[str, str],
    defaults: Mapping[str, str] | None = None,
) -> list[str]:
    """Describes the settings in which two configurations differ.

    Args:
        one: The earlier settings, by name.
        other: The later settings, by name.
        defaults: What a setting is that the earlier ones lack, by name.
            Defaults to none.

    Returns:
        One text for each difference, such as "train.seed (was 0, is 1)",
        sorted by name.
    """
    absent = {k: v for k, v in (defaults or {}).items() if k in other}
    one = {**absent, **one}
    return [
        f"{key} (was {one.get(key, 'not set')}, is {other.get(key, 'not set')})"
        for key in sorted({*one, *other})
        if not _same(one.get(key), other.get(key))
    ]


def _same(one: str | None, other: str | None) -> bool:
    """Returns whether two texts stand for the same value, as 0 and 0.0 do."""
    if one == other or one is None or other is None:
        return one == other
    try:
        return ast.literal_eval(one) == ast.literal_eval(other)
    except (SyntaxError, ValueError):
        # A name, such as that of a class.
        return False


def check_unfinished(
    folder: Workdir, progress: Progress | None, config: TrainingConfig
) -> None:
    """Checks that there are epochs left to train or results left to write.

    Args:
        folder: The folder of the run.
        progress: The progress of the run there, or None if there is no run.
        config: The settings of the run that is about to start.

    Raises:
        ValueError: If the run is finished, or has had more epochs already, or
            has ended at the floor of its learning rate.
    """
    done = len(progress.history) if progress else 0
    finished = bool(done) and folder.finished_epochs() == done
    if finished and done >= config.num_epochs:
        raise ValueError(
            "`workdir` must not hold a finished run. Received: "
            f"workdir={str(folder.path)!r}, where {done} epochs are done and "
            f"results are in {folder.results}. Choose another workdir, or "
            "raise train.num_epochs to train on. To evaluate it, use "
            "--mode=eval."
        )
    plateau = config.learning_rate_schedule
    if finished and isinstance(plateau, ReduceOnPlateau):
        losses = [row["val_loss"] for row in progress.history]
        rate = config.learning_rate * plateau.scale(losses)
        if plateau.is_below_floor(rate):
            raise ValueError(
                "`workdir` must not hold a run that has ended at the floor of "
                f"its learning rate. Received: workdir={str(folder.path)!r}, "
                f"which ended after epoch {done}. Choose another workdir, with "
                "a lower ReduceOnPlateau.min_learning_rate to train longer."
            )
    if done > config.num_epochs:
        raise ValueError(
            f"`num_epochs` must be at least the {done} epochs done in workdir "
            f"{str(folder.path)!r}. Received: num_epochs={config.num_epochs}."
        )


def same_run(identity: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that may not change when a run goes on."""
    return _without(_FREE, identity)


def with_effect(settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that have an effect on the results of a run."""
    return _without(_WITHOUT_EFFECT, settings)


def _without(
    names: Sequence[str], settings: Mapping[str, str]
) -> dict[str, str]:
    # What stands before the slash is a scope, such as that of a task.
    return {
        k: v for k, v in settings.items() if k.rpartition("/")[2] not in names
    }


def check_same_run(
    folder: Workdir,
    progress: Progress,
    identity: Mapping[str, str],
    defaults: Mapping[str, str],
) -> None:
    """Checks that a run goes on with the settings that it began with.

    The workdir, the data folder and the number of epochs may change. Whether
    the schedule allows that number of epochs is checked elsewhere. A setting
    that the run has not recorded, since an earlier version began it, must have
    its default.

    Args:
        folder: The folder of the run.
        progress: The progress of the run there.
        identity: The present settings, as in `Progress.identity`.
        defaults: The default of each setting that has one, by name.

    Raises:
        ValueError: If another setting differs. The message names each.
    """
    check_same_settings(
        f"workdir={str(folder.path)!r}",
        same_run(progress.identity),
        same_run(identity),
        defaults,
    )


def check_same_settings(
    found: str,
    was: Mapping[str, str],
    now: Mapping[str, str],
    defaults: Mapping[str, str] | None = None,
    otherwise: str = "",
) -> None:
    """Checks that two configurations of a run are the same.

    Args:
        found: Where the earlier one was found, for the message.
        was: The earlier settings, by name.
        now: The later settings, by name.
        defaults: As in `differences`.
        otherwise: What else may be done, after "choose another workdir".
            Defaults to nothing.

    Raises:
        ValueError: If a setting differs. The message names each.
    """
    differing = differences(was, now, defaults)
    if differing:
        raise ValueError(
            "`workdir` must be new or hold a run of the same configuration. "
            f"Received: {found}, whose run differs in: "
            f"{'; '.join(differing)}. Give them as they were, or choose "
            f"another workdir{otherwise}."
        )
