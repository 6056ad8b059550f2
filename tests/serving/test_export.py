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
from exporting import needs_tensorflow
from tones import python, run_command

import leaf_audio
from leaf_audio import data, frontend, models
from leaf_audio.serving.export import export

pytestmark = pytest.mark.any_backend

YES = pathlib.Path(__file__).parents[1] / "recordings" / "yes.flac"
FRONTENDS = {
    "mel": lambda: frontend.MelFilterbanks(n_filters=16),
    "leaf": lambda: frontend.Leaf(n_filters=8),
    "efficient_leaf": lambda: frontend.EfficientLeaf(n_filters=8, num_groups=2),
    "sincnet_plus": lambda: frontend.SincNetPlus(n_filters=8),
    "td": lambda: frontend.TimeDomainFilterbanks(n_filters=8),
    "sincnet": lambda: frontend.SincNet(n_filters=8),
}


to_level = functools.partial(
    data.loudness_normalization, target_db=0, max_gain_db=60
)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


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


def exactly(classifier):
    """The classifier with a LEAF without a plan, as it is exported."""
    if type(classifier.frontend) is not frontend.Leaf:
        return classifier
    config = classifier.model.get_config()
    config["frontend"]["config"]["tolerance"] = 0
    model = type(classifier.model).from_config(config)
    model.build((None, 16000))
    model.set_weights(classifier.model.get_weights())
    return dataclasses.replace(classifier, model=model)


def recordings():
    """A word at different loudness, and of different lengths."""
    samples, _ = soundfile.read(YES, dtype="float32")
    return [
        samples,
        0.03 * samples,
        # Too quiet to be brought to the level.
        1e-4 * samples[::-1],
        np.pad(3 * samples[3000:12000], (0, 7000)),
        samples[4000:11001],
        np.concatenate([0.1 * samples, samples[::-1], samples[:5000]]),
    ]


def of_one_window():
    return [one for one in recordings() if len(one) == 16000]


def predicted(classifier, recording):
    return list(classifier.predict(recording, 16000).values())


def run_litert(path, samples):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()
    interpreter.set_tensor(inputs["index"], samples)
    interpreter.invoke()
    return interpreter.get_tensor(outputs["index"])


@needs_tensorflow
def test_the_included_model_runs_in_litert(box, tmp_path):
    path = tmp_path / "words.tflite"
    written = export(box, path, "litert")
    assert written == [path, tmp_path / "words.json"]
    exact = exactly(box)
    for recording in of_one_window():
        found = run_litert(path, recording[None])[0]
        expected = predicted(exact, recording)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        # LEAF itself follows a plan, and the file computes it exactly.
        np.testing.assert_allclose(found, predicted(box, recording), atol=2e-3)
    about = json.loads((tmp_path / "words.json").read_text())
    assert about["labels"] == box.labels
    found = run_litert(path, of_one_window()[0][None])
    assert about["labels"][int(found.argmax())] == "yes"
    assert about["sample_rate"] == about["window"] == about["hop"] == 16000
    align = {"name": "align", "seq_len": 16000, "padding": "zeros"}
    assert about["preparation"] == [align]
    assert about["included"] == {
        "window": None,
        "hop": None,
        "preparation": [
            {
                "name": "loudness_normalization",
                "target_db": 0,
                "max_gain_db": 60,
            }
        ],
    }
    # Little more than the weights.
    assert path.stat().st_size < 1.3 * 4 * box.model.count_params()
    assert len(list(tmp_path.iterdir())) == 2


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    "quantize, share, error", [("float16", 0.7, 2e-3), ("int8", 0.55, 0.02)]
)
def test_weights_may_be_stored_with_fewer_bits(
    box, tmp_path, quantize, share, error
):
    path = tmp_path / "words.tflite"
    export(box, path, "litert", quantize=quantize)
    exact = exactly(box)
    for recording in of_one_window():
        found = run_litert(path, recording[None])[0]
        expected = predicted(exact, recording)
        np.testing.assert_allclose(found, expected, atol=error)
    assert path.stat().st_size < share * 4 * 1.3 * box.model.count_params()


def run(format, path, samples):
    """The probabilities that a file gives in its own runtime."""
    if format == "litert":
        return np.concatenate([run_litert(path, one[None]) for one in samples])
    if format == "onnx":
        return run_onnx(path, samples)[0]
    import tensorflow as tf

    # It must live as long as its functions are used.
    loaded = tf.saved_model.load(path)
    return loaded.serve(tf.constant(samples)).numpy()


def path_of(format, folder):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
    return folder / {"litert": "x.tflite", "onnx": "x.onnx"}.get(format, "x")


