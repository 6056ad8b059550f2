"""Windows by their names."""

import numpy as np
import pytest

from leaf_audio import impulse_responses

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("size", [1, 2, 3, 4, 25, 400, 401])
def test_tensorflows_window_is_tensorflows(size):
    tf = pytest.importorskip("tensorflow")
    expected = tf.signal.hann_window(size, dtype=tf.float64).numpy()
    for compute in (impulse_responses.window, impulse_responses.stft_window):
        values = compute("tf_hann", size)
        assert values.dtype == "float64"
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-15)


def test_an_unknown_window_is_named_with_the_choices():
    with pytest.raises(ValueError, match="'hann'.*'tf_hann'.*window='nope'"):
        impulse_responses.stft_window("nope", 4)
    with pytest.raises(ValueError, match="'hanning'.*window_type='hann'"):
        impulse_responses.window("hann", 4)
