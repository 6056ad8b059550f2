"""The command that prints the most likely labels of recordings."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from leaf_audio.app.startup import (
    escape_what_stdout_cannot_show,
    importing_libraries,
    run_main,
)


def run() -> None:
    """Runs the command, with the flags of the command line."""
    _define_flags()
    run_main(main)


def predict(
    workdir: str,
    recordings: Sequence[str],
    configs: Sequence[str] = (),
    on_unusable: Callable[[str, ValueError], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Computes the probability of each label for each recording.

    Recordings are treated as the run treats clips in an evaluation: mixed to
    one channel, resampled, brought to one length and normalized. If the run has
    a `data.prepare.evaluation_hop`, a long recording is cut into chunks, whose
    probabilities are averaged. The settings are those that the run has
    recorded. Its `config.gin` is not executed, so the run of somebody else can
    be used; see `leaf_audio.app.recorded`. gin is left as it was.

    Args:
        workdir: str. The folder of a finished run.
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

    # Importing `train` registers everything that a config may name.
    from leaf_audio.app import (
        configuration,
        data_configurables,
        recorded,
        train,  # noqa: F401
    )

    folder = serving.finished_run(workdir)
    with configuration.restored():
        # Before the model is loaded: they may import classes that it needs.
        configuration.parse(configs, [])
        settings = recorded.data_bindings(
            recorded.read(folder), replaced=configuration.bound()
        )
        configuration.parse(configs, [], settings)
        return serving.predict(
            workdir,
            recordings,
            data_configurables.transform_fns(),
            on_unusable=on_unusable,
            evaluation_hop=data_configurables.evaluation_hop(),
        )


def describe(
    probabilities: Mapping[str, float],
    thresholds: Sequence[float] | None,
    top: int,
) -> str:
    """Names the most likely labels of a recording, the most likely first.

    Args:
        probabilities: The probability of each label.
        thresholds: None if the recording has one label. Otherwise the
            probability from which on it has each label.
        top: The number of labels to name. Labels that reach their threshold are
            all named.

    Returns:
        A text such as "dog 0.912, rain 0.071". With thresholds, labels that do
        not reach theirs come after those that do, as in "dog 0.912, rain 0.640;
        below threshold: siren 0.210". If none does, "no label" comes first.
    """
    from leaf_audio import serving

    def named(labels: Sequence[str]) -> str:
        return ", ".join(f"{one} {probabilities[one]:.3f}" for one in labels)

    falling = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
    if thresholds is None:
        return named(falling[:top])
    given = serving.given_labels(probabilities, thresholds)
    text = named(given) or "no label"
    below = [label for label in falling if label not in given]
    below = below[: max(0, top - len(given))]
    return f"{text}; below threshold: {named(below)}" if below else text


def main(argv: list[str]) -> None:
    """Prints a line for each recording that the command line names.

    Where a recording may have several labels, the line tells which of them
    reach their thresholds, and which do not.

    A recording that cannot be read is told on stderr and left out. The exit
    code is then 1.

    Args:
        argv: The command line without its flags: the name of the program, then
            the recordings.
    """
    recordings = argv[1:]
    workdir, top = flags.FLAGS.workdir, flags.FLAGS.top
    if workdir is None or not recordings:
        sys.exit(
            "Error: `workdir` and recordings must be given, such as "
            "--workdir=runs/leaf one.wav another.wav folder."
        )
    with importing_libraries():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    from leaf_audio.app import configuration, report
    from leaf_audio.training import Workdir

    escape_what_stdout_cannot_show()
    unusable = []

    def tell(recording: str, error: ValueError) -> None:
        unusable.append(recording)
        message = configuration.message(error)
        print(f"Error: {message}", file=sys.stderr, flush=True)

    try:
        predictions = predict(
            workdir, recordings, flags.FLAGS.gin_config, on_unusable=tell
        )
        thresholds = Workdir(workdir).read_thresholds()
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {configuration.message(error)}")
    for recording, shares in predictions.items():
        found = describe(shares, thresholds, top)
        report.print_lines(f"{recording}: {found}")
    if unusable:
        total = len(unusable) + len(predictions)
        sys.exit(f"Error: {len(unusable)} of {total} recordings were left out.")


# Not when the module is imported: a program that calls `predict` may have flags
# of the same names.
def _define_flags() -> None:
    # --help lists only the flags that the program itself has defined.
    own: dict[str, Any] = {"module_name": sys.argv[0]}
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder of the run. Its config.gin is not executed.",
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
    flags.DEFINE_integer(
        "top",
        3,
        "The number of labels to print for each recording. Where it may have "
        "several, those that reach their threshold are all printed.",
        lower_bound=1,
        **own,
    )


if __name__ == "__main__":
    run()
