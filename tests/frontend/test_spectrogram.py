"""Mel filterbanks and spectrograms as librosa and torchaudio compute them.

The golden arrays are those of librosa 0.11.0 and of torchaudio 2.11.0, both in
float64; the arguments that they were called with are in `LIBRARIES`.
"""

import functools

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from layer_checks import check_layer

from leaf_audio import frontend, impulse_responses
from leaf_audio.frontend import MelFilterbanks, Spectrogram, db_compression
from leaf_audio.initializers import mel

LIBRARIES = {
    # librosa.feature.melspectrogram(sr=22050)
    "librosa/mel": (MelFilterbanks, {}),
    # …(sr=16000, n_fft=1024, win_length=800, hop_length=200,
    #   pad_mode="reflect", window="hamming", power=1.0, n_mels=40, htk=True,
    #   norm=None, fmin=20.0, fmax=7000.0)
    "librosa/mel_htk": (
        MelFilterbanks,
        {
            "sample_rate": 16000,
            "n_fft": 1024,
            "win_length": 800,
            "hop_length": 200,
            "pad_mode": "reflect",
            "window": "hamming",
            "power": 1.0,
            "n_filters": 40,
            "mel_scale": "htk",
            "norm": None,
            "min_freq": 20.0,
            "max_freq": 7000.0,
        },
    ),
    # …(sr=22050, center=False)
    "librosa/mel_uncentred": (MelFilterbanks, {"center": False}),
    # power_to_db of the first
    "librosa/db": (MelFilterbanks, {"compression_fn": "db"}),
    # power_to_db(ref=np.max, top_db=30.0)
    "librosa/db_max": (
        MelFilterbanks,
        {
            "compression_fn": functools.partial(
                db_compression, ref="max", top_db=30.0
            )
        },
    ),
    # power_to_db(ref=0.3, amin=1e-2, top_db=None)
    "librosa/db_ref": (
        MelFilterbanks,
        {
            "compression_fn": functools.partial(
                db_compression, ref=0.3, amin=1e-2, top_db=None
            )
        },
    ),
    # abs(librosa.stft())
    "librosa/stft": (Spectrogram, {"power": 1.0}),
    # amplitude_to_db(abs(librosa.stft()))
    "librosa/stft_db": (Spectrogram, {"power": 1.0, "compression_fn": "db"}),
    # torchaudio.transforms.MelSpectrogram()
    "torchaudio/mel": (MelFilterbanks, {}),
    # …(n_fft=1024, win_length=400, hop_length=160, n_mels=64,
    #   mel_scale="slaney", norm="slaney", f_min=20.0, f_max=7600.0)
    "torchaudio/mel_slaney": (
        MelFilterbanks,
        {
            "n_fft": 1024,
            "win_length": 400,
            "hop_length": 160,
            "n_filters": 64,
            "mel_scale": "slaney",
            "norm": "slaney",
            "min_freq": 20.0,
            "max_freq": 7600.0,
        },
    ),
    # …(center=False, n_mels=20, power=1.0)
    "torchaudio/mel_uncentred": (
        MelFilterbanks,
        {"center": False, "n_filters": 20, "power": 1.0},
    ),
    # torchaudio.transforms.Spectrogram()
    "torchaudio/stft": (Spectrogram, {}),
    # AmplitudeToDB(top_db=80.0) of MelSpectrogram(n_mels=40, n_fft=1024)
    "torchaudio/db": (
        MelFilterbanks,
        {"n_filters": 40, "n_fft": 1024, "compression_fn": "db"},
    ),
}


def noise(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, shape).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("key", LIBRARIES)
def test_presets_meet_the_libraries(key, golden):
    arrays = golden("spectrograms")
    cls, settings = LIBRARIES[key]
    layer = cls.from_preset(key.split("/")[0], **settings)
    outputs = numpy(layer(arrays["waveform"]))
    expected = arrays[key]
    if "db" in key:
        atol, rtol = 1e-3, 1e-4
    else:
        # Beside bins that are a millionth of the loudest, float32 rounds.
        atol, rtol = 1e-7 * expected.max(), 1e-4
    np.testing.assert_allclose(outputs, expected, rtol=rtol, atol=atol)


