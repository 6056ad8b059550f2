"""Classifiers from a few labelled recordings."""

import dataclasses
import math
import shutil

import keras
import numpy as np
import pytest
import soundfile
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tones import run_command

import leaf_audio
from leaf_audio import serving
from leaf_audio.common.files import write_json
from leaf_audio.serving import few_examples

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def classifier():
    return leaf_audio.load("speech_commands")


def write(folder, hz, count, seed):
    """Writes tones in noise, of half a second."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    time = np.arange(8000) / 16000
    for number in range(count):
        phase = generator.uniform(0, 6)
        tone = 0.1 * np.sin(2 * np.pi * hz * time + phase)
        samples = tone + generator.normal(0, 0.02, len(time))
        soundfile.write(folder / f"{number}.wav", samples, 16000)


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few") / "birds"
    for number, (name, hz) in enumerate((("high", 3000), ("low", 300))):
        write(folder / name, hz, 6, number)
    return folder


@pytest.fixture(scope="module")
def labelled(classifier, birds):
    return few_examples.read_labelled(classifier, str(birds))


def made(targets, is_test=None, groups=None, seed=0):
    """Random embeddings, of which one channel tells the labels apart."""
    targets = np.array(targets)
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(0, 1, (len(targets), 4)).astype("float32")
    embeddings[:, 1] += 6 * targets
    return few_examples.Labelled(
        files=[f"{k}.wav" for k in range(len(targets))],
        windows=list(embeddings[:, None]),
        targets=targets,
        labels=[f"label {k}" for k in range(targets.max() + 1)],
        groups=np.arange(len(targets)) if groups is None else np.array(groups),
        is_test=np.zeros(len(targets), bool)
        if is_test is None
        else np.array(is_test),
    )


def test_recordings_are_read_with_their_labels(classifier, birds, labelled):
    assert labelled.labels == ["high", "low"]
    assert labelled.targets.tolist() == [0] * 6 + [1] * 6
    assert not labelled.is_test.any()
    samples, rate = soundfile.read(birds / "low/0.wav")
    np.testing.assert_allclose(
        labelled.means[6], classifier.embed(samples, rate), atol=1e-5
    )


@pytest.mark.parametrize("method", few_examples.METHODS)
def test_a_few_tones_are_told_apart(labelled, method):
    scores = few_examples.score(labelled, method)
    assert scores.how == "cross-validation, 5 parts"
    assert scores.accuracy[0] == 1
    assert scores.counts == {"high": 6, "low": 6}
    low, high = scores.recall["low"][1:]
    interval = stats.binomtest(6, 6).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((interval.low, interval.high))


def test_precision_and_recall_are_those_of_unseen_recordings():
    targets = np.repeat([0, 1], 50)
    # The embeddings say nothing of these labels.
    shuffled = np.random.default_rng(1).permutation(targets)
    known = made(targets)
    scores = few_examples.score(dataclasses.replace(known, targets=shuffled))
    assert scores.accuracy[1] < 0.55 and scores.accuracy[0] < 0.7
    for k, label in enumerate(known.labels):
        # As many as have each label are right or wrong.
        assert scores.counts[label] == 50
        assert scores.recall[label][0] < 0.75, k


def test_recordings_of_one_group_are_left_out_together():
    # The label of a group is chance; the group itself is told by a channel.
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    targets = np.repeat(np.arange(20) % 2, 5)
    of_groups = generator.normal(0, 1, (20, 8))
    known = dataclasses.replace(
        made(targets, groups=groups),
        windows=of_groups[groups][:, None]
        + generator.normal(0, 0.01, (100, 1, 8)),
    )
    apart = few_examples.score(known, "knn")
    mixed = few_examples.score(
        dataclasses.replace(known, groups=np.arange(100)), "knn"
    )
    assert mixed.accuracy[0] > 0.95 and apart.accuracy[0] < 0.9


def test_the_strength_is_chosen_by_other_groups():
    # Each group is told by the embeddings, and its label is chance: only a
    # strong penalty helps on other groups.
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 6)
    targets = np.repeat(np.arange(10) % 2, 6)
    embeddings = generator.normal(0, 1, (10, 8))[groups]
    embeddings = embeddings + generator.normal(0, 0.1, embeddings.shape)
    by_groups = few_examples.make_estimator(targets, groups, "logistic", 0)
    alone = few_examples.make_estimator(targets, np.arange(60), "logistic", 0)
    for estimator in (by_groups, alone):
        estimator.fit(embeddings, targets)
    strong, weak = (one[-1].best_params_["C"] for one in (by_groups, alone))
    assert strong < 0.1 * weak


def test_a_test_split_is_scored_where_there_is_one():
    targets = [0, 1] * 30
    is_test = [False] * 40 + [True] * 20
    known = made(targets, is_test)
    scores = few_examples.score(known)
    assert scores.how == "test split, 40 training recordings"
    assert scores.counts == {"label 0": 10, "label 1": 10}
    assert scores.accuracy[0] == 1
    few = few_examples.score(known, fraction=0.1, seed=3)
    assert few.how == "test split, 4 training recordings"
    with pytest.raises(ValueError, match="`fraction` must be 1 unless"):
        few_examples.score(made(targets), fraction=0.5)
    for wrong in (0, 1.5, "1"):
        with pytest.raises(ValueError, match="`fraction` must be"):
            few_examples.score(known, fraction=wrong)
    missing = made([0, 1, 2] * 4, [False, False, True] * 4)
    with pytest.raises(ValueError, match="none left of .*label 2"):
        few_examples.score(missing)


def test_one_recording_of_a_label_has_no_scores():
    with pytest.raises(ValueError, match="one of 'label 1'"):
        few_examples.score(made([0, 0, 0, 1]))


def test_a_label_that_no_training_part_keeps_is_told():
    # One speaker says both words. Whatever is left out with that speaker may
    # take all recordings of a word along.
    known = made([0] * 6 + [1] * 6, groups=[1] * 5 + [2] * 2 + [3] * 5)
    with pytest.raises(ValueError, match="none left of .'label 1'"):
        few_examples.score(known)


@pytest.mark.parametrize("labels", [2, 3])
def test_the_new_layer_is_the_logistic_regression(classifier, labels):
    generator = np.random.default_rng(0)
    targets = np.arange(30) % labels
    embeddings = generator.normal(0, 3, (30, 96)) + targets[:, None] / 3
    known = dataclasses.replace(
        made(targets), windows=list(embeddings.astype("float32")[:, None])
    )
    new = few_examples.with_labels(classifier, known)
    logits = keras.ops.convert_to_numpy(new.model.head(known.means))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    scaled = StandardScaler().fit_transform(known.means)
    best = few_examples.make_estimator(targets, known.groups, "logistic", 0)
    best.fit(known.means, targets)
    strength = best[-1].best_params_["C"]
    expected = LogisticRegression(C=strength, max_iter=2000)
    expected = expected.fit(scaled, targets).predict_proba(scaled)
    np.testing.assert_allclose(shares, expected, atol=1e-4)


def test_a_new_classifier_can_be_saved_and_used(
    classifier, birds, labelled, tmp_path
):
    before = classifier.predict(np.ones(9000, "float32"), 16000)
    new = few_examples.with_labels(classifier, labelled)
    new.save(tmp_path / "birds.keras")
    again = leaf_audio.load(tmp_path / "birds.keras")
    assert again.labels == ["high", "low"]
    assert again.card["clips"] == {"high": 6, "low": 6}
    for one in serving.predict(again, [str(birds)]):
        label = max(one.probabilities, key=one.probabilities.get)
        assert f"/{label}/" in one.recording
    # The first classifier is as it was.
    assert classifier.predict(np.ones(9000, "float32"), 16000) == before


def test_scores_are_those_of_the_classifier_that_is_written(classifier):
    """Of recordings of several windows, one of which tells the label."""
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 3
    windows = generator.normal(0, 0.3, (60, 5, 96)).astype("float32")
    windows[np.arange(60), generator.integers(5, size=60), targets] += 8
    known = dataclasses.replace(
        made(targets, [False] * 30 + [True] * 30), windows=list(windows)
    )
    of_training = dataclasses.replace(
        known,
        windows=known.windows[:30],
        targets=targets[:30],
        groups=known.groups[:30],
        is_test=known.is_test[:30],
    )
    head = few_examples.with_labels(classifier, of_training).model.head
    logits = keras.ops.convert_to_numpy(head(windows[30:]))
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    right = shares.mean(axis=1).argmax(axis=-1) == targets[30:]
    assert few_examples.score(known).accuracy[0] == pytest.approx(right.mean())
    # By mean embeddings, all would be right.
    assert 0.3 < right.mean() < 0.9


def test_what_cannot_be_used_is_told(classifier, birds, tmp_path):
    with pytest.raises(ValueError, match="`recordings` must be a folder"):
        few_examples.read_labelled(classifier, str(tmp_path / "nowhere"))
    write(tmp_path / "one" / "only", 300, 2, 0)
    with pytest.raises(ValueError, match="at least two labels.*only"):
        few_examples.read_labelled(classifier, str(tmp_path / "one"))
    write(tmp_path / "several" / "a", 300, 2, 0)
    (tmp_path / "several/index.csv").write_text(
        "file,labels\na/0.wav,x;y\na/1.wav,\n"
    )
    with pytest.raises(ValueError, match="whole files with one label"):
        few_examples.read_labelled(classifier, str(tmp_path / "several"))
    (tmp_path / "several/index.csv").write_text(
        "file,label,start,end\na/0.wav,x,0,0.1\na/1.wav,y,0,0.1\n"
    )
    with pytest.raises(ValueError, match="whole files.*parts of files"):
        few_examples.read_labelled(classifier, str(tmp_path / "several"))
    plain = keras.Sequential([keras.Input((500,)), keras.layers.Dense(3)])
    other = dataclasses.replace(classifier, model=plain, labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="AudioClassifier to get other labels"):
        few_examples.with_labels(other, made([0, 1]))


def test_a_label_that_is_never_given_has_no_precision():
    known = made([0] * 20 + [1] * 2)
    for rows in known.windows:
        rows[:, 1] = 0
    scores = few_examples.score(known)
    assert math.isnan(scores.precision["label 1"][0])
    assert scores.recall["label 1"][0] == 0


def test_the_command_makes_a_classifier_and_asks_for_labels(birds, tmp_path):
    output = tmp_path / "birds.keras"
    (tmp_path / "bad.wav").write_text("no recording")
    process = run_command(
        *("classify-embeddings", "--model=speech_commands"),
        *(f"--recordings={birds}", f"--output={output}", "--next=2"),
        *(str(birds / "low"), str(tmp_path / "bad.wav")),
    )
    assert process.returncode == 1 and "bad.wav" in process.stderr
    assert "accuracy: 1.000" in process.stdout
    asked = process.stdout.partition("labelling next")[2].splitlines()[1:]
    assert len(asked) == 2 and all("low" in line for line in asked)
    assert leaf_audio.load(output).labels == ["high", "low"]


@pytest.fixture(scope="module")
def run_on(classifier, tmp_path_factory):
    """Writes the files of a run that was trained on a folder."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    workdir.mkdir()
    classifier.model.save(workdir / "best.keras")
    labels, name = list(classifier.labels), "audio_folder"
    described = {"name": name, "labels": labels, "sample_rate": 16000}
    write_json(workdir / "results.json", {"data": described})

    def make(folder, **settings):
        settings = {f"{name}.{key}": one for key, one in settings.items()}
        prepared = {
            "data.prepare.transform_fns": "[@align]",
            "align.seq_len": "16000",
            f"{name}.path": repr(str(folder)),
        }
        write_json(workdir / "settings.json", prepared | settings)
        return f"--workdir={workdir}"

    return make


