"""How the learning rate changes in the course of training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule as Schedule

from leaf_audio.common.checks import (
    check_not_negative,
    check_positive_int,
    check_rate,
)


@dataclasses.dataclass(frozen=True)
class ReduceOnPlateau:
    """Lowers the learning rate when the validation loss stops falling.

    Training ends when the rate would fall below a floor. The defaults are close
    to EfficientLEAF's (arXiv:2207.05508, section 4), whose plateaus have 11
    epochs. Each time the rate falls, the step is compiled again, which on JAX
    takes as long as a first step.

    Args:
        factor: float, from 0 to below 1. Multiplies the rate at a plateau.
            Defaults to 0.1.
        patience: int, at least 1. The number of epochs in a row without a new
            lowest validation loss that make a plateau. Defaults to 10.
        min_learning_rate: float, at least 0. The floor. With 0, training goes
            on to its last epoch. Defaults to 1e-5.

    Raises:
        ValueError: If an argument is out of its range.
    """

    factor: float = 0.1
    patience: int = 10
    min_learning_rate: float = 1e-5

    def __post_init__(self) -> None:
        check_rate("factor", self.factor)
        check_positive_int("patience", self.patience)
        check_not_negative("min_learning_rate", self.min_learning_rate)

    def scale(self, losses: Sequence[float]) -> float:
        """Returns what multiplies the learning rate of the next epoch.

        Args:
            losses: The validation losses of the epochs so far.
        """
        lowest, since, plateaus = float("inf"), 0, 0
        for loss in losses:
            since += 1
            if loss < lowest:
                lowest, since = loss, 0
            elif since == self.patience:
                plateaus, since = plateaus + 1, 0
        return self.factor**plateaus

    def is_below_floor(self, learning_rate: float) -> bool:
        """Returns whether a rate is so low that training ends."""
        # Rounding does not count: 1e-3 * 0.1**2 is below 1e-5 by a bit.
        return learning_rate * (1 + 1e-6) < self.min_learning_rate


def create(
    name: str | ReduceOnPlateau,
    learning_rate: float | Schedule,
    warmup_steps: int,
    total_steps: int,
    first_step: int = 0,
) -> float | Schedule:
    """Creates a schedule from its name.

    During the warm-up the rate rises linearly. In step `i`, counted from 0, it
    is `learning_rate * (i + 1) / (warmup_steps + 1)`.

    A run that is trained further starts a new schedule (a warm restart,
    arXiv:1608.03983), whose step 0 is `first_step`.

    Args:
        name: str. "constant" keeps `learning_rate` after the warm-up. "cosine"
            lowers it along half a cosine, to 0 after the last step. Or a
            ReduceOnPlateau, for a `Scaled` rate.
        learning_rate: float, above 0. The highest rate. Or a schedule of Keras,
            which is returned as it is.
        warmup_steps: int, at least 0. The number of steps of the warm-up. With
            "cosine", at least one step always comes after them.
        total_steps: int, at least 1. The number of steps of the schedule.
        first_step: int, at least 0. The number of steps before the schedule.
            Defaults to 0.

    Returns:
        What a Keras optimizer takes as its `learning_rate`.
    """
    if isinstance(learning_rate, Schedule):
        return learning_rate
    if name == "cosine":
        # A fraction of an epoch may have been rounded up to all steps.
        warmup_steps = min(warmup_steps, total_steps - 1)
    schedules = keras.optimizers.schedules
    first = learning_rate / (warmup_steps + 1)
    made: float | Schedule = learning_rate
    if name == "cosine":
        made = schedules.CosineDecay(
            first if warmup_steps else learning_rate,
            decay_steps=total_steps - warmup_steps,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    elif warmup_steps:
        made = schedules.PolynomialDecay(first, warmup_steps, learning_rate)
    if first_step and isinstance(made, Schedule):
        made = Delayed(made, first_step)
    return Scaled(made, 1.0) if isinstance(name, ReduceOnPlateau) else made


@keras.saving.register_keras_serializable("leaf_audio")
class Delayed(Schedule):
    """Follows a schedule from a later step on.

    Args:
        schedule: The schedule, whose step 0 is `first_step`.
        first_step: int, at least 0. Before this step, the rate is that of the
            schedule's step 0.
    """

    def __init__(self, schedule: Schedule, first_step: int):
        super().__init__()
        self.schedule = schedule
        self.first_step = first_step

    def __call__(self, step: Any) -> Any:
        step = keras.ops.convert_to_tensor(step)
        return self.schedule(keras.ops.maximum(step - self.first_step, 0))

    def get_config(self) -> dict[str, Any]:
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "first_step": self.first_step}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Delayed":
        """Creates a schedule from the config that `get_config` has returned."""
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(schedule, config["first_step"])


@keras.saving.register_keras_serializable("leaf_audio")
class Scaled(Schedule):
    """Multiplies a learning rate by a number.

    Args:
        rate: float or schedule. The learning rate.
        scale: float, at least 0. Multiplies it. A step that is compiled keeps
            the value that it was compiled with.
    """

    def __init__(self, rate: float | Schedule, scale: float):
        super().__init__()
        self.rate = rate
        self.scale = scale

    def __call__(self, step: Any) -> Any:
        rate = self.rate(step) if callable(self.rate) else self.rate
        return keras.ops.convert_to_tensor(rate, "float32") * self.scale

    def get_config(self) -> dict[str, Any]:
        rate = self.rate
        if isinstance(rate, Schedule):
            rate = keras.optimizers.schedules.serialize(rate)
        return {"rate": rate, "scale": self.scale}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Scaled":
        """Creates a schedule from the config that `get_config` has returned."""
        rate = config["rate"]
        if isinstance(rate, dict):
            rate = keras.optimizers.schedules.deserialize(rate)
        return cls(rate, config["scale"])
