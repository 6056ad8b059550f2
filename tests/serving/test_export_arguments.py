"""What cannot be exported is told before anything is written."""

import dataclasses
import sys

import pytest
from exporting import needs_tensorflow

import leaf_audio
from leaf_audio.serving.export import export

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def box():
    return leaf_audio.load("speech_commands")


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("x.pb", {"format": "pb"}, "`format` must be one of .*pb"),
        ("x.pb", {"format": "onnx"}, "`path` must end in .onnx"),
        ("x.keras", {"format": "litert"}, "`path` must end in .tflite"),
        ("no/x.tflite", {"format": "litert"}, "in a folder that exists"),
        ("no/x.keras", {"format": "keras"}, "in a folder that exists"),
        ("no/x", {"format": "savedmodel"}, "Make the folder .*/no first"),
        (".tflite", {"format": "litert"}, "`path` must end in .tflite"),
        ("x.tflite", {"format": "savedmodel"}, "`path` must end in no suffix"),
        (
            "x",
            {"format": "savedmodel", "quantize": "int8"},
            "`format` must be litert with `quantize`",
        ),
        (
            "x.onnx",
            {"format": "onnx", "quantize": "float16"},
            "`format` must be litert with `quantize`",
        ),
        (
            "x.tflite",
            {"format": "litert", "quantize": "int4"},
            "`quantize` must be one of .*int4",
        ),
    ],
)
def test_a_wrong_argument_is_named(box, tmp_path, name, settings, message):
    with pytest.raises(ValueError, match=message):
        export(box, tmp_path / name, **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["litert", "onnx", "keras"])
def test_a_folder_is_not_replaced_by_a_file(box, tmp_path, format):
    path = tmp_path / {"litert": "x.tflite"}.get(format, f"x.{format}")
    path.mkdir()
    with pytest.raises(ValueError, match="`path` must be a file.*in a folder"):
        export(box, path, format)
    assert path.is_dir()


@needs_tensorflow
def test_the_extra_that_is_missing_is_named(box, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'leaf_audio\[onnx\]'"):
        export(box, tmp_path / "x.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@needs_tensorflow
def test_the_length_of_a_clip_must_be_known(box, tmp_path):
    free = dataclasses.replace(box, transform_fns=[])
    path = tmp_path / "x.tflite"
    with pytest.raises(ValueError, match="`window` must be the length"):
        export(free, path, "litert")
    with pytest.raises(ValueError, match="clips, 16000.*window=9000"):
        export(box, path, "litert", window=9000)
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="`path` must be new.*model would be"):
        export(box, tmp_path / "model", "savedmodel")


def test_what_load_takes_can_be_exported(box, tmp_path):
    for number, source in enumerate(("speech_commands", box)):
        export(source, tmp_path / f"{number}.keras", "keras")
    first, second = (leaf_audio.load(one) for one in tmp_path.iterdir())
    assert first.labels == second.labels
    with pytest.raises(ValueError, match="no/run', which does not exist"):
        export("no/run", tmp_path / "x.keras", "keras")
    with pytest.raises(ValueError, match="`classifier` must be a path.*=3"):
        export(3, tmp_path / "x.keras", "keras")
    assert len(list(tmp_path.iterdir())) == 2


def test_upper_case_means_the_same():
    """The value that a check returns is the one that is used."""
    with pytest.raises(ValueError, match="must end in .tflite"):
        export(leaf_audio.load("speech_commands"), "x.wrong", "LITERT", "INT8")
