"""Spectrograms for tests of SpecAugment, and settings that switch it off."""

import keras
import numpy as np
from keras import ops

OFF = {
    "freq_mask_count": 0,
    "time_mask_count": 0,
    "time_warp_max_frames": 0,
}


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


def ramp(batch: int, frames: int, bins: int = 3) -> np.ndarray:
    """Frame t holds t + 1, so that resampling shows where it read."""
    values = np.arange(1.0, frames + 1, dtype="float32")[None, :, None]
    return np.broadcast_to(values, (batch, frames, bins)).copy()


def run(layer: keras.layers.Layer, inputs, **kwargs) -> np.ndarray:
    return ops.convert_to_numpy(layer(inputs, training=True, **kwargs))
