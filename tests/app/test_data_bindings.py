"""What configs bind of the loading and preparing of data."""

import itertools
import shutil

import gin
import numpy as np
import pytest
from tones import SAMPLE_RATE, write_tones

from leaf_audio.app import (
    configurables,  # noqa: F401
    data_configurables,
)
from leaf_audio.data import background
from leaf_audio.serving import preparation

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bound")
    write_tones(folder / "tones")
    return folder


@pytest.fixture
def load(folder):
    """Loads the tones as `data.load` is bound to, in `folder`."""

    def load(**options):
        gin.parse_config(f"audio_folder.path = {str(folder / 'tones')!r}")
        return gin.get_configurable("data.load")(
            "audio_folder", data_dir=str(folder), **options
        )

    return load


def prepare(*arguments, **options):
    return gin.get_configurable("data.prepare")(*arguments, **options)


def take(dataset, count):
    return list(itertools.islice(dataset, count))


def test_gin_bindings_reach_audio_folder_through_load(load):
    gin.parse_config(
        """
        audio_folder.sample_rate = 8000
        audio_folder.on_error = 'skip'
        """
    )
    result = load()
    assert (result.name, result.sample_rate) == ("audio_folder", 8000)
    with pytest.raises(ValueError, match="8000.*16000"):
        load(sample_rate=16000)


def test_the_rate_that_load_is_bound_to_is_the_default(load):
    gin.parse_config("data.load.sample_rate = 11025")
    assert load().sample_rate == 11025


def test_folds_can_be_bound_and_commands_warn_by_themselves(folder):
    root = folder / "folds"
    write_tones(root)
    (root / "train").rename(root / "fold1")
    (root / "test").rename(root / "fold2")
    shutil.rmtree(root / "validation")
    shutil.rmtree(root / "fold2/low")
    gin.parse_config(
        f"""
        audio_folder.path = {str(root)!r}
        audio_folder.test_folds = ['fold2']
        """
    )
    result = gin.get_configurable("data.load")(
        "audio_folder", data_dir=str(folder)
    )
    assert result.counts == {"train": 21, "test": 6}
    # Python would make an error of a warning here.
    (sentence,) = result.warnings
    assert "test lacks 'low'" in sentence


@gin.configurable(module="mine")
def offset(samples, by=1.0):
    return samples + by


def test_gin_binds_transforms_and_their_settings(load):
    gin.parse_config(
        """
        data.prepare.transform_fns = [
            @data.align, @data.loudness_normalization, @mine.offset]
        data.prepare.batch_size = 5
        align.seq_len = 20
        loudness_normalization.target_db = 0.0
        loudness_normalization.max_gain_db = 200.0
        offset.by = 30.0
        """
    )
    audio_data = load(sample_rate=SAMPLE_RATE)
    batches = prepare(audio_data)
    assert batches.example_shape == (20,)
    (first, second) = take(batches.train(), 2)
    assert first[0].shape == second[0].shape == (5, 20)
    np.testing.assert_allclose(first[0].std(axis=1), 1, rtol=1e-4)
    assert (first[0] > 20).all()
    # Crops are still random: the wrapped function gets its generator.
    starts = {}
    for audio, labels in take(batches.train(), 40):
        for clip, label in zip(audio, labels, strict=True):
            starts.setdefault(int(label), set()).add(float(clip[0]))
    assert all(len(some) > 20 for some in starts.values())


def test_default_transforms_follow_bindings(load):
    gin.parse_config("data.align.seq_len = 25")
    assert prepare(load(), batch_size=2).example_shape == (25,)


def test_gin_binds_augmentations_and_mixup(load):
    gin.parse_config(
        """
        data.prepare.transform_fns = [
            @data.align, @data.circular_shift, @data.loudness_normalization,
            @data.gain, @loud/data.white_noise, @data.time_mask]
        data.prepare.mixup_alpha = 0.2
        align.seq_len = 400
        align.padding = 'wrap'
        loudness_normalization.target_db = 0.0
        gain.min_db = 20.0
        gain.max_db = 20.0
        loud/white_noise.min_snr_db = 0.0
        loud/white_noise.max_snr_db = 0.0
        time_mask.probability = 0.0
        """
    )
    audio_data = load(sample_rate=SAMPLE_RATE)
    batches = prepare(audio_data, batch_size=4)
    unmixed = prepare(audio_data, batch_size=4, mixup_alpha=0.0)
    ((audio, targets),) = take(batches.train(), 1)
    ((alone, labels),) = take(unmixed.train(), 1)
    # The clip and the noise have a level of 20 dB each.
    np.testing.assert_allclose(alone.std(axis=1), 10 * 2**0.5, rtol=0.1)
    assert (targets.argmax(axis=1) == labels).all()
    assert targets.shape == (4, len(audio_data.label_names))
    assert not np.allclose(audio, alone)
    for clip, _ in unmixed.evaluation["test"]:
        np.testing.assert_allclose(clip.std(axis=1), 1, rtol=1e-3)


