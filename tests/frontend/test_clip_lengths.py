"""A clip has the same frames alone and in a batch of longer clips."""

import functools

import keras
import numpy as np
import pytest
from frontend_makers import noise
from gradients import grad_mean_square
from keras import ops

from leaf_audio import frontend, postprocessing
from leaf_audio.postprocessing import PCENLayer

TIME = 16000

# What decides where frames lie. Compressions follow in a test of their own.
FRONTENDS = {
    "leaf": frontend.Leaf,
    "leaf_exact": functools.partial(frontend.Leaf, tolerance=0),
    # With frames computed from spectra, and hops that do not divide the stride.
    "leaf_spectral": functools.partial(
        frontend.Leaf, n_filters=64, window_stride=10.2
    ),
    "leaf_preemp": functools.partial(frontend.Leaf, preemp=True, n_filters=8),
    "leaf_short_window": functools.partial(
        frontend.Leaf, n_filters=8, window_len=4.0, window_stride=8.0
    ),
    "leaf_valid": functools.partial(frontend.Leaf, pooling_padding="valid"),
    "leaf_centred": functools.partial(frontend.Leaf, pooling_padding="centred"),
    "leaf_causal": functools.partial(frontend.Leaf, pooling_padding="causal"),
    "tfbanks": functools.partial(frontend.TimeDomainFilterbanks, n_filters=8),
    "sincnet": functools.partial(frontend.SincNet, n_filters=8),
    "sincnet_centred": functools.partial(
        frontend.SincNet, n_filters=8, pooling_padding="centred"
    ),
    "sincnet_plus": functools.partial(frontend.SincNetPlus, n_filters=8),
    "efficient_leaf": frontend.EfficientLeaf,
    "mel": frontend.MelFilterbanks,
    "spectrogram": functools.partial(frontend.Spectrogram, compression_fn="db"),
}

LEAF = functools.partial(frontend.Leaf, n_filters=8)

COMPRESSIONS = {
    "none": functools.partial(LEAF, compression_fn=None),
    "log": functools.partial(LEAF, compression_fn="log"),
    "db": functools.partial(
        frontend.Spectrogram,
        compression_fn=functools.partial(frontend.db_compression, ref="max"),
    ),
    "pcen_log": functools.partial(
        LEAF, compression_fn=PCENLayer(parametrization="log", initial_energy=1)
    ),
    "logtbn": functools.partial(
        LEAF, compression_fn=postprocessing.LogTBN(median="subtract")
    ),
    "median": functools.partial(
        LEAF, compression_fn=postprocessing.TemporalMedianSubtraction()
    ),
    "mean_var_norm": functools.partial(LEAF, mean_var_norm=True),
    "log_mean_var_norm": functools.partial(
        LEAF, compression_fn="log", mean_var_norm=True
    ),
    "sincnet_mean_var_norm": functools.partial(
        frontend.SincNet, n_filters=8, mean_var_norm=True
    ),
}


def numpy(x):
    return ops.convert_to_numpy(x)


def mask_of(lengths, time=TIME):
    return ops.convert_to_tensor(
        np.arange(time)[None] < np.array(lengths)[:, None]
    )


def assert_as_alone(layer, x, lengths, features, frame_mask):
    """Compares the valid frames of each clip with those of the clip alone."""
    # Noise instead of zeros in the padding shows that nothing looks at it.
    assert np.isfinite(features).all()
    for clip, n, padded, valid in zip(
        x, lengths, features, frame_mask, strict=True
    ):
        alone = numpy(layer(clip[None, :n]))[0]
        assert valid.tolist() == [m < len(alone) for m in range(len(valid))]
        scale = max(np.ptp(features), np.abs(alone).max())
        np.testing.assert_allclose(
            padded[: len(alone)], alone, rtol=0, atol=1e-5 * scale
        )


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.slow_on_jax
def test_a_padded_clip_has_the_frames_of_the_clip_alone(name):
    layer = FRONTENDS[name]()
    lengths = [TIME, 9000, 4801, 420]
    if name != "leaf_valid":
        # Shorter than the window.
        lengths.append(100)
    x, mask = noise(len(lengths), TIME), mask_of(lengths)
    features = numpy(layer(x, mask=mask))
    frame_mask = numpy(layer.compute_mask(x, mask))
    assert_as_alone(layer, x, lengths, features, frame_mask)


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.slow_on_jax
def test_it_has_them_with_every_compression(name):
    layer = COMPRESSIONS[name]()
    lengths = [9000, 2001]
    # The loudest samples are the last ones, where a maximum would find them.
    x = noise(2, TIME)
    for clip, n in zip(x, lengths, strict=True):
        clip[n - 30 : n] *= 100
    mask = mask_of(lengths)
    features = numpy(layer(x, mask=mask))
    frame_mask = numpy(layer.compute_mask(x, mask))
    assert_as_alone(layer, x, lengths, features, frame_mask)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("window_ms", [3.0, 10.0, 10.1, 13.3, 25.0])
