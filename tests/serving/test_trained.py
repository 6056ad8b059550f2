"""A trained classifier is loaded from a run, a file or a name, and used."""

import dataclasses
import functools
import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest
import soundfile
import soxr

import leaf_audio
from leaf_audio import data, frontend, models, serving
from leaf_audio.serving import preparation

pytestmark = pytest.mark.any_backend

YES = pathlib.Path(__file__).parents[1] / "recordings" / "yes.flac"
RATE = 4000


@pytest.fixture(scope="module")
def trained():
    """An untrained classifier, in the form of a trained one."""
    keras.utils.set_random_seed(0)
    model = models.AudioClassifier(
        num_outputs=3,
        frontend=frontend.MelFilterbanks(n_filters=8, sample_rate=RATE),
        encoder=models.ConvNet([4]),
        pooling="average",
    )
    model.build((None, 500))
    # Otherwise all probabilities would be the same.
    model.head.kernel.assign(5 * model.head.kernel)
    return serving.TrainedClassifier(
        model=model,
        labels=["low", "mid", "high"],
        sample_rate=RATE,
        transform_fns=[
            data.gain,
            functools.partial(data.align, seq_len=500),
            functools.partial(data.loudness_normalization, target_db=3.0),
        ],
        card={"data": "made up"},
    )


def noise(length, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, length).astype("float32")


def test_the_included_model_tells_a_word():
    classifier = leaf_audio.load("speech_commands")
    assert classifier.sample_rate == classifier.window == 16000
    samples, rate = soundfile.read(YES)
    shares = classifier.predict(samples, rate)
    assert max(shares, key=shares.get) == "yes" and shares["yes"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    # At another rate the word is the same.
    low = soxr.resample(samples, rate, 11025)
    assert classifier.predict(low, 11025)["yes"] > 0.8
    integers, rate = soundfile.read(YES, dtype="int16")
    assert classifier.predict(integers, rate) == pytest.approx(shares)
    assert 0.9 < classifier.card["metrics"]["test"]["accuracy"] < 0.95


def test_the_included_model_is_as_good_as_its_card(speech_commands):
    classifier = leaf_audio.load("speech_commands")
    folder = speech_commands / "test"
    right = [
        max(one.probabilities, key=one.probabilities.get)
        == pathlib.Path(one.recording).parent.name
        for one in serving.predict(classifier, [str(folder)])
    ]
    expected = classifier.card["metrics"]["test"]["accuracy"]
    assert len(right) == 575
    assert np.mean(right) == pytest.approx(expected, abs=0.005)


def test_a_recording_is_prepared_as_a_clip_of_the_evaluation(trained):
    samples = noise(800)
    prepared = trained.prepare(samples, RATE)
    centre = samples[150:650]
    expected = centre * (10 ** (3 / 20) / centre.std())
    np.testing.assert_allclose(prepared, expected, rtol=1e-5)
    short = trained.prepare(samples[:100], RATE)
    assert short.shape == (500,) and not short[100:].any()
    twice = trained.prepare(soxr.resample(samples, RATE, 2 * RATE), 2 * RATE)
    assert np.corrcoef(twice, prepared)[0, 1] > 0.9


def test_a_prediction_is_what_the_model_gives(trained):
    samples = noise(500)
    logits = trained.model(trained.prepare(samples, RATE)[None])
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    found = trained.predict(samples, RATE)
    assert list(found) == ["low", "mid", "high"]
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)


def test_a_long_recording_is_judged_in_windows(trained):
    samples = noise(1200)
    windows = list(trained.windows(samples))
    assert [(one.start, one.end) for one in windows] == [
        (0, 500),
        (500, 1000),
        (700, 1200),
    ]
    parts = [samples[one.start : one.end] for one in windows]
    shares = [list(trained.predict(part, RATE).values()) for part in parts]
    found = list(trained.predict(samples, RATE).values())
    np.testing.assert_allclose(found, np.mean(shares, axis=0), atol=1e-6)
    hopping = dataclasses.replace(trained, evaluation_hop=100)
    assert len(list(hopping.windows(samples))) == 8
    short = list(trained.windows(samples, length=200, hop=150))
    assert [one.start for one in short] == [
        0,
        150,
        300,
        450,
        600,
        750,
        900,
        1000,
    ]
    assert {one.clip.shape for one in short} == {(500,)}


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"length": 501}, "`length` must be .* 1 to 500, in samples.*=501"),
        ({"length": 0}, "`length` must be .* 1 to 500, in samples.*=0"),
        ({"length": 200, "hop": 201}, "`hop` must be .* 1 to 200, in samples"),
        ({"hop": 0.25}, "`hop` must be .* 1 to 500, in samples.*hop=0.25"),
    ],
)
def test_windows_are_given_in_samples(trained, sizes, message):
    with pytest.raises(ValueError, match=message):
        next(trained.windows(noise(1200), **sizes))
    free = dataclasses.replace(trained, transform_fns=[])
    with pytest.raises(ValueError, match="`length` .* from 1 on, in samples"):
        next(free.windows(noise(1200), length=0.1))