@needs_tensorflow
@pytest.mark.parametrize(
    "format, name",
    [
        (format, name)
        if (format, name) in (("litert", "mel"), ("savedmodel", "leaf"))
        else slow(format, name)
        for format in ("litert", "onnx", "savedmodel")
        for name in FRONTENDS
    ],
)
def test_each_frontend_gives_the_predictions_of_recordings(
    box, tmp_path, format, name
):
    classifier = classifier_with(box, FRONTENDS[name])
    path = path_of(format, tmp_path)
    export(classifier, path, format)
    exact = exactly(classifier)
    for recording in recordings():
        if format == "litert" and len(recording) != 16000:
            continue
        (found,) = run(format, path, recording[None])
        expected = predicted(exact, recording)
        assert np.std(expected) > 0.01
        np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_tensorflow
@pytest.mark.parametrize(
    "format, name",
    [
        (format, name)
        if (format, name) == ("onnx", "mel")
        else slow(format, name)
        for format in ("onnx", "savedmodel")
        for name in FRONTENDS
    ],
)
def test_each_frontend_takes_any_batch_and_length(box, tmp_path, format, name):
    # A model that judges recordings as a whole.
    free = dataclasses.replace(
        classifier_with(box, FRONTENDS[name]), transform_fns=[to_level]
    )
    path = path_of(format, tmp_path)
    export(free, path, format)
    exact = exactly(free)
    samples = np.tile(recordings()[0], 3)
    for shape in ((1, 16000), (3, 9001), (2, 40000)):
        batch = np.stack([samples[i : i + shape[1]] for i in range(shape[0])])
        found = run(format, path, batch)
        expected = [predicted(exact, one) for one in batch]
        np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_tensorflow
@pytest.mark.parametrize("format", ["savedmodel", slow("onnx")])
def test_long_recordings_are_judged_in_the_windows_of_the_run(
    box, tmp_path, format
):
    classifier = dataclasses.replace(
        classifier_with(box, FRONTENDS["mel"]), evaluation_hop=5000
    )
    path = path_of(format, tmp_path)
    export(classifier, path, format)
    samples = recordings()[-1]
    batch = np.stack([samples, samples[::-1]])
    found = run(format, path, batch)
    expected = [predicted(classifier, one) for one in batch]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    about = described(format, path)
    assert about["window"] is None and about["hop"] is None
    assert about["preparation"] == []
    assert (about["included"]["window"], about["included"]["hop"]) == (
        16000,
        5000,
    )


def described(format, path):
    if format == "litert":
        return json.loads(path.with_suffix(".json").read_text())
    if format == "onnx":
        return run_onnx(path, recordings()[0][None])[1]
    return json.loads((path / "assets.extra/leaf_audio.json").read_text())


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("format", ["litert", "onnx", "savedmodel"])
def test_real_recordings_get_their_predictions(
    box, tmp_path, speech_commands, format
):
    path = path_of(format, tmp_path)
    export(box, path, format)
    exact = exactly(box)
    files = sorted(speech_commands.rglob("*.flac"))[::150]
    assert len(files) > 10
    for file in files:
        samples, _ = soundfile.read(file, dtype="float32")
        if format == "litert":
            samples = data.align(samples)
        (found,) = run(format, path, samples[None])
        np.testing.assert_allclose(found, predicted(exact, samples), atol=1e-4)


def backwards(samples):
    """A function of one's own."""
    return samples[::-1]


@needs_tensorflow
@pytest.mark.parametrize("format", ["litert", slow("onnx"), slow("savedmodel")])
def test_functions_of_ones_own_are_left_to_the_caller(box, tmp_path, format):
    classifier = dataclasses.replace(
        classifier_with(box, FRONTENDS["mel"]),
        transform_fns=[data.align, backwards, to_level],
    )
    path = path_of(format, tmp_path)
    with pytest.warns(data.DataWarning, match=r"by align, .*\.backwards: "):
        export(classifier, path, format)
    about = described(format, path)
    assert about["window"] == about["hop"] == 16000
    assert [one["name"] for one in about["preparation"]] == [
        "align",
        f"{__name__}.backwards",
    ]
    recording = recordings()[4]
    given = backwards(data.align(recording))
    (found,) = run(format, path, given[None])
    expected = predicted(classifier, recording)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("num_filters", [8, 80])
@pytest.mark.parametrize("format", ["litert", "onnx", "savedmodel"])
def test_leaf_can_be_exported_by_its_plan(box, tmp_path, format, num_filters):
    # Of many filters, some are planned by spectra.
    make = functools.partial(frontend.Leaf, n_filters=num_filters)
    classifier = classifier_with(box, make)
    exact = classifier_with(box, functools.partial(make, tolerance=0))
    recording = recordings()[0]
    expected = predicted(classifier, recording)
    error = np.abs(np.subtract(expected, predicted(exact, recording))).max()
    path = path_of(format, tmp_path)
    export(classifier, path, format, keep_plan=True)
    (found,) = run(format, path, recording[None])
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
    path = path_of(format, tmp_path)

    def unusual(energies):
        return keras.ops.erfinv(0.5 * keras.ops.tanh(energies))

    classifier = classifier_with(
        box, lambda: frontend.MelFilterbanks(8, compression_fn=unusual)
    )
    with pytest.raises(ValueError, match="`classifier` must be a model that"):
        export(classifier, path, format)
    assert not list(tmp_path.iterdir())


