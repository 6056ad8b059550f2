"""The command that writes the embeddings of recordings."""

import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    run_main(main)


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
    escape_what_stdout_cannot_show()
    with trained_flags.classifier_of_flags() as classifier:
        try:
            left_out = write(
                classifier, recordings, pathlib.Path(output), flags.FLAGS.hop
            )
        except (ValueError, OSError) as error:
            sys.exit(f"Error: {trained_flags.describe(error)}")
    if left_out:
        sys.exit(f"Error: left out, since they cannot be read: {left_out}.")


def write(
    classifier: "TrainedClassifier",
    recordings: Sequence[str],
    output: pathlib.Path,
    hop: float | None = None,
) -> int:
    """Writes the embeddings of recordings as arrays of NumPy.

    Args:
        classifier: The classifier.
        recordings: Names of audio files and folders.
        output: The `.npz` file. It has the arrays `embeddings`, float32 of
            shape (recordings, channels), and `files`, their names.
        hop: float, in seconds, or None. The distance between the windows of a
            long recording. None is the length of a window. Default: None.

    Returns:
        How many recordings could not be read. They are told on stderr.

    Raises:
        ValueError: If no recording can be read, or the model has no
            embeddings.
        OSError: If the file cannot be written.
    """
    from leaf_audio import serving
    from leaf_audio.data.progress import progress
    from leaf_audio.serving.windows import files_of

    unusable = []

    def tell(recording: str, error: ValueError) -> None:
        unusable.append(recording)
        message = trained_flags.describe(error)
        print(f"Error: {message}", file=sys.stderr, flush=True)

    embedded = serving.embed(classifier, recordings, hop=hop, on_unusable=tell)
    total = len(files_of(recordings))
    with progress(embedded, total, "Embedding", transient=True) as tracked:
        found = list(tracked)
    if not found:
        raise ValueError(
            "`recordings` must hold one that can be read. Received: "
            f"{len(unusable)} that cannot."
        )
    with replacing(output) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            embeddings=np.stack([one.mean for one in found]),
            files=np.array([one.recording for one in found]),
        )
    channels = len(found[0].mean)
    print(f"{output}: {len(found)} embeddings of {channels} channels")
    return len(unusable)


# Not when the module is imported: another command of the same process may have
# flags of the same names.
def _define_flags() -> None:
    # --help lists only the flags that the program itself has defined.
    own: dict[str, Any] = {"module_name": sys.argv[0]}
    flags.DEFINE_string(
        "output", None, "The .npz file to write. It is replaced.", **own
    )
    flags.DEFINE_float(
        "hop",
        None,
        "The distance in seconds between the windows of a long recording, by "
        "default the length of a window. Their embeddings are averaged.",
        **own,
    )


if __name__ == "__main__":
    run()
