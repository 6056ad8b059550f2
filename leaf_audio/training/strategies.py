"""The devices that train a model: one, several, a TPU, or several machines.

The batch size is always that of the whole batch. Several devices share it.
"""

import contextlib
import dataclasses
import socket
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from leaf_audio.common.checks import (
    check_count,
    check_positive_int,
    check_text,
    check_unless_none,
)
from leaf_audio.common.reasons import first_line
from leaf_audio.training import processes

# The time after which an address counts as one that does not answer.
_CONNECT_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Strategy:
    """The devices that train a model.

    Args:
        scope: A function that returns a context manager. The model is built,
            trained and used inside this context.
        num_devices: int. The number of devices that share a batch, on all
            machines. Defaults to 1.
        process: int. Which of several processes this one is, from 0. They train
            one model together. Defaults to 0.
        num_processes: int. How many processes there are. Defaults to 1.
        copies_model: bool. Whether each device has a copy of the model, and a
            step that sees its part of a batch. Defaults to False.
    """

    scope: Callable[[], contextlib.AbstractContextManager]
    num_devices: int = 1
    process: int = 0
    num_processes: int = 1
    copies_model: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.process == 0


def mirrored(devices: Sequence[str] | None = None) -> Strategy:
    """Copies the model to several devices of this machine.

    It needs the TensorFlow backend.

    Args:
        devices: list of str or None. The devices, such as
            `["GPU:0", "GPU:1"]`. None takes every GPU. Defaults to None.

    Returns:
        The strategy.

    Raises:
        ValueError: If a device does not exist, or on another backend.
    """
    _check_devices(devices)
    _check_backend("mirrored", "tensorflow")
    known = [_short_name(d.name) for d in tf.config.list_logical_devices()]
    names = {_short_name(device) for device in devices or ()}
    if not names <= set(known) or len(names) < len(devices or ()):
        raise ValueError(
            f"`devices` must be different ones of {known}. "
            f"Received: devices={list(devices or ())}."
        )
    strategy = tf.distribute.MirroredStrategy(devices)
    return Strategy(
        strategy.scope, strategy.num_replicas_in_sync, copies_model=True
    )


def multi_worker_mirrored() -> Strategy:
    """Copies the model to several processes, on one machine or on several.

    It needs the TensorFlow backend. The environment variable TF_CONFIG tells
    each process where all of them are, and which one it is. A process has one
    GPU, or the CPU. It must be called before TensorFlow computes anything, and
    waits until all processes have called it.

    Returns:
        The strategy.

    Raises:
        ValueError: If TF_CONFIG is missing or not valid, a process has several
            GPUs, or on another backend.
    """
    _check_backend("multi_worker_mirrored", "tensorflow")
    strategy = processes.join_workers()
    return Strategy(
        strategy.scope,
        strategy.num_replicas_in_sync,
        *strategy.position(),
        copies_model=True,
    )


