"""The command that makes a classifier from a few labelled recordings."""

from __future__ import annotations

import math
import pathlib
import sys
from typing import TYPE_CHECKING

import rich.console
import rich.table
import rich.text
from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.prediction_formats import named
from leaf_audio.app.startup import escape_what_stdout_cannot_show, run_main

if TYPE_CHECKING:
    from leaf_audio.serving import TrainedClassifier
    from leaf_audio.serving.few_examples import Labelled, Scores


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_flags()
    _define_flags()
    run_main(main, "[RECORDING_OR_FOLDER...]")


def main(argv: list[str]) -> None:
    """Makes a classifier from a few labelled recordings, by embeddings.

    It prints how good the classifier is on recordings that it has not seen. Of
    the recordings on the command line, which have no labels, it names those
    that are most worth labelling next.

    Args:
        argv: The command line without its flags: the name of the program, then
            recordings without labels.
    """
    given = flags.FLAGS
    if given.recordings is None:
        sys.exit(
            "Error: `recordings` must be given, a folder of labelled "
            "recordings, such as --model=speech_commands --recordings=birds."
        )
    if given.method == "knn" and (given.output or argv[1:]):
        sys.exit(
            "Error: `method` must be logistic for a classifier that is written "
            "or used on other recordings. Received: method=knn."
        )
    if given.fraction != 1 and (given.output or argv[1:]):
        sys.exit(
            "Error: `fraction` must be 1 for a classifier that is written or "
            "used on other recordings: it is trained with all labels. "
            f"Received: fraction={given.fraction}."
        )
    if given.output is not None:
        trained_flags.check_output(given.output, ".keras")
        trained_flags.check_not_read(given.output, ())
    trained_flags.check_flags(needs_labels=False)
    escape_what_stdout_cannot_show()
    left_out = trained_flags.LeftOut()
    unlabelled = left_out.files_of(argv[1:])
    _check_labelled(given.recordings)
    with trained_flags.classifier_of_flags() as classifier:
        _classify(classifier, unlabelled, left_out)
    left_out.exit_if_any()


def _check_labelled(folder: str) -> None:
    """Ends the program with one line unless a folder can be understood."""
    from leaf_audio.data.recordings import list_labelled

    try:
        list_labelled(folder)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


def _classify(
    classifier: TrainedClassifier,
    unlabelled: list[str],
    left_out: trained_flags.LeftOut,
) -> None:
    from leaf_audio import serving
    from leaf_audio.serving import few_examples

    given = flags.FLAGS
    labelled = few_examples.read_labelled(
        classifier, given.recordings, left_out
    )
    for remark in labelled.remarks:
        print(f"warning: {remark}")
    is_used = given.output is not None or bool(unlabelled)
    try:
        scores = few_examples.score(
            labelled, given.method, given.fraction, given.seed
        )
    except ValueError as error:
        if not is_used:
            raise
        print(f"no scores: {error}")
    else:
        if given.workdir is not None and _has_learned(labelled):
            print(
                "warning: the encoder has learned from these recordings, on "
                f"which {given.workdir} was trained: the scores are too good.",
                file=sys.stderr,
                flush=True,
            )
        _print_scores(scores)
    if not is_used:
        return
    made = few_examples.with_labels(classifier, labelled, given.seed)
    if given.output is not None:
        made.save(pathlib.Path(given.output))
        print(f"classifier: {given.output}")
    if unlabelled:
        found = serving.predict(made, unlabelled, on_unusable=left_out)
        shares = {one.recording: one.probabilities for one in found}
        if shares:
            _print_next(shares, given.next)


def _has_learned(labelled: Labelled) -> bool:
    """Returns whether the encoder was trained on what is scored, if known."""
    from leaf_audio.serving import finished

    given = flags.FLAGS
    run = finished.finished_run(given.workdir)
    path = finished.read_data_path(run)
    if path is None:
        return False
    learned, own = (
        pathlib.Path(one).expanduser().resolve()
        for one in (path, given.recordings)
    )
    # The run has not learned from the test split of the folder.
    is_unseen = (
        own == learned
        and labelled.is_test.any()
        and finished.has_own_splits(run)
    )
    return own.is_relative_to(learned) and not is_unseen


def _print_scores(scores: Scores) -> None:
    table = rich.table.Table(title=f"{scores.how}, with 95 % intervals")
    table.add_column("label")
    for heading in ("recordings", "precision", "recall"):
        table.add_column(heading, justify="right")
    for label, count in scores.counts.items():
        # Not as markup, which rich would see in brackets.
        table.add_row(
            rich.text.Text(label),
            str(count),
            _with_interval(scores.precision[label], "none given"),
            _with_interval(scores.recall[label], "no recordings"),
        )
    rich.console.Console().print(table)
    print(f"accuracy: {_with_interval(scores.accuracy)}")


def _with_interval(
    shares: tuple[float, float, float], undefined: str = ""
) -> str:
    if math.isnan(shares[0]):
        return undefined
    return "{:.3f} ({:.3f} to {:.3f})".format(*shares)


def _print_next(shares: dict[str, dict[str, float]], count: int) -> None:
    """Names the recordings whose two likeliest labels are closest."""

    def two_likeliest(recording: str) -> list[str]:
        own = shares[recording]
        return sorted(own, key=own.__getitem__, reverse=True)[:2]

    def margin(recording: str) -> float:
        first, second = two_likeliest(recording)
        return shares[recording][first] - shares[recording][second]

    print("most worth labelling next, where two labels are close:")
    for recording in sorted(shares, key=margin)[:count]:
        told = named(two_likeliest(recording), shares[recording])
        print(f"{recording}: {told}")


def _define_flags() -> None:
    flags.DEFINE_string(
        "recordings",
        None,
        "The folder of labelled recordings: <label>/*, <split>/<label>/*, or "
        "with an index.csv. If it has a test split, that is scored.",
    )
    flags.DEFINE_enum(
        "method",
        "logistic",
        ["logistic", "knn"],
        "A logistic regression, or the five nearest neighbours.",
    )
    flags.DEFINE_float(
        "fraction",
        1.0,
        "The share of the training recordings of each label that is used, if "
        "the folder has a test split.",
    )
    # Bounds of absl let NaN pass.
    flags.register_validator(
        "fraction",
        lambda value: 0 < value <= 1,
        "`fraction` must be a number above 0, and at most 1.",
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Decides which recordings these are.",
        lower_bound=0,
        upper_bound=2**32 - 1,
    )
    flags.DEFINE_string(
        "output",
        None,
        "The .keras file to write the classifier to, for --model of other "
        "commands. It is replaced.",
    )
    flags.DEFINE_integer(
        "next",
        10,
        "How many recordings to name that are most worth labelling.",
        lower_bound=1,
    )


if __name__ == "__main__":
    run()
