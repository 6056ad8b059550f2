"""Runs that learn from a teacher: files, runs, and what does not fit."""

import functools
import json
import shutil

import keras
import numpy as np
import pytest
from training_runs import (
    interrupted_after,
    rows,
    train_with,
    train_without_gin,
)

import leaf_audio
from leaf_audio import data, models, serving
from leaf_audio.training import NpzTeacher, Workdir

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

MORE = ("train.num_epochs = 2", "train.learning_rate = 0.003")
LABELS = ("high", "low", "mid")


@pytest.fixture
def audio_data(folder):
    return data.audio_folder(
        folder / "tones", data_dir=str(folder / "prepared"), sample_rate=4000
    )


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def bound(kind, path, **settings):
    """Returns bindings of a teacher."""
    lines = [f"train.teacher = @{kind}()", f"{kind}.path = '{path}'"]
    return [*lines, *(f"{kind}.{k} = {v!r}" for k, v in settings.items())]


def test_a_clip_is_named_by_its_file(audio_data):
    names = audio_data.clips["train"].names
    assert names[:2] == ["train/high/0.wav", "train/high/1.wav"]
    assert len(names) == 21


@pytest.mark.parametrize("front", ["", "data/tones/", "/abs/tones/"])
def test_rows_are_found_by_file_name_whatever_is_in_front(
    front, audio_data, tmp_path
):
    names = audio_data.clips["train"].names
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 3))
    order = rng.permutation(30)
    others = [f"test/high/{i}.wav" for i in range(9)]
    files = [front + name for name in [*names, *others]]
    path = write_npz(
        tmp_path / "a.npz",
        files=np.array(files)[order],
        logits=logits[order],
    )
    teacher = NpzTeacher(path, temperature=4)
    shares = np.exp(logits[:21] / 4)
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(teacher.targets(audio_data), shares, rtol=1e-5)


def test_columns_are_in_the_order_of_the_labels(audio_data, tmp_path):
    names = audio_data.clips["train"].names
    logits = np.random.default_rng(0).normal(size=(21, 4))
    path = write_npz(
        tmp_path / "a.npz",
        files=names,
        logits=logits,
        labels=["mid", "other", "high", "low"],
    )
    found = NpzTeacher(path, temperature=1).targets(audio_data)
    shares = np.exp(logits[:, [2, 3, 0]])
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(found, shares, rtol=1e-5)


def test_embeddings_have_channels_of_mean_0_and_deviation_1(
    audio_data, tmp_path
):
    embeddings = np.random.default_rng(0).normal(3, 5, size=(21, 4))
    embeddings[:, 1] = 0.1
    path = write_npz(
        tmp_path / "a.npz",
        files=audio_data.clips["train"].names,
        embeddings=embeddings,
    )
    found = NpzTeacher(path, outputs="embeddings").targets(audio_data)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(0), [1, 0, 1, 1], 1e-5, 1e-9)


def arrays(audio_data, **changed):
    names = audio_data.clips["train"].names
    made = {"files": names, "logits": np.zeros((len(names), 3)), **changed}
    return {k: v for k, v in made.items() if v is not None}


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"logits": None}, r"row of numbers.*arrays \['files'\]"),
        ({"logits": np.zeros((20, 3))}, r"`files` of shape \(21,\)"),
        ({"logits": np.zeros((21, 4))}, "of the 3 labels.*with 4 columns"),
        ({"logits": np.full((21, 3), np.nan)}, "must say what is finite"),
        ({"labels": ["high", "low", "x"]}, "lacks 1: 'mid'"),
        ({"labels": ["high"]}, r"`labels` of shape \(1,\)"),
        ({"labels": ["high", "low", "high"]}, "`labels` have 'high' twice"),
        (
            {"files": [f"{i}.wav" for i in range(21)]},
            "lacks 21: 'train/high/0.wav', .* and 18 more. .* '0.wav'",
        ),
        ({"files": ["a.wav"] * 21}, "names 'a.wav' twice"),
    ],
)
def test_what_a_file_lacks_is_named(changed, message, audio_data, tmp_path):
    path = write_npz(tmp_path / "a.npz", **arrays(audio_data, **changed))
    with pytest.raises(ValueError, match=message):
        teacher = NpzTeacher(path)
        teacher.check()
        teacher.targets(audio_data)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "a.npz").write_text("no archive")
    for name in ("a.npz", "missing.npz"):
        with pytest.raises(ValueError, match=f"{name}', which cannot be read"):
            NpzTeacher(tmp_path / name).check()