def test_librosas_own_functions_agree():
    librosa = pytest.importorskip(
        "librosa", reason="optional: librosa is no dependency"
    )
    x = noise(1, 9000)
    for settings, arguments in (
        ({}, {}),
        ({"n_fft": 1023}, {"n_fft": 1023}),
        ({"norm": None}, {"norm": None}),
        (
            {"n_fft": 512, "sample_rate": 8000, "window": "blackman"},
            {"n_fft": 512, "sr": 8000, "window": "blackman"},
        ),
    ):
        expected = librosa.feature.melspectrogram(
            y=x.astype("float64"),
            **{"sr": 22050, "n_mels": 40, **arguments},
        )
        layer = MelFilterbanks.from_preset("librosa", n_filters=40, **settings)
        np.testing.assert_allclose(
            numpy(layer(x)), expected.swapaxes(1, 2), rtol=1e-4, atol=1e-6
        )


def test_leafs_preset_is_the_default():
    assert (
        MelFilterbanks.from_preset("leaf", n_filters=20).get_config()
        == MelFilterbanks(n_filters=20).get_config()
    )


def test_lengths_follow_as_in_the_libraries():
    def lengths(*args, **kwargs):
        layer = MelFilterbanks.from_preset(*args, n_filters=20, **kwargs)
        return layer.win_length, layer.hop_length

    assert lengths("librosa") == (2048, 512)
    assert lengths("librosa", n_fft=1024) == (1024, 512)
    assert lengths("librosa", n_fft=1024, win_length=500) == (500, 512)
    assert lengths("torchaudio") == (400, 200)
    assert lengths("torchaudio", n_fft=1024) == (1024, 512)
    assert lengths("torchaudio", n_fft=1024, win_length=500) == (500, 250)
    assert lengths("torchaudio", hop_length=160) == (400, 160)
    # Lengths in ms are not turned into samples, but what follows from them is:
    # 20 ms are 321 samples.
    assert lengths("torchaudio", window_stride=10.0) == (400, None)
    assert lengths("librosa", window_stride=10.0) == (2048, None)
    assert lengths("torchaudio", window_len=20.0) == (None, 160)
    layer = MelFilterbanks.from_preset("torchaudio", window_stride=10.0)
    assert layer.compute_output_shape((1, 16000)) == (1, 101, 128)


def test_a_library_lets_filters_be_empty_and_leaf_does_not():
    energies = numpy(MelFilterbanks.from_preset("torchaudio")(noise(1, 2000)))
    assert (energies == 0).all(axis=1).any()
    with pytest.raises(ValueError, match="without a bin"):
        MelFilterbanks.from_preset("torchaudio", allow_empty_filters=False)


@pytest.mark.parametrize("mel_scale", mel.MEL_SCALES)
def test_both_mel_scales_invert(mel_scale):
    hz = np.array([0.0, 50.0, 999.0, 1000.0, 1001.0, 8000.0])
    there = mel.hz_to_mel(hz, mel_scale)
    np.testing.assert_allclose(mel.mel_to_hz(there, mel_scale), hz, atol=1e-9)


def test_slaneys_scale_has_its_published_points():
    # Linear to 1 kHz; from there 27 steps to 6.4 kHz.
    np.testing.assert_allclose(
        mel.hz_to_mel([200 / 3, 1000.0, 6400.0], "slaney"), [1, 15, 42]
    )


def test_windows_are_scipys_periodic_ones():
    signal = pytest.importorskip("scipy.signal")
    for name in ("hann", "hamming", "blackman", "boxcar"):
        for size in (1, 2, 25, 400):
            np.testing.assert_allclose(
                impulse_responses.stft_window(name, size),
                signal.get_window(name, size, fftbins=True),
                atol=1e-12,
            )


def test_a_windows_values_can_be_given(tmp_path):
    x = noise(1, 3000)
    values = impulse_responses.stft_window("hann", 401)
    layer = MelFilterbanks(window=values)
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(MelFilterbanks(window="hann")(x)), atol=1e-6
    )
    check_layer(
        functools.partial(MelFilterbanks, window=list(values)), x, tmp_path
    )


