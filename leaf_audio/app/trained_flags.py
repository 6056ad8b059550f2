"""The flags by which commands are given a trained classifier."""

from __future__ import annotations

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from leaf_audio.app.startup import importing_libraries

if TYPE_CHECKING:
    from leaf_audio.serving import TrainedClassifier


def define_flags() -> None:
    """Defines `--workdir`, `--model` and `--gin_config`."""
    # --help lists only the flags that the program itself has defined.
    own: dict[str, Any] = {"module_name": sys.argv[0]}
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder of the run. Its config.gin is not executed.",
        **own,
    )
    flags.DEFINE_string(
        "model",
        None,
        "Instead of `workdir`, a .keras file of a classifier, or the name of a "
        "model that comes with the package: speech_commands.",
        **own,
    )
    flags.DEFINE_multi_string(
        "gin_config",
        [],
        "A gin config that imports classes and functions of your own which the "
        "run uses; may be repeated. A config is code: its import lines run. "
        "Give only configs that you trust.",
        **own,
    )


def check_output(output: str, suffix: str = "") -> None:
    """Ends the program with one line unless a file can be written there.

    It is called before the work, whose result would otherwise be lost.

    Args:
        output: The name of the file.
        suffix: What the name must end in. Default: anything.
    """
    path = pathlib.Path(output)
    is_place = path.parent.is_dir() and not path.is_dir()
    if not (is_place and output.endswith(suffix)):
        ending = f"that ends in {suffix}, " if suffix else ""
        sys.exit(
            f"Error: `output` must be a file {ending}in a folder that exists. "
            f"Received: output={output}."
        )


@contextlib.contextmanager
def classifier_of_flags() -> Iterator[TrainedClassifier]:
    """Loads the classifier that the flags name.

    It is to be used in the `with` block. Functions that a config binds have no
    bindings after it. The program ends with one line if the flags name no
    classifier, or it cannot be loaded.
    """
    given = flags.FLAGS
    if (given.workdir is None) == (given.model is None):
        sys.exit(
            "Error: one of `workdir` and `model` must be given, such as "
            "--workdir=runs/leaf or --model=speech_commands. Received: "
            f"workdir={given.workdir}, model={given.model}."
        )
    with importing_libraries():
        import keras

        # Keras imports it on every backend, once it saves or copies a layer.
        import tensorflow  # noqa: F401

        # JAX looks for devices then, and writes which it has not found.
        keras.ops.zeros(1)
    with contextlib.ExitStack() as stack:
        try:
            classifier = stack.enter_context(
                trained(given.workdir or given.model, given.gin_config)
            )
        except (ValueError, OSError) as error:
            sys.exit(f"Error: {describe(error)}")
        yield classifier


@contextlib.contextmanager
def trained(
    source: str, configs: Sequence[str] = ()
) -> Iterator[TrainedClassifier]:
    """Loads a classifier, and if configs are given, with their functions.

    Clips are prepared as the run has recorded it. Nothing of the run or file is
    executed. gin is left as it was.

    Args:
        source: The folder of a run, a `.keras` file, or the name of a model
            that comes with the package.
        configs: Gin configs, which are executed and override the recorded
            settings. A run with classes or transforms of your own needs one
            that imports them. Default: none.

    Yields:
        The classifier. With configs, it is to be used in the `with` block.

    Raises:
        ValueError: If there is no such classifier, or a setting is wrong.
    """
    from leaf_audio import serving

    if not (configs or _has_only_a_config(source)):
        yield serving.load(source)
        return
    # Importing `train` registers everything that a config may name.
    from leaf_audio.app import (
        configuration,
        data_configurables,
        recorded,
        train,  # noqa: F401
    )

    with configuration.restored():
        # Before the model is loaded: they may import classes that it needs.
        configuration.parse(configs, [])
        folder = serving.finished_run(source)
        settings = recorded.data_bindings(
            recorded.read(folder), replaced=configuration.bound()
        )
        configuration.parse(configs, [], settings)
        yield serving.TrainedClassifier.from_run(
            source,
            data_configurables.transform_fns(),
            data_configurables.evaluation_hop(),
        )


def _has_only_a_config(source: str) -> bool:
    """Returns whether this is a run of a version before `settings.json`."""
    folder = pathlib.Path(source)
    return (folder / "config.gin").exists() and not (
        folder / "settings.json"
    ).exists()


def describe(error: Exception) -> str:
    """Returns an error's message, readable also if gin has added to it."""
    if "gin" not in sys.modules:
        return str(error)
    from leaf_audio.app import configuration

    return configuration.message(error)
