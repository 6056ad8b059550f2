"""Embeddings of recordings, also by the API of the HEAR benchmark."""

import pathlib

import keras
import numpy as np
import pytest
import soundfile
from tones import run_command

import leaf_audio
from leaf_audio import serving
from leaf_audio.serving import hear

pytestmark = pytest.mark.any_backend

YES = pathlib.Path(__file__).parents[1] / "recordings" / "yes.flac"


@pytest.fixture(scope="module")
def classifier():
    return leaf_audio.load("speech_commands")


@pytest.fixture(scope="module")
def model():
    return hear.load_model("speech_commands")


def test_recordings_have_an_embedding_for_each_window(classifier, tmp_path):
    samples, rate = soundfile.read(YES)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(samples, 3)[: 5 * rate // 2], rate)
    one, other = serving.embed(classifier, [str(YES), str(long)], hop=0.5)
    assert one.rows.shape == (1, 96) and one.rows.dtype == np.float32
    expected = classifier.embed(samples, rate)
    np.testing.assert_allclose(one.mean, expected, atol=1e-5)
    assert other.starts.tolist() == [0, 0.5, 1, 1.5]
    np.testing.assert_allclose(other.rows[2], expected, atol=1e-3)
    with pytest.raises(ValueError, match="no.wav"):
        list(serving.embed(classifier, ["no.wav"]))


def test_scene_embeddings_are_those_of_the_classifier(classifier, model):
    samples, rate = soundfile.read(YES, dtype="float32")
    assert model.sample_rate == rate
    audio = keras.ops.convert_to_tensor(np.stack([samples, samples[::-1]]))
    found = keras.ops.convert_to_numpy(hear.get_scene_embeddings(audio, model))
    assert found.shape == (2, model.scene_embedding_size)
    expected = classifier.embed(samples, rate)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert np.abs(found[1] - found[0]).max() > 0.1


@pytest.mark.parametrize("n_samples", [1, 799, 16000, 25000])
def test_timestamps_follow_the_rules_of_hear(model, n_samples):
    generator = np.random.default_rng(0)
    audio = generator.uniform(-1, 1, (2, n_samples)).astype("float32")
    embeddings, times = map(
        keras.ops.convert_to_numpy,
        hear.get_timestamp_embeddings(
            keras.ops.convert_to_tensor(audio), model
        ),
    )
    assert times.shape == embeddings.shape[:2]
    assert embeddings.shape[2] == model.timestamp_embedding_size
    np.testing.assert_array_equal(times[0], times[1])
    duration = 1000 * n_samples / model.sample_rate
    assert times[0, 0] <= 50 and duration - times[0, -1] <= 50
    np.testing.assert_allclose(np.diff(times[0]), 50)
    assert embeddings.dtype == np.float32 and np.isfinite(embeddings).all()


def test_a_timestamp_has_the_embedding_of_what_is_round_it(classifier, model):
    samples, rate = soundfile.read(YES, dtype="float32")
    late = np.concatenate([np.zeros(rate, "float32"), samples])
    embeddings, times = map(
        keras.ops.convert_to_numpy,
        hear.get_timestamp_embeddings(
            keras.ops.convert_to_tensor(late[None]), model
        ),
    )
    (place,) = np.flatnonzero(times[0] == 1525)
    part = np.pad(late, (0, rate))[round(1.025 * rate) :][:rate]
    expected = classifier.embed(part, rate)
    np.testing.assert_allclose(embeddings[0, place], expected, atol=1e-4)


def test_a_module_of_the_backend_is_returned(model):
    if keras.backend.backend() == "torch":
        import torch

        assert isinstance(model, torch.nn.Module)
    else:
        import tensorflow as tf

        assert isinstance(model, tf.Module)


def test_audio_of_another_shape_is_refused(model):
    for function in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(ValueError, match="`audio` must be a tensor"):
            function(keras.ops.zeros(16000), model)


def test_the_command_writes_embeddings_and_names(tmp_path, classifier):
    (tmp_path / "bad.wav").write_text("no recording")
    output = tmp_path / "out.npz"
    process = run_command(
        *("embed", "--model=speech_commands", f"--output={output}"),
        *(str(YES), str(tmp_path / "bad.wav")),
    )
    assert process.returncode == 1 and "bad.wav" in process.stderr
    with np.load(output) as arrays:
        assert arrays["files"].tolist() == [str(YES)]
        expected = classifier.embed(*soundfile.read(YES))
        np.testing.assert_allclose(
            arrays["embeddings"], expected[None], atol=1e-5
        )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--output=x.npz"], "recordings and the .npz file `output`"),
        (["x.wav"], "recordings and the .npz file `output`"),
        (["--output=x.csv", "x.wav"], "`output` must be a file that ends in"),
        (["--output=no/x.npz", "x.wav"], "in a folder that exists"),
    ],
)
def test_what_embed_needs_is_told(flags, message):
    process = run_command("embed", "--model=speech_commands", *flags)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
