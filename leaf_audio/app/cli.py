"""The command `leaf-audio`, also `python -m leaf_audio`.

Each subcommand is a module with flags of its own. Only the module that is asked
for is imported, so that `leaf-audio --help` answers without TensorFlow.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from leaf_audio.version import __version__

# For each subcommand: the module, flags to add, and what it does.
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "train": (
        "leaf_audio.app.main",
        (),
        "Train a classifier as gin configs say.",
    ),
    "eval": (
        "leaf_audio.app.main",
        ("--mode=eval",),
        "Evaluate the model of a run.",
    ),
    "prepare": (
        "leaf_audio.app.prepare",
        (),
        "Prepare the data of a run, without training.",
    ),
    "predict": (
        "leaf_audio.app.predict",
        (),
        "Print the most likely labels of recordings.",
    ),
    "embed": (
        "leaf_audio.app.embed",
        (),
        "Write the embeddings of recordings.",
    ),
    "stream": (
        "leaf_audio.app.stream",
        (),
        "Print labels while audio comes in.",
    ),
    "classify-embeddings": (
        "leaf_audio.app.classify_embeddings",
        (),
        "Make a classifier from a few labelled recordings.",
    ),
    "export": (
        "leaf_audio.app.export",
        (),
        "Write a trained classifier for LiteRT, ONNX or TensorFlow.",
    ),
    "study": (
        "leaf_audio.app.study",
        (),
        "Train and compare several configurations.",
    ),
    "plot": (
        "leaf_audio.app.plot",
        (),
        "Draw the learned filters and outputs of a run.",
    ),
    "report": (
        "leaf_audio.app.report_page",
        (),
        "Write a page that shows a run: curves, filters, examples.",
    ),
}


def usage() -> str:
    """Returns the text of `leaf-audio --help`."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "Usage: leaf-audio COMMAND [FLAGS]",
            "",
            *(f"  {name:{width}}  {COMMANDS[name][2]}" for name in COMMANDS),
            "",
            "For example:",
            "  leaf-audio train --gin_config=quickstart.gin",
            "",
            "leaf-audio COMMAND --help lists the flags of a command.",
            "leaf-audio --version prints the version.",
        ]
    )


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs the subcommand that is named first.

    Args:
        arguments: The arguments after the name of the program. Default: those
            of the command line.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    name, *rest = arguments
    if name not in COMMANDS:
        sys.exit(
            f"Error: the command must be one of {', '.join(COMMANDS)}. "
            f"Received: {name}. leaf-audio --help has the rest."
        )
    # A config may import modules of the current folder, as with `python -m`. It
    # comes last, so that no module there takes the place of another.
    with contextlib.suppress(FileNotFoundError):
        # Unless it has been removed.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
    module, flags, _ = COMMANDS[name]
    # absl reads the flags from there.
    sys.argv = [f"leaf-audio {name}", *flags, *rest]
    importlib.import_module(module).run()
