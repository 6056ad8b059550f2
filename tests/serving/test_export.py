"""An exported classifier gives the probabilities of the classifier."""

import dataclasses
import functools
import json
import pathlib
import warnings

import keras
import numpy as np
import pytest
import soundfile
from tones import python

import leaf_audio
from leaf_audio import frontend, models
from leaf_audio.serving.export import export

pytestmark = pytest.mark.any_backend

YES = pathlib.Path(__file__).parents[1] / "recordings" / "yes.flac"
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="LiteRT and SavedModels are written on TensorFlow",
)

FRONTENDS = {
    "mel": lambda: frontend.MelFilterbanks(n_filters=16),
    "leaf": lambda: frontend.Leaf(n_filters=8),
    "efficient_leaf": lambda: frontend.EfficientLeaf(n_filters=8, num_groups=2),
    "sincnet_plus": lambda: frontend.SincNetPlus(n_filters=8),
    "td": lambda: frontend.TimeDomainFilterbanks(n_filters=8),
    "sincnet": lambda: frontend.SincNet(n_filters=8),
}


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def box():
    return leaf_audio.load("speech_commands")


def classifier_with(box, make):
    """A classifier with random weights and another frontend."""
    keras.utils.set_random_seed(0)
    model = models.AudioClassifier(
        num_outputs=12,
        frontend=make(),
        encoder=models.ResNet([4, 8]),
        input_norm="batch",
        pooling="average",
    )
    model.build((None, 16000))
    model.head.kernel.assign(50 * model.head.kernel)
    return dataclasses.replace(box, model=model)


def clip_of(classifier):
    return classifier.prepare(*soundfile.read(YES))[None]


def run_litert(path, clip):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()
    interpreter.set_tensor(inputs["index"], clip)
    interpreter.invoke()
    return interpreter.get_tensor(outputs["index"])


@needs_tensorflow
def test_the_included_model_runs_in_litert(box, tmp_path):
    path = tmp_path / "words.tflite"
    written = export(box, path, "litert")
    assert written == [path, tmp_path / "words.json"]
    clip = clip_of(box)
    found = run_litert(path, clip)
    np.testing.assert_allclose(found, box.probabilities(clip), atol=1e-4)
    about = json.loads((tmp_path / "words.json").read_text())
    assert about["labels"] == box.labels
    assert about["labels"][int(found.argmax())] == "yes"
    assert about["sample_rate"] == about["window"] == 16000
    assert [one["name"] for one in about["preparation"]] == [
        "align",
        "loudness_normalization",
    ]
    # Little more than the weights.
    assert path.stat().st_size < 1.3 * 4 * box.model.count_params()
    assert len(list(tmp_path.iterdir())) == 2


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("quantize, share", [("float16", 0.7), ("int8", 0.55)])
def test_weights_may_be_stored_with_fewer_bits(box, tmp_path, quantize, share):
    path = tmp_path / "words.tflite"
    export(box, path, "litert", quantize=quantize)
    clip = clip_of(box)
    found = run_litert(path, clip)
    np.testing.assert_allclose(found, box.probabilities(clip), atol=5e-3)
    assert path.stat().st_size < share * 4 * 1.3 * box.model.count_params()


@needs_tensorflow
@pytest.mark.parametrize(
    "name",
    [
        "mel",
        *(slow(name) for name in sorted(FRONTENDS) if name != "mel"),
    ],
)
def test_each_frontend_runs_in_litert(box, tmp_path, name):
    classifier = classifier_with(box, FRONTENDS[name])
    path = tmp_path / "model.tflite"
    export(classifier, path, "litert")
    clip = clip_of(classifier)
    found, expected = run_litert(path, clip), classifier.probabilities(clip)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("num_filters", [8, 80])
@pytest.mark.parametrize("format", ["litert", "onnx", "savedmodel"])
def test_leaf_can_be_exported_by_its_plan(box, tmp_path, format, num_filters):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    # Of many filters, some are planned by spectra.
    make = functools.partial(frontend.Leaf, n_filters=num_filters)
    classifier = classifier_with(box, make)
    exact = classifier_with(box, functools.partial(make, tolerance=0))
    clip = clip_of(classifier)
    expected = classifier.probabilities(clip)
    error = np.abs(expected - exact.probabilities(clip)).max()
    path = tmp_path / {"litert": "x.tflite", "onnx": "x.onnx"}.get(format, "x")
    export(classifier, path, format, keep_plan=True)
    if format == "litert":
        found = run_litert(path, clip)
    elif format == "onnx":
        found, _ = run_onnx(path, clip)
    else:
        import tensorflow as tf

        loaded = tf.saved_model.load(path)
        found = loaded.serve(tf.constant(clip))
    # It is the plan that is computed: its own error is larger.
    assert np.abs(found - expected).max() < min(1e-5, error / 2)


@pytest.mark.parametrize("name", ["mel", "keras"])
def test_a_plan_is_kept_where_there_is_one(box, tmp_path, name):
    format, path, classifier = "keras", tmp_path / "x.keras", box
    if name == "mel":
        format, path = "litert", tmp_path / "x.tflite"
        classifier = classifier_with(box, FRONTENDS["mel"])
    with pytest.raises(ValueError, match="`keep_plan` must be False with"):
        export(classifier, path, format, keep_plan=True)
    assert not list(tmp_path.iterdir())


@needs_tensorflow
@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_what_a_runtime_cannot_compute_is_refused(box, tmp_path, format):
    if format == "onnx":
        pytest.importorskip("tf2onnx")

    def unusual(energies):
        return keras.ops.erfinv(0.5 * keras.ops.tanh(energies))

    classifier = classifier_with(
        box, lambda: frontend.MelFilterbanks(8, compression_fn=unusual)
    )
    path = tmp_path / {"litert": "model.tflite", "onnx": "model.onnx"}[format]
    with pytest.raises(ValueError, match="`classifier` must be a model that"):
        export(classifier, path, format)
    assert not list(tmp_path.iterdir())


