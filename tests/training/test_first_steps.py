"""No shipped config begins far above guessing, or jumps there at once."""

import keras
import numpy as np
import pytest
from tones import LABELS, one_step

from leaf_audio.app import configuration, train
from leaf_audio.training import fitting

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_gin")]

STEPS = 20
# `own_recordings.gin` is tried behind each of them too.
FRONTENDS = (
    *("efficient_leaf", "leaf", "leaf_erb", "mel", "mel_pcen"),
    *("sincnet", "sincnet_plus", "tfbanks"),
)
OTHERS = ("leaf_custom", "leaf_efficientnet_b0", "quickstart")
RECIPE = ["audio_folder.gin", "own_recordings.gin"]


class Enough(Exception):
    """The first steps are done."""


@pytest.mark.parametrize(
    "files",
    [
        *([f"{name}.gin"] for name in (*FRONTENDS, *OTHERS)),
        *([f"{name}.gin", *RECIPE] for name in FRONTENDS),
    ],
    ids=lambda files: "+".join(file.removesuffix(".gin") for file in files),
)
def test_the_loss_stays_near_that_of_guessing(
    folder, tmp_path, monkeypatch, files
):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another backend compiles for minutes")
    means = []

    def collect(self, batch, logs=None):
        means.append(logs["loss"])
        if len(means) == STEPS:
            raise Enough

    monkeypatch.setattr(fitting.Recorder, "on_train_batch_end", collect)
    bindings = one_step(folder, tmp_path / "run", seq_len=4000)
    # The rate rises as in the recipe.
    bindings = [one for one in bindings if "warmup_epochs" not in one]
    steps = f"train.steps_per_epoch = {STEPS + 10}"
    configuration.parse(files, [*bindings, steps, "train.num_epochs = 24"])
    with pytest.raises(Enough):
        train.train()
    # The logs have the mean over the steps so far.
    sums = np.array(means) * np.arange(1, STEPS + 1)
    losses = np.diff(sums, prepend=0)
    assert losses.max() < 1.5 * np.log(len(LABELS)), losses
