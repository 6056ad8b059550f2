"""Streams give what the frontend gives for the whole signal."""

import functools

import keras
import numpy as np
import pytest
from frontend_makers import filter_weight, noise
from keras import ops

from leaf_audio import frontend, models, postprocessing

RATE = 4000
MAKERS = {
    "leaf": frontend.Leaf,
    "leaf_exact": functools.partial(frontend.Leaf, tolerance=0),
    "leaf_preemp_centred": functools.partial(
        frontend.Leaf, preemp=True, pooling_padding="centred"
    ),
    "leaf_causal_log": functools.partial(
        frontend.Leaf, pooling_padding="causal", compression_fn="log"
    ),
    "leaf_valid": functools.partial(
        frontend.Leaf, pooling_padding="valid", tolerance=0
    ),
    # A kernel and a window of even lengths.
    "leaf_even": functools.partial(
        frontend.Leaf, window_len=24.8, tolerance=0, compression_fn=None
    ),
    "efficient_leaf_pcen": functools.partial(
        frontend.EfficientLeaf, compression_fn="pcen", num_groups=2
    ),
    "efficient_leaf_log": functools.partial(
        frontend.EfficientLeaf,
        compression_fn=postprocessing.LogTBN(median="keep"),
        num_groups=2,
        conv_win_factor=6.0,
        stride_factor=16.0,
    ),
    "mel": frontend.MelFilterbanks,
    "mel_pcen": functools.partial(
        frontend.MelFilterbanks,
        compression_fn=postprocessing.PCENLayer(initial_energy=1.0),
    ),
    "mel_librosa": functools.partial(
        frontend.MelFilterbanks.from_preset,
        "librosa",
        n_fft=256,
        hop_length=60,
        compression_fn=functools.partial(
            postprocessing.db_compression, top_db=None
        ),
    ),
    "mel_reflect": functools.partial(
        frontend.MelFilterbanks.from_preset,
        "torchaudio",
        n_fft=200,
        hop_length=70,
    ),
    "mel_inside": functools.partial(frontend.MelFilterbanks, pad_end=False),
    # Windows shorter than the hop.
    "mel_gaps": functools.partial(
        frontend.MelFilterbanks, window_len=10.0, window_stride=20.0
    ),
    "mel_gaps_inside": functools.partial(
        frontend.MelFilterbanks, window_stride=60.0, pad_end=False
    ),
    "spectrogram": lambda n_filters, **kwargs: frontend.Spectrogram(**kwargs),
    "sincnet": frontend.SincNet,
    "sincnet_plus": frontend.SincNetPlus,
    "tfbanks": frontend.TimeDomainFilterbanks,
}
# JAX compiles each operation for each length, which takes long.
QUICK_ON_JAX = {"mel", "mel_pcen", "tfbanks"}


def names(*some):
    return [
        name
        if name in QUICK_ON_JAX
        else pytest.param(name, marks=pytest.mark.slow_on_jax)
        for name in some
    ]


def make(name, **settings):
    keras.utils.set_random_seed(0)
    return MAKERS[name](**{"n_filters": 8, "sample_rate": RATE, **settings})


def stride_of(layer, samples=RATE):
    """The hop in samples, from the number of frames of long signals."""
    few = layer.compute_output_shape((1, samples))[1]
    many = layer.compute_output_shape((1, 41 * samples))[1]
    return 40 * samples // (many - few)


def in_chunks(stream, audio, sizes):
    """What a stream returns, call by call."""
    found, start = [], 0
    for size in sizes:
        found.append(stream.push(audio[:, start : start + size]))
        start += size
        assert stream.state.received == min(start, audio.shape[1])
        if start >= audio.shape[1]:
            break
    return [*found, stream.finish()]


def chunk_sizes(seed):
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.choice([1, 2, 7, 40, 93, 500, 4100]))


