"""Several processes that train one model, on the JAX or TensorFlow backend.

All of them do the same work, each on its part of a batch. The first one alone
writes the folder of the run. The others work in a temporary copy of it.
"""

import atexit
import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from leaf_audio.common.checks import check_count, check_positive_int
from leaf_audio.common.reasons import first_line
from leaf_audio.training import meeting

if TYPE_CHECKING:
    from leaf_audio.training.workers import Workers

# After this time without a sign of life of another process, the others stop.
# In seconds.
_HEARTBEAT_S = 30
_VARIABLES = {
    "address": "LEAF_AUDIO_ADDRESS",
    "num_processes": "LEAF_AUDIO_NUM_PROCESSES",
    "process": "LEAF_AUDIO_PROCESS",
}


class Terminated(SystemExit):
    """The system has asked the run to end, by SIGTERM or SIGHUP.

    All processes of a run raise it after the same step. If nothing catches it,
    the process ends with the code 143, which schedulers do not take for a
    failure of the program.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The user has asked the run to end, by Ctrl-C. The state is saved.

    Other processes, which the user has not asked, raise `Terminated` after the
    same step.
    """


def join(
    address: str | None, num_processes: int | None, process: int | None
) -> None:
    """Connects this process to the others on JAX, once.

    Args:
        address: str or None. "host:port" of the first process, or "auto"; see
            `strategies.data_parallel`.
        num_processes: int or None. How many processes there are.
        process: int or None. Which of them this one is, from 0.

    Raises:
        ValueError: If an argument is missing or not valid, or the others do not
            answer.
    """
    given = {
        "address": address,
        "num_processes": num_processes,
        "process": process,
    }
    for name, variable in _VARIABLES.items():
        if given[name] is None and variable in os.environ:
            given[name] = _from_environment(name, os.environ[variable])
    if all(value is None for value in given.values()):
        return
    import jax

    if jax.distributed.is_initialized():
        return
    arguments = _arguments(given)
    # JAX would take SIGTERM for itself, and the process would go on.
    jax.config.update("jax_enable_preemption_service", False)
    atexit.register(_exit_at_once)
    if jax.config.jax_cpu_collectives_implementation is None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    others = f"the other processes, which meet at {given['address']},"
    try:
        with meeting.limited_wait(others):
            jax.distributed.initialize(
                **arguments,
                heartbeat_timeout_seconds=_HEARTBEAT_S,
                # JAX itself would abort the process, with a stack trace.
                initialization_timeout=int(2 * meeting.LIMIT),
            )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "`data_parallel.address` must be where the processes meet. "
            f"Received: {_described(given)} ({first_line(error)})"
        ) from error


def join_workers() -> "Workers":
    """Connects this process to the others on TensorFlow, once.

    Returns:
        The strategy of the processes.

    Raises:
        ValueError: If TF_CONFIG is missing or not valid.
    """
    from leaf_audio.training import workers

    if workers.joined() is None:
        atexit.register(_exit_at_once)
    return workers.join()


def _workers() -> "Workers | None":
    """Returns the strategy of several processes on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return None
    from leaf_audio.training import workers

    return workers.joined()


_has_failed = threading.Event()

# JAX has one class of errors, whose message begins with the kind. These are of
# this process itself.
_OWN_FAULTS = (
    *("INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"),
    "UNIMPLEMENTED",
)
# So many hashes are compared to find the settings that differ.
_BUCKETS = 1024


def _exit_at_once() -> None:
    """Ends a process that has failed, before it waits for the others."""
    if _has_failed.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """Has all processes end if one of them fails in the `with` block.

    A process that fails ends without waiting for the others, at the end of the
    program. They notice it at the next step, or by its silence.

    Raises:
        ConnectionError: If another process has failed.
    """
    if position()[1] == 1:
        yield
        return
    try:
        yield
    except (Terminated, Interrupted):
        raise
    except _errors_of_others() as error:
        _has_failed.set()
        reason = first_line(error)
        if reason.startswith(_OWN_FAULTS):
            raise
        raise ConnectionError(
            f"another process has failed, or does not answer ({reason})"
        ) from error
    except BaseException:
        _has_failed.set()
        raise


def _errors_of_others() -> tuple[type[Exception], ...]:
    """Returns what the backend raises if another process does not answer."""
    if keras.backend.backend() == "jax":
        import jax

        return (jax.errors.JaxRuntimeError,)
    import tensorflow as tf

    return (
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.UnavailableError,
    )


def _from_environment(name: str, text: str) -> Any:
    if name == "address":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"`{_VARIABLES[name]}` must be an integer. Received: {text!r}."
        ) from None


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Returns what JAX is to be told."""
    if given["address"] == "auto":
        if given["num_processes"] is None and given["process"] is None:
            return {}
        raise ValueError(
            "`data_parallel.num_processes` and `data_parallel.process` must be "
            f"None with the address 'auto'. Received: {_described(given)}."
        )
    missing = [name for name, value in given.items() if value is None]
    if missing or not meeting.is_address(str(given["address"])):
        raise ValueError(
            "`data_parallel.address` must be 'host:port' of the first process, "
            "or 'auto'; the number of processes, and which one this is, must "
            f"be given with the former. Received: {_described(given)}."
        )
    count = check_positive_int(
        "data_parallel.num_processes", given["num_processes"]
    )
    check_count("data_parallel.process", given["process"])
    if given["process"] >= count:
        raise ValueError(
            f"`data_parallel.process` must be from 0 to {count - 1}. "
            f"Received: process={given['process']}."
        )
    return {
        "coordinator_address": given["address"],
        "num_processes": count,
        "process_id": given["process"],
    }