@pytest.mark.parametrize(
    "seconds, message",
    [
        ({"window": 0.2}, "`window` must be at most .* of the model, 0.125 s"),
        ({"window": 0.1, "hop": 0.11}, "`hop` must be at most .* 0.1 s"),
        ({"hop": 0.2}, "`hop` must be at most the length .* 0.125 s"),
        ({"window": 0}, "`window` must be a positive number"),
        ({"hop": "1"}, "`hop` must be a positive number"),
        ({"hop": 1e-5}, "`hop` must be at least a sample, 0.00025 s"),
        ({"window": 1e-5}, "`window` must be at least a sample"),
    ],
)
def test_windows_that_leave_a_part_out_are_refused(trained, seconds, message):
    with pytest.raises(ValueError, match=message):
        serving.predict(trained, ["x.wav"], **seconds)


def test_a_model_of_any_length_judges_recordings_whole(trained, tmp_path):
    free = dataclasses.replace(trained, transform_fns=[])
    names = [str(tmp_path / f"{length}.wav") for length in (600, 900, 900)]
    for name, length in zip(names, (600, 900, 900), strict=True):
        soundfile.write(name, noise(length), RATE, subtype="FLOAT")
    assert free.window is None
    found = list(serving.predict(free, names))
    assert [one.recording for one in found] == names[:2]
    for one, length in zip(found, (600, 900), strict=True):
        assert one.ends.tolist() == [length / RATE]
        expected = free.predict(noise(length), RATE)
        assert one.probabilities == pytest.approx(expected, abs=1e-6)
    (cut,) = serving.predict(free, names[1:2], window=0.125, hop=0.1)
    assert cut.starts.tolist() == [0, 0.1]
    with pytest.raises(ValueError, match="`window` must be given with `hop`"):
        serving.predict(free, names, hop=0.1)


def test_an_embedding_is_what_the_last_layer_gets(trained):
    samples = noise(500)
    embedding = trained.embed(samples, RATE)
    assert embedding.shape == (4,) and embedding.dtype == np.float32
    logits = keras.ops.convert_to_numpy(trained.model.head(embedding[None]))
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    found = list(trained.predict(samples, RATE).values())
    np.testing.assert_allclose(found, shares, atol=1e-5)
    # That of a long recording is the mean over its windows.
    pair = np.stack([noise(500, 1), noise(500, 2)])
    mean = np.mean([trained.embed(one, RATE) for one in pair], axis=0)
    found = trained.embed(pair.reshape(-1), RATE)
    np.testing.assert_allclose(found, mean, atol=1e-5)


def test_a_model_without_embedding_says_so(trained):
    plain = keras.Sequential([keras.Input((500,)), keras.layers.Dense(3)])
    other = dataclasses.replace(trained, model=plain)
    assert other.frontend is None
    with pytest.raises(ValueError, match="AudioClassifier.*Sequential"):
        other.embed(noise(500), RATE)


@pytest.mark.parametrize("compact", [False, True])
def test_a_saved_classifier_is_loaded_as_it_was(trained, tmp_path, compact):
    path = tmp_path / "tones.keras"
    several = dataclasses.replace(
        trained, thresholds=[0.1, 0.2, 0.3], evaluation_hop=250
    )
    for one in (trained, several):
        one.save(path, compact=compact)
        again = leaf_audio.load(path)
        assert list(again.labels) == one.labels
        assert again.sample_rate == RATE
        assert again.thresholds == one.thresholds
        assert again.evaluation_hop == one.evaluation_hop
        assert again.card == one.card
        expected = one.predict(noise(1200), RATE)
        found = again.predict(noise(1200), RATE)
        tolerance = 2e-3 if compact else 1e-6
        assert found == pytest.approx(expected, abs=tolerance)
    # Keras loads the model in it.
    model = keras.models.load_model(path, compile=False)
    clip = trained.prepare(noise(500), RATE)[None]
    np.testing.assert_allclose(
        model.predict(clip, verbose=0), again.model.predict(clip, verbose=0)
    )
    assert [one.name for one in tmp_path.iterdir()] == ["tones.keras"]


