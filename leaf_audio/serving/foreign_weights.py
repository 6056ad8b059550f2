"""Reads the weights of other systems: state dicts, files and checkpoints.

What comes out is a dictionary of arrays by their published names. Nothing in a
file is run: files of PyTorch are read with `weights_only=True`, and archives of
NumPy without pickled objects.
"""

import os
import pathlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from leaf_audio.common.checks import check_path
from leaf_audio.common.run_folders import holds_run

# An array, or a function that reads it.
Lazy = Any

_TF_END = "/.ATTRIBUTES/VARIABLE_VALUE"
# What a checkpoint of TensorFlow holds beside the weights of the model.
_TF_OTHERS = ("optimizer/", "save_counter", "keras_api/")
_SLOT = "/.OPTIMIZER_SLOT/"
# How files of PyTorch end mostly. Others are known by how they begin: as a zip
# archive, or, those of early versions, as a pickle.
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_TORCH_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02")


def read_weights(source: Any) -> dict[str, Lazy]:
    """Reads weights by their published names.

    Args:
      source: Mapping of names to arrays or tensors, which may be nested; a
        `torch.nn.Module`; the prefix of a TensorFlow checkpoint; or the name of
        a file of NumPy (`.npz`) or of PyTorch.

    Returns:
      A dictionary. The names of nested mappings are joined by dots. `to_array`
      turns a value into an array.

    Raises:
      ValueError: If `source` is none of these, or the file cannot be read.
      ImportError: If a file needs PyTorch, which is not installed.
    """
    if callable(getattr(source, "state_dict", None)):
        source = source.state_dict()
    if isinstance(source, Mapping):
        return {_without_end(k): v for k, v in _flattened(source)}
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            "`source` must be a mapping of names to arrays, a torch.nn.Module, "
            "the prefix of a TensorFlow checkpoint, or the name of a file of "
            f"PyTorch or NumPy. Received: source={source!r}."
        )
    path = os.path.expanduser(check_path("source", source))
    # Keras names a checkpoint `checkpoint`, and beside it there is a text file
    # of the same name.
    if os.path.isfile(f"{path}.index"):
        return dict(_from_tensorflow(path))
    _check_kind(path)
    if path.endswith(".npz"):
        return _from_numpy(path)
    return dict(_flattened(_from_torch(path)))


def _check_kind(path: str) -> None:
    """Raises a ValueError unless a file may be one of NumPy or PyTorch."""
    is_run = holds_run(pathlib.Path(path))
    if is_run or path.endswith(".keras"):
        kind = "the folder of a run" if is_run else "a model of Keras"
        raise ValueError(
            "`source` must hold weights of another system. Received: "
            f"source={path!r}, {kind}: leaf_audio.load loads the classifier in "
            "it, and train.init_from begins a run with its weights."
        )
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "is not there"
        raise ValueError(
            "`source` must be the prefix of a TensorFlow checkpoint, or the "
            f"name of a file. Received: source={path!r}, which {what}."
        )
    if path.endswith((".npz", *_TORCH_SUFFIXES)):
        return
    try:
        with open(path, "rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise _unreadable(path, "a file", error) from error
    if not begins.startswith(_TORCH_BEGINNINGS):
        raise ValueError(
            "`source` must be the prefix of a TensorFlow checkpoint, a file of "
            f"NumPy (.npz), or one of PyTorch ({', '.join(_TORCH_SUFFIXES)}). "
            f"Received: source={path!r}."
        )


def to_array(name: str, value: Lazy) -> np.ndarray:
    """Returns a weight as a float64 array.

    Args:
      name: Its published name, for the message.
      value: A value of what `read_weights` returns.

    Raises:
      ValueError: If it is not an array of finite numbers.
    """
    if isinstance(value, _Reader):
        value = value()
    try:
        if hasattr(value, "detach"):
            # NumPy has no bfloat16.
            value = value.detach().cpu().double()
        array = np.asarray(keras.ops.convert_to_numpy(value))
        is_real = array.dtype.kind != "c"
        array = array.astype("float64") if is_real else array
    # Tensors without data raise a RuntimeError.
    except (TypeError, ValueError, RuntimeError):
        is_real, array = False, np.array(np.nan)
    if not is_real or not np.isfinite(array).all():
        raise ValueError(
            "`source` must hold finite real numbers. Received: "
            f"{name} with others than that."
        )
    return array


class _Reader:
    """Reads one weight of a checkpoint when it is called.

    Args:
      read: Function that returns a weight by its key.
      key: The key.
      shape: Shape of the weight.
    """

    def __init__(self, read: Callable, key: str, shape: list[int]):
        self._read, self._key, self.shape = read, key, shape

    def __call__(self) -> np.ndarray:
        return self._read(self._key)


def _flattened(state: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        elif hasattr(value, "shape"):
            yield f"{prefix}{name}", value


def _without_end(name: str) -> str:
    return name.removesuffix(_TF_END)


def _from_tensorflow(prefix: str) -> Iterator[tuple[str, Lazy]]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
    except (ValueError, tf.errors.OpError) as error:
        raise _unreadable(prefix, "a TensorFlow checkpoint", error) from error
    for key, shape in shapes.items():
        name = _without_end(key)
        if name == key or name.startswith(_TF_OTHERS) or _SLOT in name:
            continue
        yield name, _Reader(reader.get_tensor, key, shape)


def _from_numpy(path: str) -> dict[str, Lazy]:
    try:
        # NumPy leaves the file of a damaged archive open.
        with (
            open(path, "rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return {_without_end(name): arrays[name] for name in arrays.files}
    # A damaged archive can raise about any error. NumPy's own message explains
    # how to run the code of a file.
    except Exception as error:
        raise ValueError(
            "`source` must be an archive of NumPy with arrays of numbers, such "
            f"as np.savez writes. Received: source={path!r}, which is damaged, "
            "is no such archive, or holds other objects."
        ) from error


def _from_torch(path: str) -> Mapping:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path!r} is taken for a file of PyTorch, which is not installed: "
            "pip install -e '.[torch]'. Or give the weights as a dictionary of "
            "arrays."
        ) from error
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    # PyTorch's own message explains how to run the code of a file.
    except pickle.UnpicklingError as error:
        raise ValueError(
            "`source` must be a file of tensors alone, such as "
            "`torch.save(model.state_dict(), path)` writes. Received: "
            f"source={path!r}, which is damaged or holds other objects; these "
            "are not loaded, since they can run code."
        ) from error
    # A damaged file can raise about any error.
    except Exception as error:
        raise _unreadable(path, "a file of weights of PyTorch", error) from (
            error
        )
    if not isinstance(state, Mapping):
        raise ValueError(
            "`source` must be a file of weights, such as "
            "`torch.save(model.state_dict(), path)` writes. Received: "
            f"source={path!r}, which holds a {type(state).__name__}."
        )
    return state


def _numpy_scalars() -> list[Any]:
    """Lists what stands for numbers in the checkpoints of leaf-pytorch.

    It saves accuracies as scalars of NumPy. These functions make numbers and do
    nothing else.
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = (np.float32, np.float64, np.int64)
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


def _unreadable(path: str, kind: str, error: Exception) -> ValueError:
    first_line = str(error).strip().partition("\n")[0]
    reason = ": ".join(filter(None, (type(error).__name__, first_line)))
    return ValueError(
        f"`source` must be {kind} that can be read. Received: source={path!r}: "
        f"{reason}"
    )
