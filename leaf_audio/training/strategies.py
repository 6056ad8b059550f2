"""Where a model is trained: on one device, on several, or on a TPU.

A batch size is always that of the whole batch, which several devices share.
"""

import contextlib
import dataclasses
import socket
import urllib.parse
from collections.abc import Callable, Sequence

import gin
import keras
import tensorflow as tf

_CONNECT_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What training needs to know of a strategy.

    Attributes:
        scope: makes the context in which to build, fit and use a model.
        num_devices: among how many devices a batch is divided.
    """

    scope: Callable[[], contextlib.AbstractContextManager]
    num_devices: int = 1


def create(name: str) -> Strategy:
    """Creates a strategy from its name.

    Args:
        name: "default" (whatever device Keras chooses), "mirrored" (the GPUs
            of this machine, TensorFlow backend), "tpu" (TensorFlow backend) or
            "data_parallel" (every device that JAX sees, JAX backend). The last
            three have settings of their own: `mirrored.devices`,
            `tpu.address`, `data_parallel.devices`.

    Raises:
        ValueError: there is no such strategy, not on this backend, or it finds
            no device.
    """
    if name == "default":
        return Strategy(contextlib.nullcontext)
    # By way of gin, where the settings of each are bound.
    strategies = {
        "mirrored": mirrored,
        "tpu": tpu,
        "data_parallel": data_parallel,
    }
    if name not in strategies:
        raise ValueError(
            f"`strategy` must be one of {['default', *strategies]}. "
            f"Received: strategy={name!r}."
        )
    return strategies[name]()


@gin.configurable(module="strategies")
def mirrored(devices: Sequence[str] | None = None) -> Strategy:
    """Copies the model to several devices of this machine.

    Args:
        devices: such as ["GPU:0", "GPU:1"]; None is every GPU.
    """
    _check_backend("mirrored", "tensorflow")
    known = [d.name for d in tf.config.list_logical_devices()]
    for device in devices or ():
        if not any(name.endswith(device) for name in known):
            raise ValueError(
                f"`devices` must be among {known}. "
                f"Received: devices={list(devices)}."
            )
    strategy = tf.distribute.MirroredStrategy(devices)
    return Strategy(strategy.scope, strategy.num_replicas_in_sync)


@gin.configurable(module="strategies")
def tpu(address: str | None = None) -> Strategy:
    """Connects to a TPU and initialises it.

    Args:
        address: "grpc://host:port", the name of a Cloud TPU, or "local" on a
            machine that holds one.
    """
    _check_backend("tpu", "tensorflow")
    if not address:
        raise ValueError(
            "`tpu` must be the address of a TPU, its name, or 'local' "
            f"(--tpu, or tpu.address in gin). Received: tpu={address!r}."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        _check_reachable(resolver.master())
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    # Without a TPU, each version of TensorFlow throws something else, from
    # anywhere between name resolution and the kernels.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            "`tpu` must be the address of a TPU that can be reached, its name, "
            f"or 'local'. Received: tpu={address!r} ({reason})"
        ) from error
    return Strategy(strategy.scope, strategy.num_replicas_in_sync)


@gin.configurable(module="strategies")
def data_parallel(devices: Sequence[str] | None = None) -> Strategy:
    """Divides batches among devices through keras.distribution.

    Args:
        devices: such as ["gpu:0", "gpu:1"]; None is all of one kind.
    """
    _check_backend("data_parallel", "jax")
    known = keras.distribution.list_devices()
    if devices and not set(devices) <= set(known):
        raise ValueError(
            f"`devices` must be among {known}. "
            f"Received: devices={list(devices)}."
        )
    devices = list(devices or known)
    distribution = keras.distribution.DataParallel(devices=devices)
    return Strategy(distribution.scope, len(devices))


def _check_backend(strategy: str, backend: str) -> None:
    if keras.backend.backend() != backend:
        raise ValueError(
            f"`strategy` {strategy!r} needs KERAS_BACKEND={backend}. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}."
        )


def _check_reachable(master: str) -> None:
    """Fails at once where TensorFlow would try to connect for minutes."""
    url = urllib.parse.urlparse(master)
    if url.hostname:
        address = (url.hostname, url.port or 8470)
        socket.create_connection(address, _CONNECT_SECONDS).close()