@pytest.mark.parametrize("outputs", ["logits", "embeddings"])
def test_a_run_says_of_clips_what_it_says_of_their_files(
    outputs, finished, folder, audio_data
):
    teacher = serving.RunTeacher(finished[0], outputs=outputs)
    found = teacher.outputs_of(audio_data)
    classifier = leaf_audio.load(finished[0])
    for row, name in zip(found, audio_data.clips["train"].names, strict=True):
        samples = data.read_recording(folder / "tones" / name, 4000)
        if outputs == "embeddings":
            expected = classifier.embed(samples, 4000)
            np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
        else:
            expected = list(classifier.predict(samples, 4000).values())
            np.testing.assert_allclose(np.exp(row), expected, rtol=1e-4)


def test_a_run_says_of_a_long_clip_what_predict_says(
    finished, audio_data, folder
):
    # The clips of the tones have 600 samples, and the model takes 500.
    teacher = serving.RunTeacher(finished[0])
    found = teacher.outputs_of(audio_data)[0]
    classifier = leaf_audio.load(finished[0])
    name = audio_data.clips["train"].names[0]
    samples = data.read_recording(folder / "tones" / name, 4000)
    assert len(list(classifier.windows(samples))) == 2
    centre = classifier.probabilities(classifier.prepare(samples, 4000)[None])
    whole = list(classifier.predict(samples, 4000).values())
    np.testing.assert_allclose(np.exp(found), whole, rtol=1e-4)
    assert np.abs(np.exp(found) - centre[0]).max() > 1e-4


def test_a_path_may_begin_with_the_home_folder(
    finished, audio_data, monkeypatch
):
    monkeypatch.setenv("HOME", str(finished[0].parent))
    teacher = serving.RunTeacher(f"~/{finished[0].name}")
    teacher.check()
    expected = serving.RunTeacher(finished[0])
    assert teacher.fingerprint() == expected.fingerprint()
    np.testing.assert_array_equal(
        teacher.outputs_of(audio_data), expected.outputs_of(audio_data)
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("align.seq_len", "400"),
        ("data.prepare.transform_fns", "[@align, @loudness_normalization]"),
        ("data.prepare.evaluation_hop", "100"),
    ],
)
def test_how_a_run_prepares_recordings_makes_it_another_teacher(
    name, value, finished, tmp_path
):
    copy = shutil.copytree(finished[0], tmp_path / "run")
    before = serving.RunTeacher(copy).fingerprint()
    assert before == serving.RunTeacher(finished[0]).fingerprint()
    settings = json.loads((copy / "settings.json").read_text("utf-8"))
    settings = {k: v for k, v in settings.items() if not k.endswith(name)}
    text = json.dumps({**settings, name: value})
    (copy / "settings.json").write_text(text, "utf-8")
    assert serving.RunTeacher(copy).fingerprint() != before


def batches_of(audio_data, **more):
    made = data.prepare(
        audio_data, transform_fns=[data.align], batch_size=6, **more
    )
    return [batch for _, batch in zip(range(4), made.train(), strict=False)]


def test_what_a_teacher_says_of_a_clip_follows_its_label(audio_data):
    labels = audio_data.clips["train"].labels
    # The number of the clip, so that it is known which one comes.
    said = np.arange(21, dtype="float32")[:, None]
    with_teacher = batches_of(audio_data, more_targets=said)
    without = batches_of(audio_data)
    for (audio, targets), (other, label) in zip(
        with_teacher, without, strict=True
    ):
        np.testing.assert_array_equal(audio, other)
        np.testing.assert_array_equal(targets[:, :3], np.eye(3)[label])
        number = targets[:, 3].astype(int)
        np.testing.assert_array_equal(labels[number], label)
    seen = np.concatenate([targets[:, 3] for _, targets in with_teacher])
    assert set(seen[:21]) == set(range(21))


def test_mixup_mixes_what_a_teacher_says_as_it_mixes_labels(audio_data):
    labels = audio_data.clips["train"].labels
    matrix = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    said = matrix[labels]
    for _, targets in batches_of(
        audio_data, more_targets=said, mixup_alpha=0.4
    ):
        assert np.any((targets[:, :3] > 0.01) & (targets[:, :3] < 0.99))
        np.testing.assert_allclose(
            targets[:, 3:], targets[:, :3] @ matrix, atol=1e-5
        )


