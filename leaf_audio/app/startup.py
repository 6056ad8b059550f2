"""What commands do before they import TensorFlow."""

import contextlib
import ctypes
import importlib.util
import io
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags

from leaf_audio.common import output

_BACKENDS = ("tensorflow", "jax", "torch")
# Flags that name files or folders.
_PATHS = ("data_dir", "model", "output", "recording", "recordings", "workdir")
_HELP = frozenset(("--help", "-help", "-h", "-?"))
# The names of these settings in glibc's malloc.h, and large sizes in bytes.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SIZE = 2**30


def run_main(main: Callable[[list[str]], None], operands: str = "") -> None:
    """Runs a command. If the user presses Ctrl-C, it ends with one line.

    It may be called with stderr closed; what is told there is then lost. With
    `--help`, it prints how to call the command, what `main` does, by the first
    line of its docstring, and the flags.

    The flags of the command must be defined. They are defined when it is run,
    and not when its module is imported: another command of the same process,
    or a program that imports the module, may have flags of the same names.

    Args:
        main: Called with the command line without its flags.
        operands: What the command line has besides flags, such as
            "RECORDING...". Default: nothing; then there must be nothing.
    """

    def checked(argv: list[str]) -> None:
        if len(argv) > 1 and not operands:
            raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
        _expand_home()
        main(argv)

    sys.unraisablehook = _obey_ctrl_c
    _list_flags_in_help()
    # What the caller has closed. For stderr, `print` would take stdout instead.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    try:
        if _HELP.intersection(sys.argv[1:]):
            # absl itself would end with an exit code of failure.
            print(_help(main, operands))
            sys.stdout.flush()
        else:
            app.run(checked)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    except BrokenPipeError:
        # The program that reads the output, such as `head`, has ended.
        output.discard(sys.stdout.fileno())
        sys.exit(1)


def _list_flags_in_help() -> None:
    """Has the help of absl list the flags of the command.

    By itself, it lists only those that the module of the program has defined.
    """
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith("leaf_audio.app."):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _expand_home() -> None:
    """Replaces the `~` of paths in flags, which shells leave behind a `=`."""
    given = flags.FLAGS
    for name in _PATHS:
        if name in given and given[name].value is not None:
            given[name].value = os.path.expanduser(given[name].value)
    if "gin_config" in given:
        files = map(os.path.expanduser, given.gin_config)
        given["gin_config"].value = list(files)


def _obey_ctrl_c(unraisable: Any) -> None:
    """Repeats a Ctrl-C that came where Python can raise no error.

    JAX has Python call it at each garbage collection. An error there is told
    and then forgotten.
    """
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    # Not at once: this function is called there, too.
    again = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def _help(main: Callable[[list[str]], None], operands: str) -> str:
    spec = sys.modules["__main__"].__spec__
    name = sys.argv[0]
    # `leaf-audio` has set the name that the user has typed.
    if spec is not None and " " not in name:
        name = f"python -m {spec.name}"
    about = (main.__doc__ or "").partition("\n")[0]
    usage = f"Usage: {name} [FLAGS] {operands}".rstrip()
    return "\n".join([usage, "", about, flags.FLAGS.module_help(sys.argv[0])])


@contextlib.contextmanager
def importing_libraries() -> Iterator[None]:
    """Prepares the process for TensorFlow, which the `with` block imports.

    All commands begin with it, so that they compute the same numbers at the
    same speed. Messages of the imports are held back; see
    `without_startup_messages`.
    """
    keep_freed_memory()
    prefer_onednn()
    with without_startup_messages(), _interruptible():
        yield


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Has Ctrl-C end the `with` block, whatever libraries do with the error.

    Some catch every error where they try an import, and some raise another one
    since the import has failed.
    """
    usual = signal.default_int_handler
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    is_asked = threading.Event()

    def interrupt(*_: Any) -> None:
        is_asked.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if is_asked.is_set():
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, usual)
    if is_asked.is_set():
        raise KeyboardInterrupt


def import_backend() -> None:
    """Imports Keras and its backend for a command that uses a trained model."""
    with importing_libraries():
        import keras

        # Keras imports it on every backend, once it saves or copies a layer.
        import tensorflow  # noqa: F401

        # JAX looks for devices then, and writes which it has not found.
        keras.ops.zeros(1)


@contextlib.contextmanager
def without_startup_messages() -> Iterator[None]:
    """Holds back what libraries write to stderr, unless they fail.

    Ends the program where Keras is asked for a backend that is not there.
    """
    _check_backend()
    # TensorFlow's C++ parts write there before any setting reaches them, and
    # would bury what a run tells.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        stderr = os.dup(2)
    except OSError:
        # It is closed. The next file to be opened would get the messages.
        output.discard(2)
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except KeyboardInterrupt:
            # Whatever a library was about to say, it is of no use.
            raise
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def escape_what_stdout_cannot_show() -> None:
    """Prints escapes for characters that the terminal's encoding lacks.

    The names of labels and files may hold such characters. Without this, they
    would end the program.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def keep_freed_memory() -> None:
    """Lets glibc keep large blocks of memory that are freed, to use them again.

    By default it returns them to the system, which clears them before they can
    be used again. Training frees such blocks in each step. Other C libraries
    stay as they are.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _SIZE)
        mallopt(_M_TRIM_THRESHOLD, _SIZE)
        mallopt(_M_TOP_PAD, _SIZE // 4)


def prefer_onednn() -> None:
    """Has TensorFlow compute with oneDNN, unless the user decides otherwise.

    On x86 without AVX-512, TensorFlow leaves it off by default, and training
    takes longer. TensorFlow reads the setting when it is imported.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _check_backend() -> None:
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in _BACKENDS:
        sys.exit(
            f"Error: `KERAS_BACKEND` must be one of {', '.join(_BACKENDS)}. "
            f"Received: KERAS_BACKEND={backend}."
        )
    if importlib.util.find_spec(backend) is None:
        sys.exit(
            f"Error: KERAS_BACKEND={backend} must be installed, by "
            f"pip install {backend}."
        )
