"""Draws the filters and the outputs of a trained run's frontend.

python -m example.plot --workdir=runs/leaf --output=figures \
    --recording=some.wav
"""

import pathlib
import sys

from absl import app, flags

from leaf_audio.app.startup import without_startup_messages

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the figures; `figures` in the workdir if none."
)
_RECORDING = flags.DEFINE_string(
    "recording",
    None,
    "A recording (wav, flac, ogg or mp3) to draw the frontends' outputs for; "
    "without one they are not drawn.",
)
_FORMATS = ("png", "svg")


def draw(
    workdir: str, output: str | None = None, recording: str | None = None
) -> list[pathlib.Path]:
    """Draws all that can be drawn, as PNG and SVG, and returns the files.

    Args:
        workdir: of a run with a model.
        output: folder for the figures, made where it does not exist; None is
            `figures` in the workdir.
        recording: a file to draw the outputs for; None to leave them out.

    Raises:
        ValueError: there is no model or no learned frontend, or the recording
            cannot be used.
        ImportError: matplotlib is not installed.
    """
    import keras

    # `models` has the classes of the saved model.
    from leaf_audio import diagnostics, frontend, models  # noqa: F401
    from leaf_audio.data import read_recording
    from leaf_audio.diagnostics import figures
    from leaf_audio.training.workdir import Workdir

    folder = Workdir(workdir)
    if not folder.best.exists():
        raise ValueError(
            "`workdir` must hold a run with one completed epoch at least. "
            f"Received: workdir={workdir!r} without {folder.best.name}."
        )
    model = keras.models.load_model(folder.best)
    found = diagnostics.learned_frontends(model)
    if len(found) != 1:
        raise ValueError(
            "`workdir` must hold a model with a frontend that learns filters. "
            f"Received: workdir={workdir!r} with {model.frontend}."
        )
    (trained,) = found
    drawn = {
        "responses": figures.responses(trained),
        "bands": figures.bands(trained),
    }
    if recording is not None:
        waveform = read_recording(recording, int(trained.sample_rate))
        untrained = type(trained).from_config(trained.get_config())
        mel = frontend.MelFilterbanks(
            n_filters=trained.n_filters,
            sample_rate=trained.sample_rate,
            window_len=trained.window_len,
            window_stride=trained.window_stride,
        )
        drawn["outputs"] = figures.outputs(
            {
                "mel, log": mel,
                f"{trained.name} at the beginning": untrained,
                f"{trained.name} now": trained,
            },
            waveform,
        )
    target = folder.path / "figures" if output is None else pathlib.Path(output)
    target.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in drawn.items():
        for suffix in _FORMATS:
            files.append(target / f"{name}.{suffix}")
            figure.savefig(files[-1], dpi=150)
    return files


def main(argv: list[str]) -> None:
    """Draws what the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
    if _WORKDIR.value is None:
        sys.exit("Error: `workdir` must be given, such as --workdir=runs/leaf.")
    with without_startup_messages():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    try:
        files = draw(_WORKDIR.value, _OUTPUT.value, _RECORDING.value)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"Error: {error}")
    for file in files:
        print(file)


def run() -> None:
    """Runs the command."""
    app.run(main)