def _described(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def position() -> tuple[int, int]:
    """Returns which process this is, and how many there are."""
    workers = _workers()
    if workers is not None:
        return workers.position()
    if keras.backend.backend() != "jax":
        return 0, 1
    # It is imported already. To ask JAX itself would start it.
    import jax

    if not jax.distributed.is_initialized():
        return 0, 1
    return jax.process_index(), jax.process_count()


def is_main() -> bool:
    """Returns whether this process writes and prints."""
    return position()[0] == 0


def wait_for_all() -> None:
    """Waits until all processes call it."""
    if position()[1] > 1:
        check_equal("the same place in all processes", "a wait for the others")


def check_equal(what: str, value: str) -> None:
    """Checks that all processes have the same value.

    Args:
        what: What they must have, for the message.
        value: The value of this process.

    Raises:
        ValueError: In all processes, if the values differ.
    """
    here, count = position()
    if count == 1:
        return
    everywhere = _gathered(np.array([_hash(value)]))
    if (everywhere != everywhere[0]).any():
        raise ValueError(
            f"There must be {what}. Received: {value} in process {here}, and "
            "something else in others."
        )


def check_equal_settings(settings: Mapping[str, str]) -> None:
    """Checks that all processes have the same settings.

    Args:
        settings: The settings of this process: text by name.

    Raises:
        ValueError: In all processes, if settings differ. It names those.
    """
    here, count = position()
    if count == 1:
        return
    # Processes may have other names, too. So a name has its place by itself.
    hashes = np.zeros(_BUCKETS, np.int32)
    for name, value in settings.items():
        hashes[_bucket(name)] ^= _hash(f"{name} = {value}")
    everywhere = _gathered(hashes)
    differs = (everywhere != everywhere[0]).any(axis=0)
    if differs.any():
        found = [
            f"{name}={value}"
            for name, value in settings.items()
            if differs[_bucket(name)]
        ]
        raise ValueError(
            "There must be the same settings in all processes. Received: "
            f"{', '.join(found) or 'fewer settings'} in process {here}, and "
            "something else in others."
        )


def _bucket(name: str) -> int:
    return int(_hash(name)) % _BUCKETS


def _hash(text: str) -> np.int32:
    digest = hashlib.sha256(text.encode()).digest()
    return np.frombuffer(digest[:4], np.int32)[0]


def largest(values: Sequence[float]) -> list[float]:
    """Returns the largest of each of some values in all processes.

    All processes must call this.

    Args:
        values: The values of this process, as many as in the others.
    """
    own = np.array(values, np.float32)
    if position()[1] > 1:
        own = _gathered(own).max(axis=0)
    return own.tolist()


def _gathered(own: np.ndarray) -> np.ndarray:
    """Returns the arrays of all processes, along a new first axis."""
    workers = _workers()
    if workers is not None:
        return workers.gathered(own)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(own))


@contextlib.contextmanager
def copy_of(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary copy of the files in a folder.

    Args:
        folder: The folder. It need not exist.
    """
    with tempfile.TemporaryDirectory(prefix="leaf_audio-") as name:
        copy = pathlib.Path(name, folder.name or "run")
        copy.mkdir()
        if folder.is_dir():
            for path in folder.iterdir():
                if path.is_file():
                    shutil.copy2(path, copy)
        yield copy


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """Has Keras give this process all data, instead of its part of it.

    With several processes, Keras cannot fetch what a model predicts: each
    process has only a part. So each predicts all.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or position()[1] == 1:
        yield
        return
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)