def test_a_compact_file_is_small():
    folder = pathlib.Path(serving.__file__).parents[1] / "pretrained"
    size = (folder / "speech_commands.keras").stat().st_size
    parameters = leaf_audio.load("speech_commands").model.count_params()
    assert size < 2.6 * parameters


def own(samples):
    return samples


@pytest.mark.parametrize(
    "fn", [own, functools.partial(own), functools.partial(data.align, own)]
)
def test_functions_of_ones_own_cannot_be_saved(trained, tmp_path, fn):
    other = dataclasses.replace(trained, transform_fns=[fn])
    with pytest.raises(ValueError, match="`transform_fns` must hold func"):
        other.save(tmp_path / "x.keras")
    assert not list(tmp_path.iterdir())


def test_a_name_of_no_classifier_is_told(tmp_path, trained):
    with pytest.raises(ValueError, match="one of speech_commands.*'birds'"):
        leaf_audio.load("birds")
    with pytest.raises(ValueError, match="no.keras', which does not exist"):
        leaf_audio.load(tmp_path / "no.keras")
    with pytest.raises(ValueError, match="runs/no', which does not exist"):
        leaf_audio.load("runs/no")
    (tmp_path / "words.txt").touch()
    with pytest.raises(ValueError, match=r"a .keras file.*words.txt'\.$"):
        leaf_audio.load(tmp_path / "words.txt")
    with pytest.raises(ValueError, match="must hold a finished run"):
        leaf_audio.load(tmp_path)
    with pytest.raises(ValueError, match="ends in .keras"):
        trained.save(tmp_path / "model.h5")
    with pytest.raises(
        ValueError, match="exists.*Make the folder .*where first"
    ):
        trained.save(tmp_path / "nowhere" / "model.keras")
    model = tmp_path / "model.keras"
    trained.model.save(model)
    with pytest.raises(ValueError, match="a model without labels"):
        leaf_audio.load(model)
    model.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="model.keras' must be a .keras file"):
        leaf_audio.load(model)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"labels": []},
        {"labels": ["a", 1, "b"]},
        {"labels": ["a", "b"]},
        {"labels": ["a", "b", "b"]},
        {"sample_rate": 10**400},
        {"sample_rate": None},
        {"sample_rate": "4000"},
        {"thresholds": [0.5]},
        {"thresholds": [0.5, 2, 0.5]},
        {"evaluation_hop": 0},
        {"card": []},
        {"preparation": None},
        {"preparation": ["align"]},
        {"preparation": [{"name": "load"}]},
        {"preparation": [{"name": "align", "rng": 1}]},
        {"preparation": [{"name": ["align"]}]},
        {"preparation": [{"name": "align", "seq_len": "500"}]},
        {"preparation": [{"name": "align", "padding": 3}]},
        {"preparation": [{"name": "loudness_normalization", "target_db": 1e9}]},
    ],
)
def test_a_description_that_is_not_valid_is_told(trained, tmp_path, change):
    good, bad = tmp_path / "good.keras", tmp_path / "bad.keras"
    trained.save(good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "leaf_audio.json":
                content = json.dumps(json.loads(content) | change)
            target.writestr(name, content)
    with pytest.raises(ValueError, match="bad.keras"):
        leaf_audio.load(bad)


@pytest.mark.parametrize(
    "samples, rate, message",
    [
        (np.zeros((2, 9), "float32"), RATE, r"shape \(2, 9\)"),
        (np.zeros(0, "float32"), RATE, r"at least one sample"),
        (np.zeros(9, "int32"), RATE, "dtype int32"),
        (np.full(9, np.nan), RATE, "not finite"),
        (np.full(9, 1e20), RATE, "full scale"),
        (np.full(9, 1e40), RATE, "finite"),
        (np.zeros(9), 0, "`sample_rate` must be a rate"),
        (np.zeros(9), 16000.5, "a whole number from 100"),
        (np.zeros(9), "16000", "`sample_rate` must be a rate"),
        ("yes.wav", RATE, "an array of shape"),
    ],
)
def test_samples_that_cannot_be_used_are_told(trained, samples, rate, message):
    for function in (trained.prepare, trained.predict, trained.embed):
        with pytest.raises(ValueError, match=message):
            function(samples, rate)


def test_thresholds_may_be_an_array(trained, tmp_path):
    path = tmp_path / "tones.keras"
    dataclasses.replace(trained, thresholds=np.full(3, 0.5)).save(path)
    assert leaf_audio.load(path).thresholds == [0.5] * 3


def test_a_long_array_is_judged_in_batches(trained, monkeypatch):
    sizes = []
    compute = trained.model.predict_on_batch

    def counted(clips):
        sizes.append(len(clips))
        return compute(clips)

    monkeypatch.setattr(trained.model, "predict_on_batch", counted)
    samples = noise(100 * 500)
    parts = [samples[500 * k : 500 * (k + 1)] for k in range(100)]
    shares = [list(trained.predict(part, RATE).values()) for part in parts]
    sizes.clear()
    found = list(trained.predict(samples, RATE).values())
    assert max(sizes) == 64
    np.testing.assert_allclose(found, np.mean(shares, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"data.prepare.transform_fns": "[align]"}, "must be a list of func"),
        (
            {"data.prepare.transform_fns": "[@align()]"},
            "must be a list of func",
        ),
        ({"align.seq_len": "'500'"}, "`align.seq_len` must be"),
        ({"prepare.evaluation_hop": "0"}, "`prepare.evaluation_hop` must be"),
        ({"prepare.evaluation_hop": "'x'"}, "`prepare.evaluation_hop` must be"),
    ],
)
def test_a_setting_that_is_not_valid_is_told(setting, message):
    settings = {"data.prepare.transform_fns": "[@align]", **setting}
    with pytest.raises(ValueError, match=message):
        preparation.from_settings(settings)


