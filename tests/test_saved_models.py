"""Models that were saved before their modules moved load and compute the same.

The files were written when each module of leaf_audio was a single file: an
AudioClassifier of a Leaf with PCEN, SpecAugment and a ConvNet, and one of
MelFilterbanks whose compression is a partial. They were packed again with
compression, which changes nothing that they hold.
"""

import pathlib

import keras
import numpy as np
import pytest

import leaf_audio  # noqa: F401  It registers the classes of the files.

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["leaf_classifier", "mel_classifier"])
def test_a_file_from_before_the_move_loads(name, golden):
    arrays = golden("saved_models")
    model = keras.models.load_model(GOLDEN / f"saved_{name}.keras")
    logits = keras.ops.convert_to_numpy(model(arrays["waveform"]))
    np.testing.assert_allclose(logits, arrays[name], rtol=1e-5, atol=1e-5)
