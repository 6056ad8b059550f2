"""The command that tells the labels of recordings."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from absl import flags

from leaf_audio.app import prediction_formats, trained_flags
from leaf_audio.app.prediction_formats import ANNOTATIONS, FORMATS, Choice
from leaf_audio.app.startup import escape_what_stdout_cannot_show, run_main
from leaf_audio.common.files import replacing_text

if TYPE_CHECKING:
    from leaf_audio.serving import Prediction, TrainedClassifier


# What the names of the files with annotations end in.
_SUFFIXES = {"audacity": ".labels.txt", "raven": ".selections.txt"}


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_flags()
    _define_flags()
    run_main(main, "RECORDING_OR_FOLDER...")


def predict(
    source: str,
    recordings: Sequence[str],
    configs: Sequence[str] = (),
    on_unusable: Callable[[str, ValueError], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Computes the probability of each label for each recording.

    Recordings are treated as the run treats clips in an evaluation: mixed to
    one channel, resampled, brought to one length and normalized. A recording
    that is longer than a clip is judged in windows, whose probabilities are
    averaged; see `leaf_audio.serving.predict`. The settings are those that the
    run has recorded. Its `config.gin` is not executed, so the run of somebody
    else can be used. gin is left as it was.

    Args:
        source: str. The folder of a finished run, a `.keras` file, or the name
            of a model that comes with the package.
        recordings: list of str. Names of audio files, at any sample rate. A
            folder stands for all audio files below it.
        configs: list of str. Gin configs, which are executed and override the
            recorded settings. A run with classes or transforms of your own
            needs one that imports them. Default: none.
        on_unusable: Function that is called with the name of a recording that
            cannot be read and the error. The recording is then left out. None
            raises the error. Default: None.

    Returns:
        For each recording, by its name, the probability of each label. They
        sum to 1 unless a recording may have several labels.

    Raises:
        ValueError: If there is no finished run. If `on_unusable` is None, also
            if a recording cannot be read, or a folder holds none.
    """
    from leaf_audio import serving

    with trained_flags.trained(source, configs) as classifier:
        found = serving.predict(
            classifier, list(recordings), on_unusable=on_unusable
        )
        return {one.recording: one.probabilities for one in found}


def main(argv: list[str]) -> None:
    """Tells the labels of the recordings that the command line names.

    A recording that cannot be read is told on stderr and left out. The exit
    code is then 1.

    Args:
        argv: The command line without its flags: the name of the program, then
            the recordings.
    """
    recordings, given = argv[1:], flags.FLAGS
    if not recordings:
        sys.exit(
            "Error: recordings must be given, such as "
            "--workdir=runs/leaf one.wav another.wav folder."
        )
    if given.format in ANNOTATIONS and given.output is None:
        sys.exit(
            f"Error: `output` must be a folder with --format={given.format}, "
            "for a file for each recording. Received: output=None."
        )
    if given.output is not None:
        _check_output(given.output)
    trained_flags.check_flags()
    escape_what_stdout_cannot_show()
    left_out = trained_flags.LeftOut()
    files = left_out.files_of(recordings)
    if given.output is not None:
        trained_flags.check_not_read(given.output, files)
    with trained_flags.classifier_of_flags() as classifier:
        _predict(classifier, files, left_out)
    left_out.exit_if_any()


def _check_output(output: str) -> None:
    """Ends the program unless `output` can be written."""
    if flags.FLAGS.format not in ANNOTATIONS:
        trained_flags.check_output(output)
    elif os.path.exists(output) and not os.path.isdir(output):
        sys.exit(
            "Error: `output` must be a folder with "
            f"--format={flags.FLAGS.format}. Received: output={output}, a file."
        )
    else:
        suffix = _SUFFIXES[flags.FLAGS.format]
        held = sorted(pathlib.Path(output).glob(f"*{suffix}"))
        if held:
            # They may have been corrected by hand.
            sys.exit(
                f"Error: `output` must be a folder without *{suffix} files, "
                f"which would be replaced. Received: output={output}, with "
                f"{len(held)} of them, such as {held[0].name}. Give another "
                "folder, or remove those of a command that was interrupted."
            )
        trained_flags.check_folder_of(os.path.join(output, "x"))