def assert_same(found, expected):
    expected = ops.convert_to_numpy(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    # Frames that are all alike would show nothing.
    assert np.std(expected, axis=1).max() > 1e-3
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", names(*MAKERS))
def test_chunks_of_any_size_give_the_whole(name):
    layer = make(name)
    # Longer than many frames at once, and no whole number of hops.
    audio = noise(2, 2 * RATE + 77)
    stream = layer.stream(2, length=audio.shape[1])
    found = in_chunks(stream, audio, chunk_sizes(0))
    assert_same(np.concatenate(found, axis=1), layer(audio))
    other = layer.stream(2, length=audio.shape[1])
    found = in_chunks(other, audio, [len(audio[0])])
    assert_same(np.concatenate(found, axis=1), layer(audio))


@pytest.mark.parametrize("name", names("mel", "leaf_causal_log"))
def test_chunks_of_one_sample_give_the_whole(name):
    layer = make(name)
    audio = noise(1, 260)
    found = in_chunks(layer.stream(), audio, [1] * 260)
    assert_same(np.concatenate(found, axis=1), layer(audio))


@pytest.mark.parametrize(
    "name", names("leaf_exact", "efficient_leaf_pcen", "mel", "mel_reflect")
)
def test_a_frame_comes_as_soon_as_its_audio_has_arrived(name):
    layer = make(name, compression_fn=None)
    stride = stride_of(layer)
    stream = layer.stream()
    audio = noise(1, RATE)
    # The last sample that frame 20 waits for has a part in it, the next none.
    needed = 20 * stride + stream.latency
    assert stream.push(audio[:, : needed - 1]).shape[1] == 20
    frame = stream.push(audio[:, needed - 1 : needed])
    assert frame.shape[1] == 1
    changed = audio.copy()
    changed[:, needed:] = noise(1, RATE - needed, seed=1)
    of_changed = ops.convert_to_numpy(layer(changed))
    scale = np.abs(of_changed).max()
    np.testing.assert_allclose(
        frame[:, 0], of_changed[:, 20], rtol=0, atol=1e-5 * scale
    )


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("extra", [0, 1, 39])
def test_without_a_length_same_padding_fills_up_the_last_hop(extra):
    layer = make("leaf_exact")
    stride = stride_of(layer)
    audio = noise(1, 50 * stride + extra)
    stream = layer.stream()
    found = in_chunks(stream, audio, chunk_sizes(1))
    filled = np.pad(audio, [(0, 0), (0, -len(audio[0]) % stride)])
    assert_same(np.concatenate(found, axis=1), layer(filled))
    assert found[-1].shape[1] > 0


@pytest.mark.parametrize("samples", [1, 30, 130])
@pytest.mark.parametrize("name", names("leaf", "mel", "leaf_valid"))
def test_signals_shorter_than_a_window_have_their_frames(name, samples):
    layer = make(name, compression_fn=None)
    audio = noise(1, samples)
    stream = layer.stream(length=samples)
    first = stream.push(audio)
    if name == "leaf_valid" and samples < 101:
        with pytest.raises(ValueError, match="needs 101 samples at least"):
            stream.finish()
        return
    found = np.concatenate([first, stream.finish()], axis=1)
    whole = ops.convert_to_numpy(layer(audio))
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-6)


def test_no_samples_give_no_frames():
    stream = make("mel").stream(3)
    assert stream.push(noise(3, 0)).shape == (3, 0, 8)
    assert stream.finish().shape == (3, 0, 8)


def test_a_state_can_be_kept_and_continued():
    layer = make("mel_pcen")
    audio = noise(1, 2000)
    stream = layer.stream()
    stream.push(audio[:, :700])
    kept = stream.state
    copies = kept.samples.copy(), kept.smoother.copy()
    expected = stream.push(audio[:, 700:])
    assert kept.received == 700 and stream.state.received == 2000
    np.testing.assert_array_equal(kept.samples, copies[0])
    np.testing.assert_array_equal(kept.smoother, copies[1])
    other = layer.stream()
    other.state = kept
    np.testing.assert_array_equal(other.push(audio[:, 700:]), expected)
    # Two seconds of audio are not kept.
    assert stream.state.samples.shape[1] < 300
    assert stream.state.frames == expected.shape[1] + kept.frames


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch compiles nothing here"
)
def test_chunks_of_many_sizes_compile_twice():
    traced = []

    class Counting(postprocessing.PCENLayer):
        def outputs_and_states(self, inputs, initial_state=None):
            traced.append(inputs.shape)
            return super().outputs_and_states(inputs, initial_state)

    layer = make("mel", compression_fn=Counting())
    stream = layer.stream()
    traced.clear()
    for size in (*range(1, 400, 37), 4000, 5000, 6500, 3):
        stream.push(noise(1, size))
    assert 0 < len(traced) <= 4
    other = layer.stream()
    traced.clear()
    other.push(noise(1, 4000))
    assert not traced


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", ["leaf", "efficient_leaf_log"])
def test_a_new_stream_has_the_new_weights(name):
    layer = make(name)
    audio = noise(1, 1200)
    in_chunks(layer.stream(), audio, chunk_sizes(2))
    (kernel,) = [w for w in layer.weights if "complex_conv/kernel" in w.path]
    changed = filter_weight(layer) * np.array([0.7, 1.6], "float32")
    kernel.assign(changed)
    found = in_chunks(layer.stream(), audio, chunk_sizes(2))
    assert_same(np.concatenate(found, axis=1), layer(audio))


