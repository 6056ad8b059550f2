"""The first step of the classifier that gin configures, without data."""

import gin
import keras
import numpy as np

from leaf_audio.app import configuration, train
from leaf_audio.app.data_configurables import DATA_CONFIGURABLES
from leaf_audio.training import building

LABELS = 3


def loss_of_first_step(
    seq_len: int, labels: int = LABELS, is_multilabel: bool = False
) -> float:
    """Trains on a batch of noise, and returns the loss before the step.

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
        )
    configuration.check_all_used(later=DATA_CONFIGURABLES)
    rng = np.random.default_rng(0)
    shape = (8, 2, seq_len) if config.pretraining else (8, seq_len)
    audio = rng.standard_normal(shape).astype("float32")
    targets = np.arange(8) % labels
    if is_multilabel:
        targets = np.eye(labels, dtype="float32")[targets]
    return float(model.train_on_batch(audio, targets)[0])