def test_a_spectrogram_is_a_discrete_fourier_transform():
    """LEAF's frames: they begin at multiples of the stride."""
    x = noise(1, 1000)
    outputs = numpy(Spectrogram()(x))
    padded = np.pad(x[0].astype("float64"), (0, 401))
    window = impulse_responses.window("tf_hann", 401)
    expected = [
        np.abs(np.fft.rfft(padded[m : m + 401] * window, 512)) ** 2
        for m in range(0, 1000, 160)
    ]
    np.testing.assert_allclose(
        outputs, np.array(expected)[None], rtol=1e-4, atol=1e-6
    )


def test_magnitudes_are_roots_and_have_a_gradient_at_silence():
    x = noise(1, 1600)
    energies = numpy(Spectrogram()(x))
    for power in (1.0, 0.7):
        powered = numpy(Spectrogram(power=power)(x))
        np.testing.assert_allclose(powered, energies ** (power / 2), rtol=1e-3)
        gain = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Sequential([gain, Spectrogram(power=power)])
        _, (gradient,) = grad_mean_square(
            model, np.zeros((1, 1600, 1), "float32")
        )
        assert np.isfinite(gradient).all()


def test_decibels_of_one_recording_do_not_depend_on_another():
    layer = MelFilterbanks.from_preset("librosa", compression_fn="db")
    x = noise(2, 4000)
    x[1] *= 1e3
    np.testing.assert_allclose(
        numpy(layer(x))[:1], numpy(layer(x[:1])), atol=1e-4
    )


def test_any_frontend_can_answer_in_decibels():
    leaf = frontend.Leaf(n_filters=8, compression_fn="db")
    linear = frontend.Leaf(n_filters=8, compression_fn=None)
    x = noise(1, 1600)
    np.testing.assert_allclose(
        numpy(leaf(x)), 10 * np.log10(numpy(linear(x))), atol=1e-3
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"amin": 0}, "amin=0"),
        ({"ref": -1.0}, "ref=-1.0"),
        ({"ref": "median"}, "ref='median'"),
        ({"top_db": -3}, "top_db=-3"),
        ({"power": 0}, "power=0"),
    ],
)
def test_impossible_decibels_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        db_compression(np.ones((1, 2, 3), "float32"), **settings)