def run_onnx(path, samples):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    about = session.get_modelmeta().custom_metadata_map["leaf_audio"]
    (found,) = session.run(["probabilities"], {"samples": samples})
    return found, json.loads(about)


@needs_tensorflow
@pytest.mark.slow
def test_the_included_model_runs_in_onnx_runtime(box, tmp_path):
    path = path_of("onnx", tmp_path)
    assert export(box, path, "onnx") == [path]
    batch = np.stack(of_one_window())
    found, about = run_onnx(path, batch)
    exact = exactly(box)
    expected = [predicted(exact, one) for one in batch]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert about["labels"][int(found[0].argmax())] == "yes"
    assert about["sample_rate"] == 16000
    assert path.stat().st_size < 1.3 * 4 * box.model.count_params()
    assert [one.name for one in tmp_path.iterdir()] == ["x.onnx"]


@needs_tensorflow
def test_a_saved_model_is_replaced(box, tmp_path):
    classifier = classifier_with(box, FRONTENDS["mel"])
    path = tmp_path / "model"
    for labels in (box.labels, box.labels[::-1]):
        renamed = dataclasses.replace(classifier, labels=labels)
        assert export(renamed, path, "savedmodel") == [path]
    assert described("savedmodel", path)["labels"] == box.labels[::-1]
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


@needs_tensorflow
def test_several_labels_have_probabilities_of_their_own(box, tmp_path):
    classifier = classifier_with(box, FRONTENDS["mel"])
    several = dataclasses.replace(
        classifier, thresholds=np.full(len(box.labels), 0.5, "float32")
    )
    path = tmp_path / "model"
    export(several, path, "savedmodel")
    (found,) = run("savedmodel", path, recordings()[0][None])
    expected = predicted(several, recordings()[0])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert abs(sum(expected) - 1) > 0.01
    assert described("savedmodel", path)["thresholds"] == [0.5] * 12


def test_one_file_is_an_export_too(box, tmp_path):
    path = tmp_path / "words.keras"
    assert export(box, path, "keras") == [path]
    assert leaf_audio.load(path).labels == box.labels


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="for the other backends"
)
def test_another_backend_is_told(box, tmp_path):
    with pytest.raises(ValueError, match="KERAS_BACKEND must be tensorflow"):
        export(box, tmp_path / "x.tflite", "litert")


@needs_tensorflow
@pytest.mark.parametrize(
    "format, names",
    [
        ("litert", ["x.tflite", "x.json"]),
        slow("onnx", ["x.onnx"]),
        slow("savedmodel", ["x"]),
        slow("keras", ["x.keras"]),
    ],
)
def test_the_command_prints_what_it_has_written_and_nothing_else(
    tmp_path, format, names
):
    path_of(format, tmp_path)
    command = ("-m", "example.export", "--model=speech_commands")
    output = f"--output={tmp_path / names[0]}"
    process = python(*command, f"--format={format}", output)
    assert process.stdout.split() == [str(tmp_path / one) for one in names]
    assert process.stderr == ""


def test_what_the_command_needs_is_told():
    process = run_command("export", "--format=litert")
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: `output` and `format` must be given")


@needs_tensorflow
@pytest.mark.parametrize(
    "policy, format, suffix",
    [
        ("mixed_bfloat16", "onnx", ".onnx"),
        ("mixed_bfloat16", "litert", ".tflite"),
        ("mixed_float16", "litert", ".tflite"),
    ],
)
def test_sixteen_bits_are_refused_where_they_cannot_be_run(
    box, tmp_path, policy, format, suffix
):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    model = models.AudioClassifier(
        len(box.labels), encoder=models.ConvNet([4], dtype=policy), dtype=policy
    )
    model.build((None, 20, 8))
    mixed = dataclasses.replace(box, model=model)
    with pytest.raises(ValueError, match="must not compute in 16 bits"):
        export(mixed, tmp_path / f"x{suffix}", format)
    assert not list(tmp_path.iterdir())


@needs_tensorflow
def test_an_error_of_tensorflow_names_the_path(box, tmp_path, monkeypatch):
    import tensorflow as tf

    def fail(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "no space left")

    # Keras has a class of its own for each backend.
    archive = type(keras.export.ExportArchive())
    monkeypatch.setattr(archive, "write_out", fail)
    path = tmp_path / "saved"
    with pytest.raises(OSError, match="saved cannot be written: no space left"):
        export(box, path, "savedmodel")
