"""The first steps of the classifier that gin configures, without data."""

from collections.abc import Sequence

import gin
import keras
import numpy as np

from leaf_audio.app import configuration, train
from leaf_audio.app.data_configurables import DATA_CONFIGURABLES
from leaf_audio.data.clips import Task
from leaf_audio.training import building, optimizers
from leaf_audio.training.step_watch import watched_steps

LABELS = 3


def losses_of_first_steps(
    steps: int,
    seq_len: int,
    labels: int = LABELS,
    is_multilabel: bool = False,
    tasks: Sequence[Task] = (),
) -> list[float]:
    """Trains on a batch of noise, and returns the loss before each step.

    Checks that all bindings have an effect but for those of the data. With
    `train.pretraining`, the batch has 8 pairs of views.
    """
    config = gin.get_configurable("train.train")()
    policy = config.dtype_policy or keras.config.dtype_policy()
    with building.seeded(config.seed, policy):
        model = building.build(
            config,
            train.make_model,
            num_outputs=labels,
            example_shape=(seq_len,),
            learning_rate=config.learning_rate,
            is_multilabel=is_multilabel,
            tasks=tasks,
        )
    configuration.check_all_used(later=DATA_CONFIGURABLES)
    rng = np.random.default_rng(0)
    shape = (8, 2, seq_len) if config.pretraining else (8, seq_len)
    audio = rng.standard_normal(shape).astype("float32")
    # Those of pairs are the numbers of the clips.
    targets = np.arange(8) if config.pretraining else np.arange(8) % labels
    if is_multilabel:
        targets = np.eye(labels, dtype="float32")[targets]
    losses = []
    factor = config.frontend_learning_rate_factor
    rate = optimizers.frontend_rate(model, factor, frozen_steps=0)
    with rate, watched_steps(model):
        for _ in range(steps):
            # Keras returns means of the steps since then.
            model.reset_metrics()
            logs = model.train_on_batch(audio, targets, return_dict=True)
            losses.append(float(logs["loss"]))
    return losses


def loss_of_first_step(
    seq_len: int,
    labels: int = LABELS,
    is_multilabel: bool = False,
    tasks: Sequence[Task] = (),
) -> float:
    """Returns the first of the losses of `losses_of_first_steps`."""
    (loss,) = losses_of_first_steps(1, seq_len, labels, is_multilabel, tasks)
    return loss