def test_it_has_them_for_every_remainder_of_the_stride(window_ms):
    """Windows around the stride and over it, of odd and even lengths."""
    layer = frontend.Leaf(
        n_filters=2,
        sample_rate=1000,
        window_len=window_ms,
        window_stride=10.0,
        compression_fn=None,
        tolerance=0,
    )
    time = 24
    lengths = list(range(1, time + 1))
    x = 10 * noise(time, time)
    mask = mask_of(lengths, time)
    features = numpy(layer(x, mask=mask))
    frame_mask = numpy(layer.compute_mask(x, mask))
    assert_as_alone(layer, x, lengths, features, frame_mask)


@pytest.mark.parametrize("name", ["leaf_spectral", "efficient_leaf"])
@pytest.mark.slow_on_jax
@pytest.mark.slow
def test_it_has_them_where_sizes_are_unknown(name):
    """Compiled, by XLA where the backend has it."""
    layer = FRONTENDS[name]()
    audio = keras.Input((None,))
    mask = keras.Input((None,), dtype="bool")
    model = keras.Model([audio, mask], layer(audio, mask=mask))
    compiled = keras.backend.backend() != "torch"
    model.compile(jit_compile=compiled)
    lengths = [9000, 2001]
    x = noise(2, 9100)
    features = model.predict(
        [x, numpy(mask_of(lengths, 9100))], verbose=0, batch_size=2
    )
    frame_mask = numpy(layer.compute_mask(x, mask_of(lengths, 9100)))
    assert_as_alone(layer, x, lengths, features, frame_mask)


class WithMask(keras.layers.Layer):
    """Calls a frontend with a mask, and returns the frames of the clip."""

    def __init__(self, layer, length, frames):
        super().__init__()
        self.layer = layer
        self._length, self._frames = length, frames

    def call(self, audio, training=False):
        lengths = [self._length] * audio.shape[0]
        mask = mask_of(lengths, audio.shape[1])
        return self.layer(audio, mask=mask, training=training)[
            :, : self._frames
        ]


@pytest.mark.parametrize(
    "name", ["leaf_exact", "leaf_spectral", "leaf_centred", "sincnet"]
)
@pytest.mark.slow_on_jax
def test_gradients_are_those_of_the_clip_alone(name):
    layer = FRONTENDS[name]()
    x = noise(2, 3200)
    frames = layer(x[:, :2001]).shape[1]
    of_input, of_weights = grad_mean_square(WithMask(layer, 2001, frames), x)
    alone, of_weights_alone = grad_mean_square(layer, x[:, :2001])
    assert (of_input[:, 2001:] == 0).all()
    pairs = [(of_input[:, :2001], alone)]
    pairs += zip(of_weights, of_weights_alone, strict=True)
    for padded, expected in pairs:
        np.testing.assert_allclose(
            padded, expected, rtol=0, atol=2e-4 * np.abs(expected).max()
        )


@pytest.mark.parametrize("name", ["leaf", "sincnet", "efficient_leaf", "mel"])
@pytest.mark.slow_on_jax
def test_masked_samples_within_a_clip_are_silence(name):
    """Holes, and padding on the left: the clip ends at its last sample."""
    # The median of LogTBN would leave out the frames of a hole.
    settings = {"compression_fn": "log"} if name == "efficient_leaf" else {}
    layer = FRONTENDS[name](**settings)
    x = noise(2, 4000)
    valid = np.zeros((2, 4000), bool)
    valid[0, :1000] = valid[0, 1400:2500] = True
    valid[1, 700:4000] = True
    mask = ops.convert_to_tensor(valid)
    features = numpy(layer(x, mask=mask))
    frame_mask = numpy(layer.compute_mask(x, mask))
    stride = -(-4000 // features.shape[1])
    np.testing.assert_array_equal(frame_mask, valid[:, ::stride])
    for i, n in enumerate((2500, 4000)):
        silenced = np.where(valid[i, :n], x[i, :n], 0)
        expected = numpy(layer(silenced[None]))[0]
        np.testing.assert_allclose(
            features[i, : len(expected)], expected, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", ["leaf", "sincnet", "efficient_leaf", "mel"])
def test_a_clip_without_a_valid_sample_has_no_frames(name):
    layer = FRONTENDS[name]()
    x, mask = noise(2, 1600), mask_of([0, 1600], 1600)
    assert np.isfinite(numpy(layer(x, mask=mask))).all()
    assert numpy(layer.compute_mask(x, mask)).sum(axis=1).tolist() == [0, 10]


@pytest.mark.parametrize("name", ["leaf", "leaf_exact", "mel"])
def test_channels_of_a_clip_share_its_length(name):
    layer = FRONTENDS[name](multichannel=True)
    x, mask = noise(2, 3000, 2), mask_of([1234, 2900], 3000)
    features = numpy(layer(x, mask=mask))
    frame_mask = numpy(layer.compute_mask(x, mask))
    assert_as_alone(layer, x, [1234, 2900], features, frame_mask)


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="it takes no positions from arrays without elements",
)
@pytest.mark.parametrize("name", ["leaf", "leaf_exact", "efficient_leaf"])
def test_an_empty_batch_with_a_mask_gives_no_features(name):
    layer = FRONTENDS[name]()
    features = layer(
        np.zeros((0, TIME), "float32"), mask=np.zeros((0, TIME), bool)
    )
    assert features.shape[:2] == (0, -(-TIME // 160))