def test_the_preparation_of_a_run_is_read_from_its_settings():
    functions, hop = preparation.from_settings(
        {
            "data.prepare.transform_fns": "[@time_shift, @short/data.align, "
            "@noisy/data.Audiomentation(), @peak_normalization]",
            "prepare.evaluation_hop": "300",
            "align.seq_len": "500",
            "short/align.seq_len": "400",
            "align.padding": "'wrap'",
            "peak_normalization.target_db": "-1.0",
        }
    )
    assert hop == 300
    align, normalize = functions
    assert align.func is data.align
    assert align.keywords == {"seq_len": 400, "padding": "wrap"}
    assert normalize.func is data.peak_normalization
    assert normalize.keywords == {"target_db": -1.0}
    # Training by gin leaves this setting out where it is the default.
    functions, hop = preparation.from_settings({"prepare.mixup_alpha": "0.0"})
    assert [one.func.__name__ for one in functions] == [
        "align",
        "loudness_normalization",
    ]
    assert hop is None


def test_a_folder_of_recordings_does_not_hide_an_included_model(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speech_commands").mkdir()
    assert "yes" in leaf_audio.load("speech_commands").labels


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    leaf_audio.load("speech_commands").save(tmp_path / "one.keras")
    assert "yes" in leaf_audio.load("~/one.keras").labels


def test_labels_are_as_many_as_the_outputs_of_any_model():
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="3 outputs. Received: 2 labels"):
        serving.TrainedClassifier(
            model=model, labels=["a", "b"], sample_rate=8000, transform_fns=[]
        )


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"labels": [0, 1, 2]}, "`labels` must be a list of names"),
        ({"labels": None}, "`labels` must be a list of names"),
        ({"thresholds": 0.5}, "`thresholds` must be a list of numbers"),
        ({"thresholds": [1.5] * 3}, "`thresholds` must be"),
        ({"thresholds": [float("nan")] * 3}, "`thresholds` must be"),
        ({"sample_rate": 0}, "`sample_rate` must be"),
        ({"sample_rate": None}, "`sample_rate` must be"),
        ({"evaluation_hop": 0}, "`evaluation_hop` must be"),
        ({"evaluation_hop": 501}, "`evaluation_hop` must be .* 1 to 500"),
    ],
)
def test_what_could_not_be_loaded_cannot_be_made(trained, changes, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(trained, **changes)


def test_a_classifier_of_values_of_numpy_is_saved(trained, tmp_path):
    own = dataclasses.replace(
        trained,
        sample_rate=np.int64(RATE),
        evaluation_hop=np.int64(250),
        thresholds=np.float32([0.25, 0.5, 0.5]),
        transform_fns=[functools.partial(data.align, seq_len=np.int64(500))],
        card={"loss": np.float32(0.5), "data": tmp_path},
    )
    own.save(tmp_path / "own.keras")
    again = leaf_audio.load(tmp_path / "own.keras")
    assert (again.sample_rate, again.evaluation_hop) == (RATE, 250)
    assert again.card == {"loss": 0.5, "data": str(tmp_path)}
    assert list(again.thresholds) == [0.25, 0.5, 0.5]


def test_a_window_may_be_longer_than_a_recording(trained):
    """Of a model that takes clips of any length."""
    any_length = dataclasses.replace(trained, transform_fns=[])
    (one,) = any_length.windows(noise(900), length=1000)
    assert (one.start, one.end) == (0, 900)
