"""The command that writes the embeddings of recordings."""

import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.startup import escape_what_stdout_cannot_show, run_main
from leaf_audio.common.files import replacing

if TYPE_CHECKING:
    from leaf_audio.serving import TrainedClassifier


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_flags()
    _define_flags()
    run_main(main, "RECORDING_OR_FOLDER...")


def main(argv: list[str]) -> None:
    """Writes the embeddings of the recordings that the command line names.

    A recording that cannot be read is told on stderr and left out. The exit
    code is then 1.

    Args:
        argv: The command line without its flags: the name of the program, then
            the recordings.
    """
    recordings, output = argv[1:], flags.FLAGS.output
    if not recordings or output is None:
        sys.exit(
            "Error: recordings and the .npz file `output` must be given, such "
            "as --workdir=runs/leaf --output=embeddings.npz one.wav folder. "
            f"Received: output={output}, {len(recordings)} recordings."
        )
    trained_flags.check_output(output, ".npz")
    trained_flags.check_flags(needs_labels=False)
    escape_what_stdout_cannot_show()
    left_out = trained_flags.LeftOut()
    files = left_out.files_of(recordings)
    trained_flags.check_not_read(output, files)
    with trained_flags.classifier_of_flags() as classifier:
        _write(classifier, files, pathlib.Path(output), left_out)
    left_out.exit_if_any()


def _write(
    classifier: "TrainedClassifier",
    files: Sequence[str],
    output: pathlib.Path,
    left_out: trained_flags.LeftOut,
) -> None:
    """Writes the embeddings of recordings as arrays of NumPy.

    Args:
        classifier: The classifier.
        files: Names of audio files.
        output: The `.npz` file. It has the arrays `embeddings`, float32 of
            shape (recordings, channels), and `files`, their names.
        left_out: What is told of recordings that cannot be read.

    Raises:
        ValueError: If the model has no embeddings.
        OSError: If the file cannot be written.
    """
    from leaf_audio import serving
    from leaf_audio.data.progress import progress

    given = flags.FLAGS
    embedded = serving.embed(
        classifier,
        files,
        window=given.window,
        hop=given.hop,
        on_unusable=left_out,
    )
    with progress(embedded, len(files), "Embedding", transient=True) as tracked:
        found = list(tracked)
    if not found:
        left_out.exit_if_any()
    with replacing(output) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            embeddings=np.stack([one.mean for one in found]),
            files=np.array([one.recording for one in found]),
        )
    channels = len(found[0].mean)
    print(f"{output}: {len(found)} embeddings of {channels} channels")


def _define_flags() -> None:
    flags.DEFINE_string(
        "output", None, "The .npz file to write. It is replaced."
    )
    trained_flags.define_window_flags(
        "the distance in the evaluation of the run, or else the length of a "
        "window. The embeddings of a recording's windows are averaged"
    )


if __name__ == "__main__":
    run()