@pytest.mark.parametrize(
    "outputs", [pytest.param("logits", marks=pytest.mark.slow), "embeddings"]
)
def test_resumed_distillation_equals_uninterrupted(
    outputs, finished, folder, tmp_path, monkeypatch
):
    lines = [*MORE, *bound("RunTeacher", finished[0], outputs=outputs)]
    lines.append("data.prepare.mixup_alpha = 0.3")
    whole = train_with(folder, tmp_path / "whole", *lines)
    with interrupted_after(1, monkeypatch):
        train_with(folder, tmp_path / "resumed", *lines)
    resumed = train_with(folder, tmp_path / "resumed", *lines)
    assert resumed["metrics"] == whole["metrics"]
    assert rows(tmp_path / "resumed") == rows(tmp_path / "whole")
    # What was there for the teacher is dropped.
    kept = Workdir(tmp_path / "whole").load_best()
    assert type(kept) is models.AudioClassifier
    plain = Workdir(finished[0]).load_best()
    assert kept.count_params() == plain.count_params()
    assert whole["parameters"]["total"] == plain.count_params()


def test_a_student_of_weight_1_learns_what_its_teacher_says(
    folder, audio_data, tmp_path
):
    # The teacher calls each label by the name of the next one.
    names = audio_data.clips["train"].names
    said = np.eye(3)[[(LABELS.index(n.split("/")[1]) + 1) % 3 for n in names]]
    path = write_npz(tmp_path / "a.npz", files=names, logits=9 * said)
    train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 16",
        "train.learning_rate = 0.02",
        *bound("NpzTeacher", path, weight=1.0),
    )
    last = rows(tmp_path / "run")[-1]
    assert float(last["loss"]) < 0.5 < float(rows(tmp_path / "run")[0]["loss"])
    assert float(last["accuracy"]) < 0.1


def run_without_gin(folder, workdir, path, epochs):
    results = train_without_gin(
        folder,
        workdir,
        functools.partial(data.align, seq_len=500),
        num_epochs=epochs,
        teacher=NpzTeacher(path),
    )
    assert results["config"]["train.teacher.path"] == repr(str(path))


@pytest.mark.parametrize("has_gin", [True, False])
def test_another_teacher_in_a_workdir_is_refused_and_a_moved_one_is_not(
    has_gin, folder, audio_data, tmp_path
):
    names = audio_data.clips["train"].names
    logits = np.zeros((21, 3))
    for name in ("one", "moved"):
        write_npz(tmp_path / f"{name}.npz", files=names, logits=logits)
    write_npz(tmp_path / "other.npz", files=names, logits=logits + 1)

    def run(name, epochs):
        path = tmp_path / f"{name}.npz"
        if not has_gin:
            return run_without_gin(folder, tmp_path / "run", path, epochs)
        lines = bound("NpzTeacher", path)
        line = f"train.num_epochs = {epochs}"
        return train_with(folder, tmp_path / "run", line, *lines)

    run("one", 1)
    run("moved", 2)
    with pytest.raises(ValueError, match=r"differs in: teacher \(was"):
        run("other", 3)


@pytest.mark.parametrize(
    "line, message",
    [
        ("train.teacher = @RunTeacher", "`teacher` must be a training.Npz"),
        ("RunTeacher.distance = 'cosine'", "`distance` must be None unless"),
        (
            "RunTeacher.path = 'no_such'",
            "`RunTeacher.path` must .* path='no_such', which does not exist",
        ),
        ("train.pretraining = @COLA", "`teacher` must be None with"),
        (
            "train.loss = @SparseCategoricalCrossentropy()",
            "`loss` must take targets of shape .* a teacher and",
        ),
    ],
)
def test_what_a_teacher_excludes_is_refused(
    line, message, finished, folder, tmp_path
):
    lines = bound("RunTeacher", finished[0])
    with pytest.raises(ValueError, match=message):
        train_with(folder, tmp_path / "run", *lines, line)


def test_embeddings_need_a_classifier_of_this_package():
    from leaf_audio.models.student import Student

    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="Received: a Sequential"):
        Student(other, units=3)


def test_a_choice_in_upper_case_is_the_same_choice():
    teacher = NpzTeacher("a.npz", outputs="EMBEDDINGS", distance="COSINE")
    assert (teacher.outputs, teacher.distance) == ("embeddings", "cosine")
    teacher = NpzTeacher("a.npz", outputs="LOGITS")
    assert teacher.get_config() == NpzTeacher("a.npz").get_config()


def test_files_of_the_same_names_in_two_folders_are_refused(
    audio_data, tmp_path
):
    names = audio_data.clips["train"].names
    files = [f"{front}/{name}" for front in ("d1", "d2") for name in names]
    path = write_npz(
        tmp_path / "a.npz", files=files, logits=np.zeros((len(files), 3))
    )
    with pytest.raises(ValueError, match="each recording once.*'d1/', 'd2/'"):
        NpzTeacher(path).targets(audio_data)