@pytest.mark.parametrize(
    "listed, is_cropped",
    [
        ("@speed_change, @data.align", True),
        ("@gain, @speed_change, @align, @loudness_normalization", True),
        ("@speed_change", False),
        ("@speed_change, @mine.offset, @align", False),
        ("@align, @speed_change", False),
        ("@speed_change, @long/align", False),
        ("@some/speed_change, @speed_change, @align", True),
        ("@speed_change, @some/speed_change, @align", False),
    ],
)
def test_speed_change_takes_its_length_from_align(listed, is_cropped):
    gin.parse_config(
        f"""
        data.prepare.transform_fns = [{listed}]
        align.seq_len = 1000
        long/align.seq_len = 3000
        """
    )
    change = gin.get_configurable("speed_change")
    clip = np.ones(9000, np.float32)

    def is_short(fn, **settings):
        result = fn(clip, rng=np.random.default_rng(0), **settings)
        return len(result) < 1300

    assert is_short(change) == is_cropped
    # A length of its own has priority.
    assert is_short(change, seq_len=500)
    with gin.config_scope("some"):
        assert not is_short(change)


def test_align_itself_tells_of_a_length_that_is_not_valid():
    gin.parse_config(
        """
        data.prepare.transform_fns = [@speed_change, @align]
        align.seq_len = 1.2
        """
    )
    clip = np.ones(9000, np.float32)
    change = gin.get_configurable("speed_change")
    assert len(change(clip, rng=np.random.default_rng(0))) > 8000
    with pytest.raises(ValueError, match="`align.seq_len` must be a positive"):
        gin.get_configurable("align")(clip, rng=np.random.default_rng(0))


def test_speed_change_takes_whole_clips_where_the_list_is_a_macro():
    gin.parse_config(
        """
        fns = [@speed_change, @align]
        data.prepare.transform_fns = %fns
        """
    )
    change = gin.get_configurable("speed_change")
    clip = np.ones(9000, np.float32)
    assert len(change(clip, rng=np.random.default_rng(0))) > 8000


@pytest.mark.parametrize(
    "lines, rate",
    [
        ("data.load.sample_rate = 8000", 8000),
        ("data.load.sample_rate = %rate\nrate = 11025", 11025),
        (
            "data.load.sample_rate = 8000\nbackground_noise.sample_rate = 4000",
            4000,
        ),
        ("", None),
    ],
)
def test_background_noise_has_the_rate_of_the_data(
    folder, monkeypatch, lines, rate
):
    gin.parse_config(lines)
    gin.bind_parameter("background_noise.folder", str(folder))
    rates = set()

    def read(file, sample_rate):
        rates.add(sample_rate)
        return np.ones(100, np.float32)

    monkeypatch.setattr(background, "read_recording", read)
    background._recordings.cache_clear()
    augment = gin.get_configurable("background_noise")
    clip = np.ones(50, np.float32)
    if rate is None:
        with pytest.raises(ValueError, match="_noise.sample_rate` must be"):
            augment(clip, rng=np.random.default_rng(0))
    else:
        augment(clip, rng=np.random.default_rng(0))
        assert rates == {rate}
    background._recordings.cache_clear()


@pytest.mark.parametrize(
    "key",
    [
        "align.rng",
        "white_noise.rng",
        "gain.samples",
        "audio_folder.for_training",
        "data.load.readers",
        "loudness_normalization.samples",
    ],
)
def test_what_the_pipeline_passes_cannot_be_bound(key):
    with pytest.raises(ValueError, match="denylist"):
        gin.parse_config(f"{key} = 1")


@pytest.mark.parametrize(
    "lines, expected",
    [
        (
            [],
            [
                {"name": "align", "seq_len": 700},
                {"name": "loudness_normalization"},
            ],
        ),
        (
            [
                "short/align.seq_len = 50",
                "prepare.transform_fns = [@speed_change, @short/align, @align]",
            ],
            [
                {"name": "align", "seq_len": 50},
                {"name": "align", "seq_len": 700},
            ],
        ),
    ],
    ids=["default", "scope"],
)
def test_bound_transforms_can_be_described(lines, expected):
    gin.parse_config(["align.seq_len = 700", *lines])
    found = data_configurables.evaluating_transform_fns()
    assert preparation.to_config(found) == expected