def _predict(
    classifier: TrainedClassifier,
    files: Sequence[str],
    left_out: trained_flags.LeftOut,
) -> None:
    from leaf_audio import serving
    from leaf_audio.data.progress import progress

    given = flags.FLAGS
    found = serving.predict(
        classifier,
        files,
        window=given.window,
        hop=given.hop,
        batch_size=given.batch_size,
        on_unusable=left_out,
    )
    choice = Choice(classifier.thresholds, given.top, given.threshold)
    means = _Means()
    with progress(found, len(files), "Predicting", transient=True) as tracked:
        if given.format in ANNOTATIONS:
            _write_annotations(tracked, choice, classifier)
        elif given.window is None and given.hop is None:
            _write_lines(means.counted(tracked), choice)
        else:
            _write_lines(tracked, choice)
    means.tell()


class _Means:
    """Counts the recordings that are told by means over windows."""

    def __init__(self) -> None:
        self._count = 0

    def counted(
        self, predictions: Iterable[Prediction]
    ) -> Iterator[Prediction]:
        """Yields predictions, and counts those of several windows."""
        for one in predictions:
            self._count += len(one.rows) > 1
            yield one

    def tell(self) -> None:
        """Says on stderr how many there were, if any."""
        if self._count:
            which = "recording is" if self._count == 1 else "recordings are"
            print(
                f"{self._count} {which} longer than a clip of the model: the "
                "probabilities are means over windows. --hop=SECONDS tells "
                "each window.",
                file=sys.stderr,
                flush=True,
            )


def _write_lines(predictions: Iterable[Prediction], choice: Choice) -> None:
    """Writes a table or text, to the file `output` or to stdout."""
    given = flags.FLAGS
    lines_of = {
        "text": prediction_formats.text,
        "csv": prediction_formats.table,
        "jsonl": prediction_formats.json_lines,
    }[given.format]
    is_timeline = given.window is not None or given.hop is not None
    lines = lines_of(predictions, choice, is_timeline)
    if given.output is None:
        for line in lines:
            print(line, flush=True)
        return
    with replacing_text(given.output) as file:
        for line in lines:
            file.write(f"{line}\n")


def _write_annotations(
    predictions: Iterable[Prediction],
    choice: Choice,
    classifier: TrainedClassifier,
) -> None:
    """Writes a file for each recording into the folder `output`."""
    given = flags.FLAGS
    folder = pathlib.Path(given.output)
    folder.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for one in predictions:
        if given.format == "audacity":
            lines = prediction_formats.audacity(one, choice)
        else:
            highest = classifier.sample_rate / 2
            lines = prediction_formats.raven(one, choice, highest)
        suffix = _SUFFIXES[given.format]
        name = prediction_formats.free_name(one.recording, suffix, written)
        written.add(name.casefold())
        with replacing_text(folder / name) as file:
            file.writelines(f"{line}\n" for line in lines)


def _define_flags() -> None:
    trained_flags.define_choice_flags(
        "3, and in a timeline 1. Where a recording may have several labels, "
        "all that reach their threshold, and a timeline nothing else"
    )
    trained_flags.define_window_flags(
        "the distance in the evaluation of the run, or else the length of a "
        "window. With --window or --hop, each window is told: a timeline"
    )
    flags.DEFINE_enum(
        "format",
        "text",
        FORMATS,
        "text, csv (a table), jsonl (a line of JSON for each recording or "
        "window), audacity (label tracks), raven (selection tables).",
    )
    flags.DEFINE_string(
        "output",
        None,
        "The file to write instead of stdout. For audacity and raven the "
        "folder, for a file for each recording.",
    )
    flags.DEFINE_integer(
        "batch_size",
        64,
        "The number of clips that the model gets at once.",
        lower_bound=1,
    )


if __name__ == "__main__":
    run()