def test_mixed_precision_rounds_the_outputs_alone():
    layer = make("mel_pcen", dtype="mixed_float16")
    audio = noise(1, 1000)
    found = in_chunks(layer.stream(), audio, [300] * 4)
    found = np.concatenate(found, axis=1)
    whole = ops.convert_to_numpy(layer(audio))
    assert found.dtype == whole.dtype == np.float16
    np.testing.assert_allclose(found, whole, rtol=2e-3)


def test_augmentation_is_of_training_only():
    layer = make("mel", spec_augment=True)
    audio = noise(1, 1000)
    found = in_chunks(layer.stream(), audio, [300] * 4)
    assert_same(np.concatenate(found, axis=1), layer(audio))


def test_a_model_with_a_streaming_frontend_is_saved_as_before(tmp_path):
    model = models.AudioClassifier(
        num_outputs=2, frontend=make("mel_pcen"), encoder=models.ConvNet([4])
    )
    model.build((None, RATE))
    model.frontend.stream().push(noise(1, RATE))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights)
    audio = noise(1, RATE)
    np.testing.assert_allclose(
        loaded.frontend.stream().push(audio),
        model.frontend.stream().push(audio),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"compression_fn": "db"}, "maximum over the whole signal.*top_db"),
        (
            {
                "compression_fn": functools.partial(
                    postprocessing.db_compression, top_db=None, ref="max"
                )
            },
            "maximum over the whole signal",
        ),
        ({"compression_fn": postprocessing.LogTBN()}, "median"),
        (
            {"compression_fn": postprocessing.InstanceNormalization()},
            "may need the whole signal",
        ),
        ({"compression_fn": ops.sqrt}, "may need the whole signal"),
        (
            {"compression_fn": keras.layers.LayerNormalization(axis=[1, 2])},
            "may need the whole signal",
        ),
        ({"mean_var_norm": True}, "mean_var_norm.*mean"),
        ({"multichannel": True}, "multichannel=True"),
        ({"spec_augment": keras.layers.GaussianNoise(1.0)}, "spec_augment"),
        (
            {"activation": lambda x: x[..., ::2] - ops.max(x)},
            "filters, activation and pooling",
        ),
    ],
)
def test_what_cannot_stream_says_so(settings, reason):
    layer = frontend.Leaf(n_filters=4, sample_rate=RATE, **settings)
    with pytest.raises(ValueError, match=f"leaf cannot stream.*{reason}"):
        layer.stream()


def test_wrong_calls_are_named():
    layer = make("mel")
    for name, value in (("batch_size", 0), ("length", 1.5)):
        with pytest.raises(ValueError, match=f"`{name}`.*{name}={value}"):
            layer.stream(**{name: value})
    stream = layer.stream(2, length=100)
    with pytest.raises(ValueError, match="2 waveforms.*shape .3, 10."):
        stream.push(noise(3, 10))
    with pytest.raises(ValueError, match="takes waveforms of shape"):
        stream.push(noise(10))
    with pytest.raises(ValueError, match="floating-point"):
        stream.push(np.zeros((2, 10), "int16"))
    with pytest.raises(ValueError, match="length=100, and 101 samples"):
        stream.push(noise(2, 101))
    stream.push(noise(2, 99)[..., None])
    with pytest.raises(ValueError, match="length=100, and 99 samples"):
        stream.finish()
    stream.push(noise(2, 1))
    stream.finish()
    with pytest.raises(ValueError, match="ended after 100 samples"):
        stream.push(noise(2, 1))
    with pytest.raises(ValueError, match="ended after 100 samples"):
        stream.finish()
