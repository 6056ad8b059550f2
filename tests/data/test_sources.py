"""Finding data sets by name: readers and what they are given."""

import functools

import pytest
import tensorflow_datasets as tfds

from leaf_audio import data
from leaf_audio.data import sources, tfds_audio

pytestmark = pytest.mark.any_backend


@pytest.fixture
def load(folder, tmp_path):
    """Loads the folder by name, with settings of the reader's own."""

    def load(settings=None, **options):
        reader = functools.partial(
            data.audio_folder, path=str(folder), **(settings or {})
        )
        return data.load(
            "audio_folder",
            data_dir=str(tmp_path),
            readers={"audio_folder": reader},
            **options,
        )

    return load


def test_a_reader_has_its_own_settings_and_gets_those_of_load(load, tmp_path):
    result = load({"sample_rate": 8000, "on_error": "skip"})
    assert (result.name, result.sample_rate) == ("audio_folder", 8000)
    assert result.path.startswith(str(tmp_path / "leaf_audio"))


def test_rates_that_do_not_agree_are_told_before_preparation(load, tmp_path):
    with pytest.raises(ValueError, match="8000.*16000"):
        load({"sample_rate": 8000}, sample_rate=16000)
    assert not (tmp_path / "leaf_audio").exists()


def test_the_rate_asked_of_load_is_the_default(load):
    assert load(sample_rate=11025).sample_rate == 11025
    assert load().sample_rate == 16000


@pytest.mark.parametrize(
    "options", [{"audio_key": "a"}, {"split_names": {"train": "train"}}]
)
def test_options_of_tfds_sets_are_refused(load, options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"`{name}`.*for 'audio_folder'"):
        load(**options)


def test_a_new_source_is_found_by_its_name(load, monkeypatch):
    calls = []
    expected = load()

    def mine(**options):
        calls.append(options)
        return expected

    monkeypatch.setitem(sources.READERS, "mine", mine)
    assert data.load("mine", for_training=False) is expected
    assert data.load("mine", "folder", sample_rate=16000) is expected
    assert calls == [
        {"data_dir": None, "for_training": False},
        {
            "data_dir": "folder",
            "fallback_sample_rate": 16000,
            "for_training": True,
        },
    ]


def test_a_name_of_no_reader_goes_to_tfds_audio(monkeypatch):
    monkeypatch.setattr(sources, "tfds_audio", lambda **options: options)
    assert data.load("some_set", label_key="pitch") == {
        "name": "some_set",
        "data_dir": None,
        "sample_rate": None,
        "source_sample_rate": None,
        "audio_key": "audio",
        "label_key": "pitch",
        "split_names": None,
        "for_training": True,
    }
    assert "synthetic_vowels" in tfds_audio.BUILDERS


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sample_rate": 0}, "`sample_rate`.*sample_rate=0"),
        ({"sample_rate": "8k"}, "`sample_rate`.*sample_rate='8k'"),
        ({"sample_rate": 99}, "whole number from 100 to 2000000.*=99"),
        ({"source_sample_rate": 8000.5}, "a whole number.*sample_rate=8000.5"),
        ({"dataset": None}, "`dataset`.*dataset=None"),
    ],
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        data.load(**({"dataset": "synthetic_vowels"} | options))


def test_the_function_is_not_hidden_by_the_module_of_its_name():
    from leaf_audio.data.audio_folder import audio_folder

    assert data.audio_folder is audio_folder
    assert data.READERS["audio_folder"] is audio_folder


@pytest.mark.parametrize("name", data.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(data)
    assert getattr(data, name).__doc__


def test_a_folder_in_a_cloud_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("speech_commands", "synthetic_vowels"):
        with pytest.raises(ValueError, match="data_dir='gs://bucket/tfds'"):
            data.load(name, data_dir="gs://bucket/tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", "s3://bucket")
    with pytest.raises(ValueError, match=r"\$TFDS_DATA_DIR='s3://bucket'"):
        data.load("synthetic_vowels")
    assert not list(tmp_path.iterdir())


def test_a_set_that_needs_another_package_is_named(tmp_path, monkeypatch):
    def fail(name, **options):
        raise ModuleNotFoundError("No module named 'huggingface_hub'")

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(ValueError, match="dataset='huggingface:foo': No mod"):
        data.load("huggingface:foo", data_dir=str(tmp_path))
