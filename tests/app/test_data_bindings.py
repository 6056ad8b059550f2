"""What configs bind of the loading and preparing of data."""

import itertools

import gin
import numpy as np
import pytest
from tones import SAMPLE_RATE, write_tones

from leaf_audio.app import configurables  # noqa: F401

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


@pytest.mark.parametrize(
    "key",
    [
        "align.rng",
        "audio_folder.for_training",
        "data.load.readers",
        "loudness_normalization.samples",
    ],
)
def test_what_the_pipeline_passes_cannot_be_bound(key):
    with pytest.raises(ValueError, match="denylist"):
        gin.parse_config(f"{key} = 1")
