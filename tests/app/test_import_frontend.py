"""A config can start from the weights of another system."""

import gin
import keras
import numpy as np
import pytest

from leaf_audio import frontend
from leaf_audio.app import configuration, train  # noqa: F401

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


def test_a_config_starts_from_imported_weights(tmp_path):
    filters = np.array([[0.1, 20.0], [0.5, 30.0]], "float32")
    np.savez(
        tmp_path / "leaf.npz",
        **{
            "complex_conv.kernel": filters,
            "pooling.weights": np.full((1, 1, 2, 1), 0.4),
            "pooling._bias": np.ones(2),
        },
    )
    configuration.parse(
        ["example/configs/leaf.gin"],
        [
            "AudioClassifier.frontend = @import_frontend()",
            f"import_frontend.source = '{tmp_path / 'leaf.npz'}'",
            "AudioClassifier.num_outputs = 3",
            "ConvNet.filters = [4]",
            "sample_rate = 8000",
        ],
    )
    model = gin.get_configurable("AudioClassifier")()
    assert type(model.frontend) is frontend.Leaf
    assert model.frontend.sample_rate == 8000
    kernel = model.frontend.filter_layer().kernel
    np.testing.assert_allclose(keras.ops.convert_to_numpy(kernel), filters)
    assert model(np.zeros((1, 8000), "float32")).shape == (1, 3)
