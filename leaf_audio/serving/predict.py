"""Tells what the best model of a run takes recordings for.

python -m example.predict --workdir=runs/leaf one.wav another.mp3
"""

import sys
from collections.abc import Sequence

from absl import app, flags

from leaf_audio.app.startup import without_startup_messages

_BATCH_SIZE = 64


def predict(
    workdir: str, recordings: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Computes the probability of each label for each recording.

    Recordings are treated as the run has treated clips in its evaluation: mixed
    to one channel, resampled, brought to one length, normalised.

    Args:
        workdir: of a finished run.
        recordings: audio files at any rate.

    Returns:
        By recording, probabilities by label.

    Raises:
        ValueError: there is no finished run, or a recording cannot be used.
    """
    import keras
    import numpy as np

    from leaf_audio.app import configurables, configuration
    from leaf_audio.data import read_recording, transform
    from leaf_audio.training import train  # noqa: F401
    from leaf_audio.training.workdir import Workdir

    folder = Workdir(workdir)
    trained_on = folder.read_data()
    if not (folder.best.exists() and trained_on):
        raise ValueError(
            "`workdir` must hold a finished run. Received: "
            f"workdir={workdir!r}, without {folder.results.name}."
        )
    # Before the model is read, whose classes a config may import.
    configuration.parse([str(folder.config.resolve())], [])
    model = keras.models.load_model(folder.best)
    rate = trained_on.get("sample_rate") or getattr(
        model.frontend, "sample_rate", None
    )
    if rate is None:
        raise ValueError(
            "`workdir` must hold a run that has recorded a sample rate. "
            f"Received: workdir={workdir!r}, trained on "
            f"{trained_on['name']!r} without one; data.load.sample_rate sets "
            "it."
        )
    transform_fns = configurables.transform_fns()
    clips = []
    for recording in recordings:
        samples = read_recording(recording, int(rate))
        clips.append(transform(samples, transform_fns).numpy())
    logits = model.predict(np.stack(clips), batch_size=_BATCH_SIZE, verbose=0)
    shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return {
        recording: dict(zip(trained_on["labels"], row.tolist(), strict=True))
        for recording, row in zip(recordings, shares, strict=True)
    }


def main(argv: list[str]) -> None:
    """Prints a line for each recording that is named."""
    recordings = argv[1:]
    workdir, top = flags.FLAGS.workdir, flags.FLAGS.top
    if workdir is None or not recordings:
        sys.exit(
            "Error: `workdir` and recordings must be given, such as "
            "--workdir=runs/leaf one.wav another.wav."
        )
    with without_startup_messages():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    from leaf_audio.app import configuration, report

    # A name may be one that a terminal cannot show.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        predictions = predict(workdir, recordings)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {configuration.message(error)}")
    for recording, shares in predictions.items():
        best = sorted(shares, key=shares.get, reverse=True)[:top]
        found = ", ".join(f"{label} {shares[label]:.3f}" for label in best)
        report.print_lines(f"{recording}: {found}")


def run() -> None:
    """Runs the command."""
    # Not above: whoever imports `predict` may have flags of these names.
    flags.DEFINE_string("workdir", None, "Where the run is kept.")
    flags.DEFINE_integer(
        "top", 3, "How many labels to show of each recording.", lower_bound=1
    )
    app.run(main)