MAKERS = {
    "librosa": functools.partial(
        MelFilterbanks.from_preset, "librosa", n_fft=512, hop_length=128
    ),
    "torchaudio_db": functools.partial(
        MelFilterbanks.from_preset,
        "torchaudio",
        n_filters=16,
        compression_fn=functools.partial(db_compression, top_db=60.0),
    ),
    "uncentred": functools.partial(
        MelFilterbanks.from_preset, "torchaudio", n_filters=16, center=False
    ),
    "spectrogram": Spectrogram,
    "magnitudes": functools.partial(
        Spectrogram.from_preset,
        "torchaudio",
        power=1.0,
        spec_augment=True,
        multichannel=True,
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_is_a_keras_citizen(name, tmp_path):
    check_layer(MAKERS[name], noise(2, 1600), tmp_path, atol=1e-5)


@pytest.mark.parametrize("time", [1, 201, 400, 401, 1000, 1024])
@pytest.mark.parametrize("n_fft", [400, 401])
@pytest.mark.slow_on_jax
def test_frames_are_those_of_the_libraries(time, n_fft):
    for settings in (
        {"center": True, "pad_mode": "constant"},
        {"center": True, "pad_mode": "reflect"},
        {"center": False},
    ):
        layer = Spectrogram.from_preset(
            "torchaudio", n_fft=n_fft, hop_length=100, **settings
        )
        pad = n_fft // 2 if settings["center"] else 0
        frames = 1 + (time + 2 * pad - n_fft) // 100
        is_short = settings.get("pad_mode") == "reflect" and time <= pad
        if is_short or frames < 1:
            with pytest.raises(ValueError, match="samples at least"):
                layer(noise(1, time))
            continue
        outputs = layer(noise(1, time))
        assert outputs.shape == (1, frames, n_fft // 2 + 1)
        assert layer.compute_output_shape((1, time)) == outputs.shape


@pytest.mark.parametrize(
    "settings",
    [
        {"center": True},
        {"center": True, "n_fft": 401, "win_length": 400},
        {"center": True, "pad_mode": "reflect"},
        {"center": True, "n_fft": 401, "pad_mode": "reflect"},
        {"center": False},
    ],
)
@pytest.mark.parametrize("valid", [1000, 1100, 1101])
@pytest.mark.slow_on_jax
def test_valid_frames_are_those_of_the_valid_samples_alone(settings, valid):
    layer = MelFilterbanks.from_preset(
        "torchaudio",
        **{
            "n_filters": 20,
            "hop_length": 100,
            "pad_mode": "constant",
            **settings,
        },
    )
    x = noise(1, 2000)
    mask = ops.convert_to_tensor(np.arange(2000)[None] < valid)
    frame_mask = numpy(layer.compute_mask(x, mask))
    outputs = numpy(layer(x, mask=mask))
    expected = numpy(layer(x[:, :valid]))
    assert frame_mask.shape == outputs.shape[:2]
    assert frame_mask.sum() == expected.shape[1]
    np.testing.assert_allclose(
        outputs[frame_mask], expected[0], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    "cls, settings, message",
    [
        (MelFilterbanks, {"mel_scale": "bark"}, "mel_scale='bark'"),
        (MelFilterbanks, {"norm": 1}, "norm=1"),
        (MelFilterbanks, {"triangles": "bins"}, "triangles='bins'"),
        (MelFilterbanks, {"power": 0}, "power=0"),
        (MelFilterbanks, {"window": "kaiser"}, "window='kaiser'"),
        (MelFilterbanks, {"window": [1.0, 2.0]}, r"shape \(2,\)"),
        (MelFilterbanks, {"win_length": 0}, "win_length=0"),
        (MelFilterbanks, {"hop_length": 1.5}, "hop_length=1.5"),
        (MelFilterbanks, {"center": "yes"}, "center='yes'"),
        (MelFilterbanks, {"pad_mode": "wrap"}, "pad_mode='wrap'"),
        (MelFilterbanks, {"pad_end": None}, "pad_end=None"),
        (MelFilterbanks, {"win_length": 600, "n_fft": 512}, "n_fft=512"),
        (MelFilterbanks, {"allow_empty_filters": 1}, "allow_empty_filters=1"),
        (Spectrogram, {"n_fft": 256}, "at least the window"),
        (Spectrogram, {"n_fft": -2}, "n_fft=-2"),
        (Spectrogram, {"win_length": 2.5}, "win_length=2.5"),
    ],
)
def test_impossible_settings_are_rejected(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_lengths_in_ms_matter_only_where_none_in_samples_is_given():
    """The default hop of 10 ms is less than a sample at 80 Hz."""
    layer = Spectrogram(sample_rate=80, win_length=16, hop_length=4)
    assert layer(noise(2, 400)).shape == (2, 100, 9)
    copy = Spectrogram.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    with pytest.raises(ValueError, match="`window_stride` must be at least"):
        Spectrogram(sample_rate=80, win_length=16)
    with pytest.raises(ValueError, match="`window_len` must be at least"):
        Spectrogram(sample_rate=80, window_len=10.0, hop_length=4)


def test_a_preset_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="preset='kaldi'"):
        MelFilterbanks.from_preset("kaldi")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_freq": 9000.0}, "Nyquist"),
        ({"sample_rate": 8000, "max_freq": 7800.0}, "max_freq=7800.0"),
        ({"min_freq": 5000.0, "max_freq": 4000.0}, "below `max_freq`"),
        ({"min_freq": -5.0}, "min_freq=-5.0"),
        ({"n_fft": 256}, "at least the window"),
        ({"n_filters": 200, "n_fft": 512}, "without a bin"),
        ({"max_freq": "nyquist"}, "max_freq='nyquist'"),
    ],
)
def test_impossible_mel_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        frontend.MelFilterbanks(**settings)
