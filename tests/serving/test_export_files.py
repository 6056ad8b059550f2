"""An export replaces what an export has written, and nothing else."""

import dataclasses
import os

import pytest
from exporting import needs_tensorflow
from tones import content

import leaf_audio
from leaf_audio import frontend, models
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
