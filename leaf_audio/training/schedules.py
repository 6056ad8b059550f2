"""How the learning rate changes in the course of training."""

import keras


def create(
    name: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Creates a schedule from its name.

    During the warm-up the rate rises linearly. In step `i`, counted from 0, it
    is `learning_rate * (i + 1) / (warmup_steps + 1)`.

    Args:
        name: str. "constant" keeps `learning_rate` after the warm-up. "cosine"
            lowers it along half a cosine, to 0 after the last step.
        learning_rate: float, above 0. The highest rate.
        warmup_steps: int, at least 0. The number of steps of the warm-up. At
            least one step always comes after them.
        total_steps: int, at least 1. The number of steps of the training.

    Returns:
        What a Keras optimizer takes as its `learning_rate`.
    """
    # A fraction of an epoch may have been rounded up to all steps.
    warmup_steps = min(warmup_steps, total_steps - 1)
    schedules = keras.optimizers.schedules
    first = learning_rate / (warmup_steps + 1)
    if name == "cosine":
        return schedules.CosineDecay(
            first if warmup_steps else learning_rate,
            decay_steps=total_steps - warmup_steps,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if warmup_steps:
        return schedules.PolynomialDecay(first, warmup_steps, learning_rate)
    return learning_rate
