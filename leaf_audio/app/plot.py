"""Draws the filters and the outputs of a trained run's frontend.

python -m example.plot --workdir=runs/leaf --output=figures \
    --recording=some.wav
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.startup import import_backend, run_main
from leaf_audio.common.files import replacing, without_mark

if TYPE_CHECKING:
    import numpy as np

    from leaf_audio.training import Workdir

_FORMATS = ("png", "svg")
# Written into each figure. Only a file that holds it is replaced.
_MARK = "leaf-audio plot"


def draw(
    workdir: str,
    output: str | None = None,
    recording: str | None = None,
    configs: Sequence[str] = (),
) -> list[pathlib.Path]:
    """Draws the figures of a run, as PNG and as SVG.

    Args:
        workdir: str. The folder of a run that has completed an epoch.
        output: str or None. The folder for the figures. It is created if it
            does not exist. None is `figures` in the workdir. Default: None.
        recording: str or None. An audio file. If it is given, the outputs of
            the frontends for it are drawn too. They get what the evaluation of
            the run makes of it; of one that is too long, its centre. Default:
            None.
        configs: list of str. Gin configs, which are executed. A run that
            prepares clips by functions of your own needs one that imports
            them, and must be finished. Default: none.

    Returns:
        The files that were written.

    Raises:
        ValueError: There is no model or nothing of it to draw, the recording
            cannot be used, or a file that is no such figure would be replaced.
        ImportError: matplotlib is not installed.
    """
    # `models` has the classes of the saved model.
    from leaf_audio import data, diagnostics, frontend, models  # noqa: F401
    from leaf_audio.diagnostics import figures
    from leaf_audio.training import run_files
    from leaf_audio.training.workdir import Workdir

    folder = Workdir(workdir)
    model = folder.load_best()
    trained = getattr(model, "frontend", None)
    learned = bool(trained) and trained in diagnostics.learned_frontends(model)
    has_filters = learned or isinstance(trained, frontend.MelFilterbanks)
    if not has_filters and (recording is None or trained is None):
        raise ValueError(
            "`workdir` must hold a model whose frontend has filters, or a "
            "`recording` must be given to draw its features. "
            f"Received: workdir={workdir!r} with {trained}, "
            f"recording={recording!r}."
        )
    drawn = {}
    if has_filters:
        drawn["responses"] = figures.responses(trained)
    if learned:
        before = None
        if folder.filters.exists():
            table = run_files.read_filters(folder.filters)
            before = run_files.first_filters(table)
        drawn["bands"] = figures.bands(trained, before)
    if recording is not None:
        rate = int(trained.sample_rate)
        samples = data.read_recording(recording, rate)
        clip = _prepared(folder, samples, rate, configs)
        title = pathlib.Path(recording).name
        if len(clip) < len(samples):
            title += ", a part"
        drawn["outputs"] = figures.outputs(
            _compared(trained, learned), clip, title
        )
    if output is None:
        return save(drawn, folder.path / "figures")
    return save(drawn, pathlib.Path(output).expanduser())


def _prepared(
    folder: Workdir,
    samples: np.ndarray,
    sample_rate: int,
    configs: Sequence[str],
) -> np.ndarray:
    """Returns what the evaluation of a run makes of a recording."""
    from leaf_audio import data
    from leaf_audio.serving import finished

    if configs or not folder.settings.exists():
        with trained_flags.trained(str(folder.path), configs) as classifier:
            return classifier.prepare(samples, sample_rate)
    transform_fns, _ = finished.read_preparation(folder)
    return data.transform(samples, transform_fns)


def _compared(trained: Any, learned: bool) -> dict[str, Any]:
    """Returns the frontends whose outputs are drawn, by their titles."""
    from leaf_audio import frontend

    if not learned:
        return {trained.name: trained}
    mel = frontend.MelFilterbanks(
        n_filters=trained.n_filters,
        sample_rate=trained.sample_rate,
        window_len=trained.window_len,
        window_stride=trained.window_stride,
    )
    untrained = type(trained).from_config(trained.get_config())
    return {
        "mel, log": mel,
        f"{trained.name} untrained": untrained,
        f"{trained.name} trained": trained,
    }


def save(drawn: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Saves figures as PNG and as SVG.

    Args:
        drawn: Figures of matplotlib, by name.
        folder: The folder to save them to. It is created if it does not exist.

    Returns:
        The files that were written.

    Raises:
        ValueError: A file that was not written here would be replaced.
    """
    figure_of = {
        folder / f"{name}.{suffix}": figure
        for name, figure in drawn.items()
        for suffix in _FORMATS
    }
    _check_replaceable(figure_of)
    folder.mkdir(parents=True, exist_ok=True)
    for file, figure in figure_of.items():
        key = "Software" if file.suffix == ".png" else "Creator"
        with replacing(file) as partial:
            figure.savefig(partial, dpi=150, metadata={key: _MARK})
    return list(figure_of)


def _check_replaceable(files: Iterable[pathlib.Path]) -> None:
    """Raises a ValueError if a file exists that `save` has not written."""
    found = without_mark(files, _MARK)
    if found:
        raise ValueError(
            "`output` must be a folder without other files of these names. "
            f"Received: {', '.join(map(str, found))}, which would be replaced."
        )


def main(argv: list[str]) -> None:
    """Draws what the flags ask for."""
    given = flags.FLAGS
    trained_flags.check_workdir(
        given.workdir, trained_flags.AN_EPOCH, ["best.keras"]
    )
    trained_flags.check_configs(given.gin_config)
    trained_flags.check_installed("matplotlib", extra="plot")
    if given.recording is not None and not os.path.isfile(given.recording):
        sys.exit(
            "Error: `recording` must be an audio file. "
            f"Received: recording={given.recording}, which is none."
        )
    if given.output is not None and os.path.isfile(given.output):
        sys.exit(
            "Error: `output` must be a folder. "
            f"Received: output={given.output}, a file."
        )
    trained_flags.check_folder_of(
        pathlib.Path(given.output or given.workdir) / "x"
    )
    import_backend()
    try:
        files = draw(
            given.workdir, given.output, given.recording, given.gin_config
        )
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"Error: {trained_flags.describe(error)}")
    for file in files:
        print(file)


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_run_flags()
    _define_flags()
    run_main(main)


def _define_flags() -> None:
    flags.DEFINE_string(
        "output",
        None,
        "The folder for the figures. By default `figures` in the workdir.",
    )
    flags.DEFINE_string(
        "recording",
        None,
        "A recording (wav, flac, ogg or mp3). If it is given, the outputs of "
        "the frontends for it are drawn too, as the evaluation of the run "
        "prepares it; of one that is too long, its centre.",
    )


if __name__ == "__main__":
    run()
