"""Mistakes are named, and early: before any data is loaded."""

import dataclasses
import shutil

import keras
import pytest
from tones import bindings, python, run_command, write_tones
from training_runs import Loaded, train_with

from leaf_audio.app import configuration, train

pytestmark = pytest.mark.usefixtures("fresh_gin")


def test_an_unknown_data_set_is_named(folder, tmp_path):
    for name in ("'no_such_set'", "None"):
        with pytest.raises(ValueError, match=f"dataset={name}"):
            train_with(folder, tmp_path / "run", f"train.dataset = {name}")


def test_data_without_an_evaluation_split_is_refused(tmp_path):
    write_tones(tmp_path / "tones")
    for split in ("validation", "test"):
        shutil.rmtree(tmp_path / "tones" / split)
    with pytest.raises(ValueError, match="must have a split 'validation' or"):
        train_with(tmp_path, tmp_path / "run")


def test_data_of_one_label_is_refused(folder, tmp_path, monkeypatch):
    def load(*args, load=train.load, **kwargs):
        loaded = load(*args, **kwargs)
        return dataclasses.replace(loaded, label_names=("high",))

    monkeypatch.setattr(train, "load", load)
    with pytest.raises(ValueError, match=r"two labels.*\['high'\]"):
        train_with(folder, tmp_path / "run")


@pytest.mark.parametrize(
    "binding, named",
    [
        ("train.num_epochs = 0", "`num_epochs` must be a positive integer"),
        ("train.batch_size = 1.5", "`batch_size` must be a positive integer"),
        ("train.steps_per_epoch = -1", "`steps_per_epoch` must be a positive"),
        ("train.seed = -1", "`seed` must be an integer"),
        ("train.seed = 1.5", "`seed` must be an integer"),
        ("train.learning_rate = 0", "`learning_rate` must be a positive"),
        ("train.learning_rate = 'fast'", "`learning_rate` must be a positive"),
        ("train.learning_rate_schedule = 'step'", "must be one of"),
        ("train.warmup_epochs = 10", "`warmup_epochs` must be a number"),
        ("train.warmup_epochs = 'one'", "`warmup_epochs` must be a number"),
        ("train.warmup_epochs = True", "`warmup_epochs` must be a number"),
        ("train.optimizer = @Adam()", "`optimizer` must be a factory"),
        ("train.optimizer = @ConvNet", "`optimizer` must make"),
        ("train.optimizer = @SGD\nSGD.momentum = 2", "momentum=2"),
        ("train.jit_compile = 'yes'", "`jit_compile` must be"),
        ("train.jit_compile = 1", "`jit_compile` must be.*jit_compile=1"),
        ("train.seed = True", "`seed` must be.*seed=True"),
        ("train.workdir = 5", "`workdir` must be.*workdir=5"),
        ("train.data_dir = 5", "`data_dir` must be.*data_dir=5"),
        ("train.dtype_policy = 'half'", "half"),
        ("train.workdir = 'gs://bucket'", "`workdir` must be a local folder"),
        ("train.strategy = 'several'", "`strategy` must be one of"),
        ("MelFilterbanks.n_filters = -1", "`n_filters` must be"),
        ("MelFilterbanks.sample_rate = 8000", "`sample_rate` of the frontend"),
        ("ConvNet.filters = [4, 4, 4, 4, 4, 4, 4]", "ConvNet"),
        ("align.seq_len = 0", "`align.seq_len` must be"),
        ("align.seq_len = '1 s'", "`align.seq_len` must be"),
        ("data.prepare.transform_fns = @align", "`transform_fns` must be"),
        ("data.prepare.transform_fns = ['align']", "`transform_fns` must be"),
        ("SincNet.n_filters = 8", "any effect: SincNet.n_filters"),
        ("other/Leaf.n_filters = 8", "any effect: other/Leaf.n_filters"),
        ("clip_length = 16000", "any effect: clip_length"),
    ],
)
def test_mistakes_are_told_before_data_is_loaded(
    folder, tmp_path, no_data, binding, named
):
    with pytest.raises(ValueError, match=named):
        train_with(folder, tmp_path / "run", binding)


def test_what_only_data_uses_is_no_mistake_before_it_is_loaded(
    folder, tmp_path, no_data
):
    with pytest.raises(Loaded):
        train_with(
            folder,
            tmp_path / "run",
            "rate = 4000",
            "data.load.sample_rate = %rate",
            "audio_folder.on_error = 'skip'",
            "data.prepare.transform_fns = []",
        )


def test_building_the_model_early_leaves_no_trace(folder, tmp_path, no_data):
    def state():
        name = keras.layers.Dense(1).name
        return int(name.rpartition("_")[2]), keras.config.dtype_policy().name

    keras.layers.Dense(1)
    number, policy = state()
    with pytest.raises(Loaded):
        train_with(
            folder, tmp_path / "run", "train.dtype_policy = 'mixed_bfloat16'"
        )
    assert state() == (number + 1, policy)


@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_start_leaves_nothing(folder, tmp_path, no_data, exists):
    workdir = tmp_path / "new" / "run"
    if exists:
        workdir.mkdir(parents=True)
        (workdir / "notes.txt").write_text("mine")
    with pytest.raises(Loaded):
        train_with(folder, workdir)
    if exists:
        assert (workdir / "notes.txt").read_text() == "mine"
    else:
        assert not any(tmp_path.iterdir())


def test_a_workdir_must_be_given(folder):
    configuration.parse([], bindings(folder))
    with pytest.raises(ValueError, match="`workdir` must be given"):
        train.train()


def test_without_a_config_the_quickstart_is_named():
    process = run_command("train")
    assert process.returncode == 1
    assert "--gin_config=example/configs/quickstart.gin" in process.stderr
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.any_backend
def test_errors_of_use_end_in_one_line_and_a_status():
    wrong = "--gin_bindings=train.num_epoch = 3"
    process = run_command("train", "--gin_config=mel.gin", wrong)
    assert process.returncode == 1
    assert "train" in process.stderr and "num_epoch" in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""


@pytest.mark.any_backend
def test_a_backend_that_is_not_there_is_named():
    command = ("-m", "example.main", "--gin_config=quickstart.gin")
    process = python(*command, check=False, KERAS_BACKEND="tensorflo")
    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        "Error: `KERAS_BACKEND` must be one of tensorflow, jax, torch. "
        "Received: KERAS_BACKEND=tensorflo."
    ]
