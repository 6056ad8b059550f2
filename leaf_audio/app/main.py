"""The command that trains or evaluates, and prepares the data for it."""

import pathlib
import sys

from absl import flags, logging

from leaf_audio.app import trained_flags
from leaf_audio.app.startup import (
    escape_what_stdout_cannot_show,
    importing_libraries,
    run_main,
)

_AFTER_INTERRUPTION = {
    "train": "The same command goes on from the last state that was saved.",
    "eval": "The same command evaluates again.",
    "prepare": "The same command goes on.",
}


def run() -> None:
    """Runs the command, with the flags of the command line."""
    _define_flags()
    run_main(main)


def main(argv: list[str]) -> None:
    """Trains, evaluates or prepares data, as the flags say.

    Args:
        argv: The command line without its flags: the name of the program.
    """
    given = flags.FLAGS
    if given.mode != "eval" and not (given.gin_config or given.gin_bindings):
        sys.exit(
            "Error: `gin_config` must be given, such as "
            "--gin_config=example/configs/quickstart.gin. --help has the rest."
        )
    trained_flags.check_configs(given.gin_config, _bindings())
    _check_workdir()
    escape_what_stdout_cannot_show()
    with importing_libraries():
        import keras
        import tensorflow as tf

        from leaf_audio.app import configuration, run
    if keras.backend.backend() != "tensorflow":
        # TensorFlow only reads data then, and would take the GPU's memory.
        tf.config.set_visible_devices([], "GPU")
    if not given["verbosity"].present:
        # TFDS logs each file that it opens.
        logging.set_verbosity(logging.ERROR)
    try:
        commands = {
            "train": run.train,
            "eval": run.evaluate,
            "prepare": run.prepare,
        }
        with trained_flags.plain_warnings():
            commands[given.mode](given.gin_config, _bindings())
    except run.EXPECTED_ERRORS as error:
        # The message is enough for these errors. --verbosity=1 shows where
        # they were raised.
        logging.debug("", exc_info=True)
        sys.exit(f"Error: {configuration.message(error)}")
    except run.processes.Interrupted:
        # What was saved has been told.
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(f"Interrupted. {_AFTER_INTERRUPTION[given.mode]}")


def _check_workdir() -> None:
    """Ends the program with one line unless `workdir` can be used."""
    given = flags.FLAGS
    if given.mode == "eval" and given.workdir is not None:
        trained_flags.check_workdir(
            given.workdir, trained_flags.AN_EPOCH, ["best.keras"]
        )
    elif given.workdir is not None:
        path = pathlib.Path(given.workdir)
        for part in (path, *path.parents):
            if part.is_file():
                sys.exit(
                    "Error: `workdir` must be a folder. "
                    f"Received: workdir={path}, where {part} is a file."
                )


def _bindings() -> list[str]:
    """Returns the bindings of the command line, those of other flags last."""
    given = flags.FLAGS
    overrides = {
        "train.workdir": given.workdir,
        "train.data_dir": given.data_dir,
        "train.seed": given.seed,
        "tpu.address": given.tpu,
        "train.strategy": None if given.tpu is None else "tpu",
    }
    return given.gin_bindings + [
        f"{key} = {value!r}"
        for key, value in overrides.items()
        if value is not None
    ]


def _define_flags() -> None:
    flags.DEFINE_multi_string(
        "gin_config",
        [],
        "A gin config; may be repeated, later ones override. Found in the "
        "current folder or among those that come with the package. A config "
        "is code: its import lines run. Give only configs that you trust.",
    )
    flags.DEFINE_multi_string(
        "gin_bindings",
        [],
        "A binding such as 'Leaf.n_filters = 64'; may be repeated. Overrides "
        "the configs.",
    )
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "eval", "prepare"],
        "Train, or evaluate the model that the run in the workdir has kept, "
        "which prints a table and writes to the folder evaluations there. An "
        "evaluation does not execute the config.gin of the workdir. Or only "
        "prepare the data.",
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder of the run. Overrides train.workdir.",
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "The folder for prepared data; $TFDS_DATA_DIR or else "
        "~/tensorflow_datasets. Overrides train.data_dir.",
    )
    flags.DEFINE_integer("seed", None, "Overrides train.seed.")
    flags.DEFINE_string(
        "tpu",
        None,
        "Address or name of a TPU, or 'local'. Overrides tpu.address, and "
        "train.strategy by 'tpu'.",
    )


if __name__ == "__main__":
    run()
