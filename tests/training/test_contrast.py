"""Loss and metrics of pairs of views, and runs without labels."""

import json
import shutil

import keras
import numpy as np
import pytest
from gradients import grad_mean_square
from keras import ops
from tones import bindings
from training_runs import interrupted_after, rows, train_with

import leaf_audio
from leaf_audio.app import configuration, train
from leaf_audio.training import contrast

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

COLA = ("train.pretraining = @COLA", "COLA.units = 6")
SIMCLR = ("train.pretraining = @SimCLR", "SimCLR.units = 6")


def similarities(clips, queries):
    shape = (clips, queries, clips * queries)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def entropies(rows):
    """Cross-entropies, with the position of each clip as its target."""
    found = np.empty(rows.shape[:2])
    for i, queries in enumerate(rows.astype("float64")):
        for j, row in enumerate(queries):
            found[i, j] = np.log(np.exp(row).sum()) - row[i]
    return found


@pytest.mark.parametrize("queries", [1, 2])
def test_the_loss_is_the_mean_cross_entropy_of_the_queries(queries):
    given = similarities(4, queries)
    found = contrast.PartnerCrossentropy()(np.arange(4), given)
    assert float(found) == pytest.approx(entropies(given).mean(), rel=1e-5)


def test_the_loss_of_simclr_is_nt_xent():
    rng = np.random.default_rng(1)
    views = rng.normal(size=(8, 5))
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    # As published: views i and i + 4 are a pair, all others are negatives.
    cosines = views @ views.T / 0.5
    losses = []
    for i in range(8):
        others = [cosines[i, k] for k in range(8) if k != i]
        losses.append(np.log(np.exp(others).sum()) - cosines[i, (i + 4) % 8])
    np.fill_diagonal(cosines, -1e9)
    first = np.concatenate([cosines[:4, 4:], cosines[:4, :4]], axis=1)
    second = np.concatenate([cosines[4:, :4], cosines[4:, 4:]], axis=1)
    given = np.stack([first, second], axis=1).astype("float32")
    found = contrast.PartnerCrossentropy()(np.arange(4), given)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)


class RootOfLoss(keras.layers.Layer):
    """Its mean square is the loss of its inputs."""

    def call(self, inputs):
        numbers = ops.arange(len(inputs))
        loss = contrast.PartnerCrossentropy()(numbers, inputs)
        return ops.sqrt(loss)


@pytest.mark.parametrize("queries", [1, 2])
def test_the_gradient_of_the_loss_is_that_of_a_cross_entropy(queries):
    given = similarities(4, queries)
    found, _ = grad_mean_square(RootOfLoss(), given)
    shares = np.exp(given) / np.exp(given).sum(axis=-1, keepdims=True)
    shares[np.arange(4), :, np.arange(4)] -= 1
    np.testing.assert_allclose(found, shares / (4 * queries), atol=1e-6)


def test_the_accuracy_is_the_share_of_queries_that_find_their_partner():
    given = np.zeros((3, 2, 6), "float32")
    given[0, :, 0] = given[1, 0, 1] = given[1, 1, 4] = given[2, :, 0] = 1
    found = contrast.partner_accuracy(np.arange(3), given)
    np.testing.assert_allclose(ops.convert_to_numpy(found), [1, 0.5, 0])


@pytest.mark.parametrize("queries", [1, 2])
def test_a_clip_that_comes_twice_is_no_candidate_for_its_copy(queries):
    given = similarities(4, queries)
    # Clips 0 and 2 are the same, and very similar.
    for i, j in ((0, 2), (2, 0)):
        given[i, :, j::4] = 50
    without = given.copy()
    for i, j in ((0, 2), (2, 0)):
        without[i, :, j::4] = -1e9
    numbers = np.array([[7], [1], [7], [3]])
    found = contrast.PartnerCrossentropy()(numbers, given)
    assert float(found) == pytest.approx(entropies(without).mean(), rel=1e-5)
    given[0, :, 0] = 40
    right = contrast.partner_accuracy(numbers, given)
    assert float(right[0]) == 1


@pytest.mark.parametrize("clips, has_top5", [(5, False), (6, True)])
def test_the_best_five_of_five_candidates_are_not_told(clips, has_top5):
    given = np.random.default_rng(0).normal(size=(clips, 1, 16))
    assert ("top5_accuracy" in contrast.PairOutcome(given).metrics) == has_top5


@pytest.mark.parametrize("queries, others", [(1, 0), (2, 1)])
def test_the_accuracy_of_guessing_is_one_of_the_candidates(queries, others):
    expected = 1 / (4 * queries - others) * 4 + 1 / (2 * queries - others) * 2
    found = contrast.chance(queries, clips=6, batch_size=4)
    assert found == pytest.approx(expected / 6)


