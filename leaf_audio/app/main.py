"""Trains or evaluates an audio classifier.

python -m example.main --gin_config=example/configs/quickstart.gin
python -m example.main --mode=eval --workdir=runs/quickstart
"""

import sys

from absl import app, flags, logging

from leaf_audio.app.startup import without_startup_messages

_GIN_CONFIG = flags.DEFINE_multi_string(
    "gin_config",
    [],
    "A gin config; may be repeated, later ones override. Found in the current "
    "folder or among those that come with the package.",
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    "A binding such as 'Leaf.n_filters = 64'; may be repeated. Overrides the "
    "configs.",
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval"],
    "Train, or evaluate the best model in the workdir, which prints a table "
    "and writes evaluation.json there.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run is kept. Overrides train.workdir."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Where data is prepared; $TFDS_DATA_DIR or else ~/tensorflow_datasets. "
    "Overrides train.data_dir.",
)
_SEED = flags.DEFINE_integer("seed", None, "Overrides train.seed.")
_TPU = flags.DEFINE_string(
    "tpu",
    None,
    "Address or name of a TPU, or 'local'. Overrides tpu.address, and "
    "train.strategy by 'tpu'.",
)


def _bindings() -> list[str]:
    """Returns the bindings of the command line, flags last."""
    overrides = {
        "train.workdir": _WORKDIR.value,
        "train.data_dir": _DATA_DIR.value,
        "train.seed": _SEED.value,
        "tpu.address": _TPU.value,
        "train.strategy": None if _TPU.value is None else "tpu",
    }
    return _GIN_BINDINGS.value + [
        f"{key} = {value!r}"
        for key, value in overrides.items()
        if value is not None
    ]


def main(argv: list[str]) -> None:
    """Runs what the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
    if _MODE.value == "train" and not (
        _GIN_CONFIG.value or _GIN_BINDINGS.value
    ):
        sys.exit(
            "Error: `gin_config` must be given, such as "
            "--gin_config=example/configs/quickstart.gin. --help has the rest."
        )
    # The name of a label or a file may be one that a terminal cannot show.
    sys.stdout.reconfigure(errors="backslashreplace")
    with without_startup_messages():
        import keras
        import tensorflow as tf

        from leaf_audio.app import configuration, run
    if keras.backend.backend() != "tensorflow":
        # TensorFlow only reads data here, and would take the GPU's memory.
        tf.config.set_visible_devices([], "GPU")
    if not flags.FLAGS["verbosity"].present:
        # TFDS logs each file that it opens.
        logging.set_verbosity(logging.ERROR)
    try:
        command = {"train": run.train, "eval": run.evaluate}[_MODE.value]
        command(_GIN_CONFIG.value, _bindings())
    except run.EXPECTED_ERRORS as error:
        # One line is enough for what is expected of these; the rest is for
        # whoever asks for it with --verbosity=1.
        logging.debug("", exc_info=True)
        sys.exit(f"Error: {configuration.message(error)}")
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on after the last epoch.")


def run() -> None:
    """Runs the command."""
    app.run(main)
