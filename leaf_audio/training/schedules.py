"""How the learning rate changes in the course of training."""

from typing import Any

import keras


def create(
    name: str,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    first_step: int = 0,
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Creates a schedule from its name.

    During the warm-up the rate rises linearly. In step `i`, counted from 0, it
    is `learning_rate * (i + 1) / (warmup_steps + 1)`.

    A run that is trained further starts a new schedule (a warm restart,
    arXiv:1608.03983), whose step 0 is `first_step`.

    Args:
        name: str. "constant" keeps `learning_rate` after the warm-up. "cosine"
            lowers it along half a cosine, to 0 after the last step.
        learning_rate: float, above 0. The highest rate.
        warmup_steps: int, at least 0. The number of steps of the warm-up. At
            least one step always comes after them.
        total_steps: int, at least 1. The number of steps of the schedule.
        first_step: int, at least 0. The number of steps before the schedule.
            Defaults to 0.

    Returns:
        What a Keras optimizer takes as its `learning_rate`.
    """
    # A fraction of an epoch may have been rounded up to all steps.
    warmup_steps = min(warmup_steps, total_steps - 1)
    schedules = keras.optimizers.schedules
    first = learning_rate / (warmup_steps + 1)
    if name == "cosine":
        made = schedules.CosineDecay(
            first if warmup_steps else learning_rate,
            decay_steps=total_steps - warmup_steps,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    elif warmup_steps:
        made = schedules.PolynomialDecay(first, warmup_steps, learning_rate)
    else:
        return learning_rate
    return Delayed(made, first_step) if first_step else made


@keras.saving.register_keras_serializable("leaf_audio")
class Delayed(keras.optimizers.schedules.LearningRateSchedule):
    """Follows a schedule from a later step on.

    Args:
        schedule: The schedule, whose step 0 is `first_step`.
        first_step: int, at least 0. Before this step, the rate is that of the
            schedule's step 0.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        first_step: int,
    ):
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