TOO_GOOD = "has learned from these recordings"


def test_scores_of_what_the_encoder_has_learned_from_are_told(
    run_on, birds, tmp_path
):
    (tmp_path / "link").symlink_to(birds)
    classify = "classify-embeddings", f"--recordings={tmp_path / 'link'}"
    for path in (birds, birds.parent):
        told = run_command(*classify, run_on(path))
        assert told.stderr.count(TOO_GOOD) == 1
        assert "accuracy" in told.stdout and not told.returncode
    for path in (f"{birds}-of-others", birds / "low"):
        assert TOO_GOOD not in run_command(*classify, run_on(path)).stderr


def test_a_test_split_that_the_encoder_has_not_seen_has_fair_scores(
    run_on, birds, tmp_path
):
    for split in ("train", "test"):
        shutil.copytree(birds, tmp_path / split)
    classify = "classify-embeddings", f"--recordings={tmp_path}"
    assert TOO_GOOD not in run_command(*classify, run_on(tmp_path)).stderr
    drawn = run_on(tmp_path, index="@unlabelled_index")
    assert TOO_GOOD in run_command(*classify, drawn).stderr


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--model=speech_commands"], "`recordings` must be given"),
        (["--recordings=x", "--method=knn", "--output=y.keras"], "`method`"),
        (
            [
                "--model=speech_commands",
                *("--recordings=x", "--output=nowhere/y.keras"),
            ],
            "in a folder that exists",
        ),
    ],
)
def test_what_the_command_needs_is_told(flags, message):
    process = run_command("classify-embeddings", *flags)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: ") and message in line


def test_copies_are_told(classifier, birds, tmp_path):
    folder = tmp_path / "birds"
    shutil.copytree(birds, folder)
    assert few_examples.read_labelled(classifier, str(folder)).remarks == ()
    shutil.copy(folder / "low" / "1.wav", folder / "low" / "again.wav")
    shutil.copy(folder / "low" / "2.wav", folder / "high" / "other.wav")
    (told,) = few_examples.read_labelled(classifier, str(folder)).remarks
    assert "2 recordings are copies of another one, 1 with another" in told
    assert str(folder / "high" / "other.wav") in told
