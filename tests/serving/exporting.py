"""What the tests of exports share."""

import keras
import pytest

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT and SavedModels are written on TensorFlow",
)
