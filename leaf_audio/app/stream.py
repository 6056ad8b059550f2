"""The command that tells labels while audio comes in."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.prediction_formats import Choice, named, times
from leaf_audio.app.startup import escape_what_stdout_cannot_show, run_main

if TYPE_CHECKING:
    import numpy as np

    from leaf_audio.serving import ClassifierStream, TrainedClassifier

# The most bytes that are read from standard input at once: a second at 32 kHz.
_MAX_BYTES = 65536

# How files with a header begin, in the formats that are most likely here.
_HEADERS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM")


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_flags()
    _define_flags()
    run_main(main, "RECORDING|-")


def main(argv: list[str]) -> None:
    """Tells labels while audio comes in, a line for each window.

    The audio is that of a file, or with `-` what comes from standard input: raw
    16-bit samples of one channel, in the byte order of this machine, such as
    those of `arecord -f S16_LE -r 16000 -t raw`. A line is printed once its
    window has arrived.

    Args:
        argv: The command line without its flags: the name of the program, then
            the name of the file, or `-`.
    """
    if len(argv) != 2:
        sys.exit(
            "Error: one recording must be given, or - for raw samples from "
            "standard input, such as --workdir=runs/leaf -. Received: "
            f"{' '.join(argv[1:]) or 'none'}."
        )
    recording, given = argv[1], flags.FLAGS
    if recording == "-" and sys.stdin is None:
        sys.exit("Error: standard input must be open. Received: none.")
    if recording == "-" and sys.stdin.isatty():
        sys.exit(
            "Error: standard input must hold raw 16-bit samples, as in "
            "arecord -f S16_LE -r 16000 -t raw | python -m example.stream -. "
            "Received: a terminal."
        )
    if recording != "-" and given.rate is not None:
        sys.exit(
            "Error: `rate` is the sample rate of standard input; a file tells "
            f"its own. Received: rate={given.rate} with {recording}."
        )
    trained_flags.check_flags()
    if recording != "-" and not os.path.isfile(recording):
        sys.exit(
            "Error: `recording` must be an audio file, or - for standard "
            f"input. Received: recording={recording!r}, which is no file."
        )
    escape_what_stdout_cannot_show()
    with trained_flags.classifier_of_flags() as classifier:
        _tell(classifier, recording)


def _tell(classifier: TrainedClassifier, recording: str) -> None:
    """Prints a line for each window."""
    given = flags.FLAGS
    choice = Choice(classifier.thresholds, given.top, given.threshold)
    stream = classifier.stream(given.rate, given.window, given.hop)
    if recording == "-":
        chunks = _standard_input()
    else:
        chunks = _file(recording, classifier.sample_rate)
    for found in _judgements(stream, chunks):
        labels = choice.labels(found.probabilities, of_window=True)
        if labels:
            told = named(labels, found.probabilities)
            print(f"{times(found.start, found.end)}: {told}", flush=True)


def _judgements(
    stream: ClassifierStream, chunks: Iterator[np.ndarray]
) -> Iterator[Any]:
    for chunk in chunks:
        yield from stream.push(chunk)
    yield from stream.finish()


def _file(recording: str, sample_rate: int) -> Iterator[np.ndarray]:
    """Yields the blocks of a file, at the sample rate of the model.

    At the end, it warns of a silent recording as `data.read_recording` does.
    """
    from leaf_audio.data import decoding

    levels: set[float] = set()
    with decoding.naming(recording):
        for block in decoding.decode_blocks(
            pathlib.Path(recording), sample_rate
        ):
            if len(levels) < 2:
                levels.update((float(block.min()), float(block.max())))
            yield block
    if len(levels) == 1:
        decoding.warn_of_silence(recording)


def _standard_input() -> Iterator[np.ndarray]:
    """Yields the samples of standard input as they arrive."""
    import numpy as np

    rest = b""
    is_empty = True
    while data := os.read(sys.stdin.fileno(), _MAX_BYTES):
        if is_empty and data.startswith(_HEADERS):
            raise ValueError(
                "Standard input must hold raw 16-bit samples, without a header "
                "(arecord has -t raw). Received: an audio file; give its name "
                "in place of -."
            )
        is_empty = False
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], "int16")
    if is_empty:
        raise ValueError(
            "Standard input must hold raw 16-bit samples. Received: nothing."
        )
    if rest:
        # A recorder that is stopped may leave one.
        print("The last byte is half a sample: left out.", file=sys.stderr)


def _define_flags() -> None:
    flags.DEFINE_integer(
        "rate",
        None,
        "The sample rate of standard input, in Hz; by default that of the "
        "model.",
        lower_bound=1,
    )
    trained_flags.define_window_flags("half a window")
    trained_flags.define_choice_flags(
        "1, and where a recording may have several labels, all that reach "
        "their threshold"
    )


if __name__ == "__main__":
    run()