def test_similarities_without_meaning_have_the_accuracy_of_guessing():
    given = np.random.default_rng(0).normal(size=(6000, 1, 4))
    found = contrast.PairOutcome(given).metrics
    assert found["chance"] == 0.25
    assert found["accuracy"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("queries", [1, 2])
def test_what_fills_up_the_last_batch_is_no_candidate(queries):
    # Five clips in batches of three: two of the second batch are there.
    given = np.random.default_rng(0).normal(size=(5, queries, 3 * queries))
    given[3:, :, 2::3] = 50
    whole = entropies(given[:3])
    rest = entropies(np.delete(given[3:], np.s_[2::3], axis=2))
    expected = np.concatenate([whole, rest]).mean()
    found = contrast.PairOutcome(given).metrics
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def pretrained(folder, tmp_path_factory):
    """A run of COLA, of two epochs."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    return workdir, train_with(folder, workdir, "train.num_epochs = 2", *COLA)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(COLA, id="COLA"),
        pytest.param(SIMCLR, id="SimCLR", marks=pytest.mark.slow),
    ],
)
def test_resumed_pretraining_equals_uninterrupted(
    lines, folder, tmp_path, monkeypatch
):
    more = ("train.num_epochs = 2", "train.learning_rate = 0.003", *lines)
    whole = train_with(folder, tmp_path / "whole", *more)
    with interrupted_after(1, monkeypatch):
        train_with(folder, tmp_path / "resumed", *more)
    resumed = train_with(folder, tmp_path / "resumed", *more)
    assert resumed["metrics"] == whole["metrics"]
    assert rows(tmp_path / "resumed") == rows(tmp_path / "whole")


def test_pretraining_records_no_labels_and_writes_no_tables(pretrained):
    workdir, results = pretrained
    assert results["data"]["labels"] == []
    assert set(results["metrics"]["test"]) == {
        *("accuracy", "chance", "loss", "top5_accuracy")
    }
    assert not list(workdir.glob("classes_*")) + list(workdir.glob("conf*.csv"))


def test_a_pretrained_run_has_embeddings_and_no_probabilities(
    pretrained, tmp_path
):
    run = leaf_audio.load(pretrained[0])
    run.save(tmp_path / "one.keras")
    loaded = leaf_audio.load(tmp_path / "one.keras")
    samples = np.random.default_rng(0).normal(size=600).astype("float32")
    assert loaded.embed(samples / 10, 4000).shape == (4,)
    with pytest.raises(ValueError, match="trained without labels"):
        loaded.predict(samples / 10, 4000)


def test_a_pretrained_run_cannot_be_evaluated_on_labels(pretrained, folder):
    configuration.parse([], bindings(folder))
    with pytest.raises(ValueError, match="must hold a classifier"):
        train.evaluate(pretrained[0], dataset="audio_folder")


def test_a_run_tells_the_accuracy_of_guessing_and_no_labels(
    folder, tmp_path, capsys
):
    lines = ("train.num_epochs = 1", *SIMCLR)
    results = train_with(folder, tmp_path / "run", *lines)
    told = capsys.readouterr().out
    assert "3 labels, which are not used" in told
    # Six clips of a batch have 11 candidates; the last three of nine have 5.
    of_nine = (6 / 11 + 3 / 5) / 9
    assert (
        f"accuracy of guessing: training {1 / 11:.4f}, validation "
        f"{of_nine:.4f}, test {of_nine:.4f}"
    ) in told
    assert results["metrics"]["test"]["chance"] == pytest.approx(of_nine)
    assert "val_chance" not in rows(tmp_path / "run")[0]


def test_a_flat_folder_without_labels_is_a_data_set(folder, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, file in enumerate(sorted((folder / "tones").rglob("*.wav"))):
        shutil.copy(file, flat / f"{i}.wav")
    (flat / "train").mkdir()
    shutil.move(flat / "0.wav", flat / "train" / "0.wav")
    results = train_with(
        folder,
        tmp_path / "run",
        "train.num_epochs = 1",
        f"audio_folder.path = '{flat}'",
        "audio_folder.index = @unlabelled_index",
        "audio_folder.allow_unlabelled = True",
        *COLA,
    )
    assert sum(results["data"]["counts"].values()) == 39
    told = capsys.readouterr().out
    assert "data: audio_folder, without labels" in told
    assert "0 labels" not in told and "labels of a clip" not in told
    assert np.isfinite(results["metrics"]["validation"]["loss"])


@pytest.mark.parametrize(
    "line, message",
    [
        ("train.label_smoothing = 0.1", "`label_smoothing` must be 0 with"),
        ("train.batch_size = 1", "`batch_size` must be at least 2"),
        ("train.batch_size = 22", "`batch_size` must be from 2 to 21 with"),
        ("train.pretraining = 3", "`pretraining` must be a function"),
        ("train.pretraining = @COLA()", "`classifier` of COLA must be given"),
        ("data.prepare.mixup_alpha = 0.2", "`mixup_alpha` must be 0 with two"),
    ],
)
def test_what_pretraining_cannot_use_is_refused(
    line, message, folder, tmp_path
):
    with pytest.raises(ValueError, match=message):
        train_with(folder, tmp_path / "run", *COLA, line)


def test_metrics_of_pretraining_can_be_read_as_json(pretrained):
    found = json.loads((pretrained[0] / "results.json").read_text())
    assert found["metrics"] == pretrained[1]["metrics"]
