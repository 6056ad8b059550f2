"""Weights of other systems are read from files, and damaged files are told."""

import pathlib
import pickle

import keras
import numpy as np
import pytest
from foreign_leafs import leaf, leaf_state

from leaf_audio.serving import import_frontend

# 8 kHz: windows of 201 samples, a hop of 80.
SETTINGS = {"sample_rate": 8000}
SIZE, STRIDE = 201, 80


@pytest.fixture(scope="module")
def waveforms():
    return np.random.default_rng(1).normal(0, 0.2, (2, 2011)).astype("float32")


def assert_same(imported, waveforms, state):
    outputs = keras.ops.convert_to_numpy(imported(waveforms))
    expected = leaf(waveforms, state, SIZE, STRIDE)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_of_tensorflow_is_read(tmp_path, waveforms):
    tf = pytest.importorskip("tensorflow")
    state = leaf_state("original")

    def trackable(names):
        """Makes objects whose attributes are named as the weights are."""
        holder = tf.train.Checkpoint()
        for name, value in names.items():
            first, _, rest = name.partition("/")
            if not rest:
                setattr(holder, first, tf.Variable(value))
            elif not hasattr(holder, first):
                inner = {
                    k.partition("/")[2]: v
                    for k, v in names.items()
                    if k.startswith(f"{first}/")
                }
                setattr(holder, first, trackable(inner))
        return holder

    model = tf.train.Checkpoint(
        _frontend=trackable(state), _head=tf.Variable(1.0)
    )
    # The text file of the same name, as the callback of the release leaves it.
    prefix = tmp_path / "checkpoint"
    model.write(str(prefix))
    prefix.write_text('model_checkpoint_path: "checkpoint"')
    imported = import_frontend(prefix, **SETTINGS)
    assert_same(imported, waveforms, state)


def test_an_archive_of_numpy_is_read(tmp_path, waveforms):
    state = leaf_state("speechbrain")
    np.savez(tmp_path / "leaf.npz", **state)
    imported = import_frontend(str(tmp_path / "leaf.npz"), **SETTINGS)
    assert_same(imported, waveforms, state)


def test_a_checkpoint_of_leaf_pytorch_is_read(tmp_path, waveforms):
    torch = pytest.importorskip("torch")
    state = leaf_state("leaf_pytorch")
    model = {
        f"features.{k}": torch.nn.Parameter(torch.tensor(v))
        for k, v in state.items()
    }
    model["model.fc.weight"] = torch.zeros(3, 4)
    path = tmp_path / "epoch=001_tr_loss=0.1.pth"
    torch.save(
        {
            "model_state_dict": model,
            "optimizer_state_dict": {"state": {0: {"step": torch.ones(())}}},
            "epoch": 1,
            "tr_loss": np.mean([0.5, 0.1]),
            "val_acc": np.float64(0.1),
        },
        path,
    )
    imported = import_frontend(path, **SETTINGS)
    assert_same(imported, waveforms, state)


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def test_no_code_of_a_file_is_run(tmp_path):
    torch = pytest.importorskip("torch")
    created = tmp_path / "created"
    state = leaf_state("leaf_pytorch") | {"epoch": Harmful(created)}
    torch.save(state, tmp_path / "leaf.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Harmful(created)))
    np.savez(tmp_path / "leaf.npz", epoch=np.array([Harmful(created)]))
    for name in ("leaf.pt", "plain.pt", "leaf.npz"):
        with pytest.raises(ValueError, match=name) as error:
            import_frontend(tmp_path / name)
        assert "allow_pickle" not in str(error.value)
    assert not created.exists()


@pytest.mark.parametrize("kind", ["pt", "old.pt", "npz", "index"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_named(tmp_path, kind, share):
    path = tmp_path / f"leaf.{kind}"
    state = leaf_state("speechbrain")
    if kind == "npz":
        np.savez(path, **state)
    elif kind == "index":
        pytest.importorskip("tensorflow").train.Checkpoint().write(
            str(tmp_path / "leaf")
        )
    else:
        torch = pytest.importorskip("torch")
        torch.save(
            {k: torch.tensor(v) for k, v in state.items()},
            path,
            _use_new_zipfile_serialization=kind == "pt",
        )
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    source = tmp_path / "leaf" if kind == "index" else path
    with pytest.raises(
        ValueError, match=f"Received: source='{source}'"
    ) as error:
        import_frontend(source)
    assert str(error.value).isprintable()
    assert not str(error.value).endswith(": ")
    # It would run the code of the file.
    assert "allow_pickle" not in str(error.value)


def test_a_file_of_a_whole_module_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ValueError, match="tensors alone.*module.pt") as error:
        import_frontend(tmp_path / "module.pt")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "name, message",
    [
        ("words.keras", "a model of Keras: leaf_audio.load .* train.init_from"),
        ("run", "the folder of a run: leaf_audio.load .* train.init_from"),
        ("long.wav", r"NumPy \(.npz\), or one of PyTorch \(.pt, .pth"),
        ("folder", "is a folder"),
        ("none.pt", "is not there"),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path, name, message):
    for folder in ("run", "folder"):
        (tmp_path / folder).mkdir()
    for file in ("words.keras", "run/.run", "long.wav"):
        (tmp_path / file).write_bytes(b"RIFF")
    with pytest.raises(
        ValueError, match=f"{name}'.*{message}|{message}.*{name}'"
    ):
        import_frontend(tmp_path / name)


def test_a_file_of_pytorch_may_have_any_name(tmp_path, waveforms):
    torch = pytest.importorskip("torch")
    state = leaf_state("speechbrain")
    for is_new in (True, False):
        torch.save(
            {name: torch.tensor(value) for name, value in state.items()},
            tmp_path / "embedding_model",
            _use_new_zipfile_serialization=is_new,
        )
        imported = import_frontend(tmp_path / "embedding_model", **SETTINGS)
        assert_same(imported, waveforms, state)