def tpu(address: str | None = None) -> Strategy:
    """Connects to a TPU and initialises it.

    It needs the TensorFlow backend.

    Args:
        address: str. "grpc://host:port", the name of a Cloud TPU, or "local"
            on a machine that holds one. Must be given.

    Returns:
        The strategy.

    Raises:
        ValueError: If there is no TPU at the address, or on another backend.
    """
    _check_backend("tpu", "tensorflow")
    if not isinstance(address, str) or not address:
        raise ValueError(
            "`tpu` must be the address of a TPU, its name, or 'local' "
            f"(--tpu, or tpu.address). Received: tpu.address={address!r}."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        _check_reachable(resolver.master())
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    # If there is no TPU, the type of the error depends on the version of
    # TensorFlow and on the step that fails, from looking up the name to
    # running the first operation.
    except Exception as error:
        raise ValueError(
            "`tpu` must be the address of a TPU that can be reached, its name, "
            f"or 'local'. Received: tpu={address!r} ({first_line(error)})"
        ) from error
    return Strategy(
        strategy.scope, strategy.num_replicas_in_sync, copies_model=True
    )


def data_parallel(
    devices: Sequence[str] | None = None,
    address: str | None = None,
    num_processes: int | None = None,
    process: int | None = None,
) -> Strategy:
    """Divides each batch among devices, with `keras.distribution`.

    It needs the JAX backend. The devices may belong to several processes, on
    one machine or on several. Each process is started with the same settings,
    apart from `process`, before JAX computes anything.

    Args:
        devices: list of str or None. The devices, such as
            `["gpu:0", "gpu:1"]`. None takes all devices of the best kind that
            JAX finds, of all processes. Defaults to None.
        address: str or None. Where the processes meet: "host:port" of the first
            one. Or "auto", on Slurm, Open MPI, Kubernetes and Cloud TPUs, where
            JAX finds out the rest. None is the environment variable
            LEAF_AUDIO_ADDRESS, and without it, for a process by itself.
            Defaults to None.
        num_processes: int or None. The number of processes. None is the
            environment variable LEAF_AUDIO_NUM_PROCESSES. Defaults to None.
        process: int or None. Which of them this one is, from 0. None is the
            environment variable LEAF_AUDIO_PROCESS. Defaults to None.

    Returns:
        The strategy.

    Raises:
        ValueError: If a device does not exist, the processes do not find each
            other, or on another backend.
    """
    _check_devices(devices)
    check_unless_none(check_text, address=address)
    check_unless_none(check_positive_int, num_processes=num_processes)
    check_unless_none(check_count, process=process)
    _check_backend("data_parallel", "jax")
    processes.join(address, num_processes, process)
    known = keras.distribution.list_devices()
    if devices and not set(devices) <= set(known):
        raise ValueError(
            f"`devices` must be among {known}. "
            f"Received: devices={list(devices)}."
        )
    devices = list(devices or known)
    distribution = keras.distribution.DataParallel(
        devices=devices,
        # Each process makes its part of a batch itself.
        auto_shard_dataset=False,
    )
    return Strategy(distribution.scope, len(devices), *processes.position())


_FACTORIES: dict[str, Callable[[], Strategy]] = {
    "mirrored": mirrored,
    "multi_worker_mirrored": multi_worker_mirrored,
    "tpu": tpu,
    "data_parallel": data_parallel,
}


def create(
    name: str,
    factories: Mapping[str, Callable[[], Strategy]] = _FACTORIES,
) -> Strategy:
    """Creates a strategy from its name.

    Args:
        name: str. "default" is the device that Keras chooses. "mirrored" is
            all GPUs of this machine (TensorFlow backend),
            "multi_worker_mirrored" a GPU or CPU in each of several processes
            (TensorFlow backend), "tpu" a TPU (TensorFlow backend),
            "data_parallel" all devices that JAX finds (JAX backend).
        factories: Functions without arguments that make a strategy, by name.
            They replace those of this module, for instance by a
            `functools.partial` with the address of a TPU.

    Returns:
        The strategy.

    Raises:
        ValueError: If the name is unknown, the strategy needs another backend,
            or it finds no device.
    """
    if name == "default":
        return Strategy(contextlib.nullcontext)
    if not isinstance(name, str) or name not in factories:
        raise ValueError(
            f"`strategy` must be one of {['default', *factories]}. "
            f"Received: strategy={name!r}."
        )
    return factories[name]()


def _check_devices(devices: Any) -> None:
    is_list = isinstance(devices, (list, tuple))
    if devices is not None and not (
        is_list
        and devices
        and all(isinstance(one, str) and one for one in devices)
        and len(set(devices)) == len(devices)
    ):
        raise ValueError(
            "`devices` must be a list of different names of devices, or None. "
            f"Received: devices={devices!r}."
        )


def _short_name(device: str) -> str:
    """Returns the name "GPU:0" of "/device:GPU:0", TensorFlow's long one."""
    return device.rpartition("device:")[2]


def _check_backend(strategy: str, backend: str) -> None:
    if keras.backend.backend() != backend:
        raise ValueError(
            f"`strategy` {strategy!r} needs KERAS_BACKEND={backend}. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}."
        )


def _check_reachable(master: str) -> None:
    """Raises an OSError at once if nothing answers at the address.

    TensorFlow would try to connect for minutes.
    """
    url = urllib.parse.urlparse(master)
    if url.hostname:
        address = (url.hostname, url.port or 8470)
        socket.create_connection(address, _CONNECT_SECONDS).close()
