"""The command that writes a page to look at a run."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.startup import (
    escape_what_stdout_cannot_show,
    import_backend,
    run_main,
)
from leaf_audio.common import files

if TYPE_CHECKING:
    from leaf_audio import data, serving
    from leaf_audio.serving.report import Examples
    from leaf_audio.training import Workdir


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_run_flags()
    _define_flags()
    run_main(main)


def main(argv: list[str]) -> None:
    """Writes a page that shows a run: curves, labels, filters, examples.

    Args:
        argv: The command line without its flags: the name of the program.
    """
    given = flags.FLAGS
    trained_flags.check_workdir(given.workdir, "a finished run")
    trained_flags.check_configs(given.gin_config, given.gin_bindings)
    trained_flags.check_installed("matplotlib", "jinja2", extra="plot")
    file = _file(given.workdir, given.output)
    try:
        _check_replaceable(file)
    except ValueError as error:
        sys.exit(f"Error: {error}")
    trained_flags.check_folder_of(file)
    escape_what_stdout_cannot_show()
    import_backend()
    try:
        file, note = write(
            given.workdir, given.output, given.gin_config, given.gin_bindings
        )
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"Error: {trained_flags.describe(error)}")
    if note:
        print(f"without examples: {note}", file=sys.stderr)
    print(file)


def write(
    workdir: str,
    output: str | None = None,
    configs: Sequence[str] = (),
    bindings: Sequence[str] = (),
) -> tuple[pathlib.Path, str]:
    """Writes the page of a run.

    The clips that it shows are those of the run's data. The `config.gin` of the
    run is not executed; see `leaf_audio.app.recorded`. gin is left as it was.

    Args:
        workdir: str. The folder of a finished run.
        output: str or None. The HTML file. Its folder must exist. A page that
            was written here before is replaced. None is `report.html` in the
            workdir. Default: None.
        configs: list of str. Gin configs, which are executed and override the
            recorded settings. A run with classes or functions of your own
            needs one that imports them. Default: none.
        bindings: list of str. Lines in gin's syntax, which override the
            configs, such as `audio_folder.path = '/elsewhere'`. Default: none.

    Returns:
        The file, and a sentence that says why there are no examples, or "".

    Raises:
        ValueError: If there is no finished run, a setting is wrong, or a file
            that is no such page would be replaced.
        ImportError: If matplotlib or Jinja is not installed.
    """
    from leaf_audio import serving
    from leaf_audio.serving import report

    folder = serving.finished_run(workdir)
    file = _file(workdir, output)
    _check_replaceable(file)
    with trained_flags.trained(workdir, configs) as classifier:
        examples = _examples(folder, classifier, configs, bindings)
        page = report.make_page(folder, classifier, examples)
    files.write_text(file, page)
    return file, examples if isinstance(examples, str) else ""


def _file(workdir: str, output: str | None) -> pathlib.Path:
    if output is None:
        return pathlib.Path(workdir).expanduser() / "report.html"
    return pathlib.Path(output).expanduser()


def _check_replaceable(file: pathlib.Path) -> None:
    """Raises a ValueError unless the page may be written to a file."""
    is_html = file.suffix.lower() in (".html", ".htm") and not file.is_dir()
    if not is_html:
        raise ValueError(
            "`output` must be the name of an .html file. "
            f"Received: output={str(file)!r}."
        )
    if not file.parent.is_dir():
        raise ValueError(
            "`output` must be a file in a folder that exists. Received: "
            f"output={str(file)!r}.{files.remedy_of_folder(file)}"
        )
    if files.without_mark([file], files.PAGE_MARK):
        raise ValueError(
            "`output` must be a new file, or one that this command has "
            f"written. Received: output={str(file)!r}, which would be replaced."
        )


def _examples(
    folder: Workdir,
    classifier: serving.TrainedClassifier,
    configs: Sequence[str],
    bindings: Sequence[str],
) -> Examples | str:
    """Returns examples, or if the data is not there, a sentence on why."""
    from leaf_audio.data.clip_store import FINGERPRINT_PREFIX
    from leaf_audio.serving import report

    if not classifier.labels:
        return (
            "The run has learned without labels, so no clip is right or wrong."
        )
    try:
        audio_data = _load(folder, configs, bindings)
        examples = report.choose(classifier, audio_data)
    except (ValueError, OSError) as error:
        # A person who asks for other data is told what is wrong with it.
        if bindings:
            raise
        reason = trained_flags.describe(error)
        return f"The data of the run cannot be used. {reason}"
    recorded = folder.read_data().get("fingerprint", "")
    is_comparable = recorded.startswith(FINGERPRINT_PREFIX)
    if is_comparable and recorded != audio_data.fingerprint:
        remark = "These clips are not the ones that the run was evaluated on."
        return dataclasses.replace(examples, remark=remark)
    return examples


def _load(
    folder: Workdir, configs: Sequence[str], bindings: Sequence[str]
) -> data.AudioData:
    """Loads the data of a run, as `leaf-audio eval` does."""
    from leaf_audio.app import configuration, recorded
    from leaf_audio.app import train as gin_training

    with configuration.restored():
        configuration.parse([], bindings)
        _check_of_data(configuration.bound())
    with configuration.restored():
        configuration.parse(configs, bindings)
        asked = configuration.bound()
        settings = recorded.data_bindings(recorded.read(folder), asked)
        configuration.parse(configs, bindings, settings)
        return gin_training.load_of_run(for_training=False)


def _check_of_data(names: Iterable[str]) -> None:
    """Checks that bindings say nothing but where the recordings are."""
    from leaf_audio import data

    readers = [f"{reader}." for reader in data.READERS]
    known = ("data.load.", "train.data_dir", "train.dataset", *readers)
    others = [one for one in names if "." in one and not one.startswith(known)]
    if others:
        raise ValueError(
            "`gin_bindings` must be of the data, such as audio_folder.path, "
            "since a page shows the model as it is. "
            f"Received: {', '.join(others)}."
        )


def _define_flags() -> None:
    flags.DEFINE_string(
        "output",
        None,
        "The HTML file to write. By default report.html in the workdir.",
    )
    flags.DEFINE_multi_string(
        "gin_bindings",
        [],
        "A gin binding of the data, such as audio_folder.path = '/elsewhere'; "
        "may be repeated.",
    )


if __name__ == "__main__":
    run()
