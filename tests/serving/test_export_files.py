"""An export replaces what an export has written, and nothing else."""

import dataclasses
import json
import os
import shutil

import pytest
from exporting import needs_tensorflow
from tones import ROOT, content

import leaf_audio
from leaf_audio import data, frontend, models, serving
from leaf_audio.serving.export import export

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def small():
    """A classifier that is converted in a few seconds."""
    model = models.AudioClassifier(
        num_outputs=12,
        frontend=frontend.MelFilterbanks(n_filters=8),
        encoder=models.ResNet([4]),
    )
    model.build((None, 16000))
    return dataclasses.replace(leaf_audio.load("speech_commands"), model=model)


@pytest.mark.parametrize(
    "name, mine, format",
    [
        ("words.tflite", "words.json", "litert"),
        ("words.tflite", "words.tflite", "litert"),
        ("words.onnx", "words.onnx", "onnx"),
        ("words.keras", "words.keras", "keras"),
        ("words", "words/saved_model.pb", "savedmodel"),
        ("words", "words/notes.txt", "savedmodel"),
    ],
)
@needs_tensorflow
def test_a_file_of_ones_own_is_not_replaced(
    small, tmp_path, name, mine, format
):
    file = tmp_path / mine
    file.parent.mkdir(exist_ok=True)
    for text in ("mine", '{"labels": ["mine"]}', "[]", "[" * 100000):
        file.write_text(text)
        with pytest.raises(ValueError, match="`path` must be new.*replaced"):
            export(small, tmp_path / name, format)
        assert content(tmp_path) == {mine: text.encode()}


@needs_tensorflow
@pytest.mark.parametrize(
    "name, format",
    [
        ("words.tflite", "litert"),
        ("words.keras", "keras"),
        ("words", "savedmodel"),
        pytest.param("words.onnx", "onnx", marks=pytest.mark.slow),
    ],
)
def test_an_export_is_replaced_by_another(small, tmp_path, name, format):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    renamed = dataclasses.replace(small, labels=list("abcdefghijkl"))
    written = [export(one, tmp_path / name, format) for one in (small, renamed)]
    assert written[0] == written[1]
    described = b"".join(content(tmp_path).values())
    assert b'"l"' in described and b'"yes"' not in described
    assert sorted(tmp_path.iterdir()) == sorted(written[0])


def first(samples):
    return samples


@needs_tensorflow
@pytest.mark.parametrize(
    "fns, names, why",
    [
        (
            [first, data.align, data.loudness_normalization],
            [f"{__name__}.first", "align"],
            "functions that are not of leaf_audio.data",
        ),
        (
            [data.loudness_normalization, data.align],
            ["loudness_normalization", "align"],
            "`align`, and what comes before it",
        ),
    ],
)
def test_who_must_prepare_windows_is_told_which(
    small, tmp_path, fns, names, why
):
    has_own = fns[0] is first
    path = tmp_path / ("words" if has_own else "words.tflite")
    one = dataclasses.replace(small, transform_fns=fns, evaluation_hop=8000)
    with pytest.warns(data.DataWarning, match=why):
        export(one, path, "savedmodel" if has_own else "litert")
    about = path / "assets.extra/leaf_audio.json"
    text = (about if has_own else tmp_path / "words.json").read_text()
    told = json.loads(text)
    assert (told["window"], told["hop"]) == (16000, 8000)
    assert [step["name"] for step in told["preparation"]] == names


@needs_tensorflow
@pytest.mark.parametrize("mine", ["notes.txt", "assets.extra/warmup"])
def test_a_saved_model_with_a_file_of_ones_own_is_not_replaced(
    small, tmp_path, mine
):
    path = tmp_path / "words"
    export(small, path, "savedmodel")
    (path / mine).write_text("mine")
    with pytest.raises(ValueError, match=f"{mine} would be replaced"):
        export(small, path, "savedmodel")
    assert (path / mine).read_text() == "mine"


def test_another_onnx_file_that_names_this_package_is_not_replaced(
    small, tmp_path
):
    (tmp_path / "words.onnx").write_text("/leaf_audio/conv")
    with pytest.raises(ValueError, match="words.onnx would be replaced"):
        export(small, tmp_path / "words.onnx", "onnx")


@needs_tensorflow
def test_a_link_to_a_saved_model_stays_one(small, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "words")
    export(small, tmp_path / "words", "savedmodel")
    (tmp_path / "words" / "saved_model.pb").write_text("older")
    export(small, tmp_path / "link", "savedmodel")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "words" / "saved_model.pb").stat().st_size > 9


def test_paths_may_begin_with_the_home_folder(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small.save("~/words.keras")
    export(small, "~/again.keras", "keras")
    assert sorted(tmp_path.iterdir()) == [
        tmp_path / "again.keras",
        tmp_path / "words.keras",
    ]
    shutil.copy(ROOT / "tests/recordings/yes.flac", tmp_path)
    (found,) = serving.predict("~/words.keras", ["~/yes.flac"])
    assert found.recording == str(tmp_path / "yes.flac")


@needs_tensorflow
def test_an_interruption_while_a_saved_model_is_replaced_leaves_it(
    small, tmp_path, monkeypatch
):
    path = tmp_path / "words"
    export(small, path, "savedmodel")
    before = content(path)
    move = os.replace

    def killed(source, target):
        move(source, target)
        if os.fspath(source) == os.fspath(path):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        export(small, path, "savedmodel")
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]