def run_onnx(path, clips):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    about = session.get_modelmeta().custom_metadata_map["leaf_audio"]
    (found,) = session.run(["probabilities"], {"clips": clips})
    return found, json.loads(about)


@needs_tensorflow
@pytest.mark.slow
def test_the_included_model_runs_in_onnx_runtime(box, tmp_path):
    pytest.importorskip("tf2onnx")
    path = tmp_path / "words.onnx"
    assert export(box, path, "onnx") == [path]
    clip = clip_of(box)
    clips = np.concatenate([clip, 0.1 * clip[:, ::-1]])
    found, about = run_onnx(path, clips)
    # The classifier follows a plan for LEAF, and the file computes it exactly.
    np.testing.assert_allclose(found, box.probabilities(clips), atol=1e-3)
    assert about["labels"][int(found[0].argmax())] == "yes"
    assert about["sample_rate"] == about["window"] == 16000
    assert path.stat().st_size < 1.3 * 4 * box.model.count_params()
    assert [one.name for one in tmp_path.iterdir()] == ["words.onnx"]


@needs_tensorflow
@pytest.mark.parametrize(
    "name",
    ["mel", *(slow(name) for name in sorted(FRONTENDS) if name != "mel")],
)
def test_each_frontend_takes_any_batch_and_length_in_onnx(box, tmp_path, name):
    pytest.importorskip("tf2onnx")
    free = dataclasses.replace(
        classifier_with(box, FRONTENDS[name]), transform_fns=[]
    )
    path = tmp_path / "model.onnx"
    export(free, path, "onnx")
    generator = np.random.default_rng(0)
    for shape in ((1, 16000), (3, 9001), (2, 40000)):
        clips = generator.normal(0, 0.1, shape).astype("float32")
        found, about = run_onnx(path, clips)
        expected = free.probabilities(clips)
        assert expected.std() > 0.01
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert about["window"] is None


@needs_tensorflow
@pytest.mark.parametrize(
    "name", ["leaf", *map(slow, sorted({*FRONTENDS} - {"leaf"}))]
)
def test_a_saved_model_takes_batches_of_any_size_and_length(
    box, tmp_path, name
):
    import tensorflow as tf

    classifier = classifier_with(box, FRONTENDS[name])
    free = dataclasses.replace(classifier, transform_fns=[])
    path = tmp_path / "model"
    for _ in range(2):  # The second time it is replaced.
        assert export(free, path, "savedmodel") == [path]
    loaded = tf.saved_model.load(path)
    generator = np.random.default_rng(0)
    for shape in ((1, 16000), (3, 9001)):
        clips = generator.normal(0, 0.1, shape).astype("float32")
        found = loaded.serve(tf.constant(clips)).numpy()
        np.testing.assert_allclose(found, free.probabilities(clips), atol=1e-4)
    about = json.loads((path / "assets.extra/leaf_audio.json").read_text())
    assert about["window"] is None
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


@needs_tensorflow
def test_several_labels_have_probabilities_of_their_own(box, tmp_path):
    import tensorflow as tf

    several = dataclasses.replace(box, thresholds=[0.5] * len(box.labels))
    export(several, tmp_path / "model", "savedmodel")
    clip = clip_of(several)
    loaded = tf.saved_model.load(tmp_path / "model")
    found = loaded.serve(tf.constant(clip))
    expected = several.probabilities(clip)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert abs(expected.sum() - 1) > 0.01


def test_one_file_is_an_export_too(box, tmp_path):
    path = tmp_path / "words.keras"
    assert export(box, path, "keras") == [path]
    assert leaf_audio.load(path).labels == box.labels


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("x.pb", {"format": "pb"}, "`format` must be one of .*pb"),
        ("x.pb", {"format": "onnx"}, "`path` must end in .onnx"),
        ("x.keras", {"format": "litert"}, "`path` must end in .tflite"),
        ("no/x.tflite", {"format": "litert"}, "in a folder that exists"),
        ("no/x.keras", {"format": "keras"}, "in a folder that exists"),
        ("x.tflite", {"format": "savedmodel"}, "`path` must end in no suffix"),
        (
            "x",
            {"format": "savedmodel", "quantize": "int8"},
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


@needs_tensorflow
def test_the_length_of_a_clip_must_be_known(box, tmp_path):
    free = dataclasses.replace(box, transform_fns=[])
    path = tmp_path / "x.tflite"
    with pytest.raises(ValueError, match="`window` must be the length"):
        export(free, path, "litert")
    with pytest.raises(ValueError, match="clips, 16000.*window=9000"):
        export(box, path, "litert", window=9000)
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="a new folder, or a SavedModel"):
        export(box, tmp_path / "model", "savedmodel")


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="for the other backends"
)
def test_another_backend_is_told(box, tmp_path):
    with pytest.raises(ValueError, match="KERAS_BACKEND must be tensorflow"):
        export(box, tmp_path / "x.tflite", "litert")


@pytest.mark.slow
@needs_tensorflow
def test_the_command_prints_what_it_has_written(tmp_path):
    output = tmp_path / "words.tflite"
    command = ("-m", "example.export", "--model=speech_commands")
    process = python(*command, "--format=litert", f"--output={output}")
    assert process.stdout.split() == [str(output), f"{tmp_path}/words.json"]


def test_what_the_command_needs_is_told():
    process = python("-m", "example.export", "--format=litert", check=False)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: `output` and `format` must be given")
