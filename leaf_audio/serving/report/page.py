"""Puts together the page that shows a run."""

from __future__ import annotations

import base64
import io
import json
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import soundfile

from leaf_audio import diagnostics, frontend, postprocessing
from leaf_audio.common import files
from leaf_audio.common.run_folders import table_names
from leaf_audio.diagnostics import figures
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.serving.finished import read_data_name
from leaf_audio.serving.report import curves
from leaf_audio.serving.report.examples import Example, Examples
from leaf_audio.serving.trained import TrainedClassifier
from leaf_audio.training import run_files, tables
from leaf_audio.training.workdir import Workdir
from leaf_audio.version import __version__

# A matrix of more labels could not be read on a screen.
_MAX_MATRIX = 60
_DPI = 130
_TEMPLATE = "page.html.jinja"


class Image(NamedTuple):
    """A figure as the template shows it.

    Attributes:
        source: str. The image, as a data URI.
        alt: str. What it shows.
        width: int, in pixels.
        height: int, in pixels.
    """

    source: str
    alt: str
    width: int
    height: int


def make_page(
    folder: Workdir,
    classifier: TrainedClassifier,
    examples: Examples | str,
) -> str:
    """Makes the page of a run.

    Args:
        folder: The folder of the finished run.
        classifier: Its classifier.
        examples: The examples to show, or a sentence that says why there are
            none.

    Returns:
        The text of an HTML file, which needs no other file and no network.

    Raises:
        ValueError: If a file of the run is damaged.
        ImportError: If matplotlib or Jinja is not installed.
    """
    template = _template()
    summary = folder.read_summary()
    recorded = summary["data"]
    metrics = summary.get("metrics", {})
    is_known_config = folder.config.exists()
    return template.render(
        mark=files.PAGE_MARK,
        title=f"Run {_text(folder.path.resolve().name)}",
        summary=_summary(summary, read_data_name(folder)),
        has_labels=bool(recorded["labels"]),
        metrics=_metrics_table(metrics, recorded.get("counts", {})),
        curves=_curves(folder, summary.get("kept_epoch")),
        splits=[
            _labels_of(folder, split, classifier)
            for split in ("test", "validation")
            if (folder.path / table_names(split)[0]).exists()
        ],
        filters=_filters(folder, classifier.frontend, summary),
        examples=_shown(classifier, examples),
        config_name=folder.config.name if is_known_config else "settings",
        config=(
            _text(folder.config.read_text("utf-8", "replace"))
            if is_known_config
            else json.dumps(summary.get("config", {}), indent=2)
        ),
        environment=_environment(summary),
        warnings=list(map(_text, recorded.get("warnings", []))),
        skipped=[
            f"{_text(file)}: {_text(why)}"
            for file, why in recorded.get("skipped", {}).items()
        ],
    )


def _template() -> Any:
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "A report needs matplotlib and Jinja: pip install -e '.[plot]'. "
            f"Received: {error}."
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        # Names of labels and files may be anything.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _text(value: Any) -> str:
    """Returns text that can be drawn and written, whatever a name holds."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _summary(summary: Mapping[str, Any], data_name: str) -> str:
    """Says in a line or two what was trained on what."""
    recorded = summary["data"]
    labels = len(recorded["labels"])
    each = "several labels" if recorded.get("is_multilabel") else "one label"
    told = f"{labels} labels, {each} for each clip" if labels else "no labels"
    rate = recorded.get("sample_rate") or "an unknown number of"
    parts = [f"Data: {_text(data_name)}, {told}, at {rate} Hz."]
    if "kept_epoch" in summary:
        epochs = summary.get("timings", {}).get("epochs", "?")
        parts.append(f"Model of epoch {summary['kept_epoch']} of {epochs}.")
    if "parameters" in summary:
        total, own = (
            summary["parameters"].get(name, 0) for name in ("total", "frontend")
        )
        parts.append(f"{total:,} parameters, {own:,} of them in the frontend.")
    return " ".join(parts)


def _metrics_table(
    metrics: Mapping[str, Mapping[str, float]], counts: Mapping[str, int]
) -> list[list[str]]:
    """Returns a row for each metric and a column for each split."""
    splits = list(metrics)
    rows = [["", *splits], ["clips", *(str(counts.get(s, "")) for s in splits)]]
    for name in dict.fromkeys(n for one in metrics.values() for n in one):
        if name.endswith(("_low", "_high")):
            continue
        words, _ = curves.title_of(name)
        values = [metrics[s].get(name) for s in splits]
        rows.append(
            [words, *("–" if v is None else f"{v:.4f}" for v in values)]
        )
        if any(f"{name}_low" in metrics[s] for s in splits):
            rows.append(
                [
                    "95 % interval",
                    *(_interval(metrics[s], name) for s in splits),
                ]
            )
    return rows


def _interval(values: Mapping[str, float], name: str) -> str:
    low, high = (values.get(f"{name}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return "–"
    return f"{low:.3f} to {high:.3f}"


def _curves(folder: Workdir, kept_epoch: int | None) -> list[Image]:
    """Returns a figure of each metric over the epochs."""
    if not folder.metrics.exists():
        return []
    table = run_files.read_metrics(folder.metrics, kept_epoch)
    return _images(curves.draw_curves(table, kept_epoch))


def _labels_of(
    folder: Workdir, split: str, classifier: TrainedClassifier
) -> dict[str, Any]:
    """Returns the tables and the matrix of a split."""
    classes_name, confusion_name, _ = table_names(split)
    num_labels = len(classifier.labels)
    heading, *rows = run_files.read_classes(
        folder.path / classes_name, num_labels
    )
    classes = [[curves.title_of(name)[0] for name in heading], *rows]
    if classifier.thresholds is not None:
        thresholds = [f"{one:.3f}" for one in classifier.thresholds]
        columns = zip(classes, ["threshold", *thresholds], strict=True)
        classes = [[*row, one] for row, one in columns]
    found: dict[str, Any] = {
        "name": split,
        "classes": classes,
        "matrix": None,
        "confused": [],
        "note": "",
    }
    confusion = folder.path / confusion_name
    if not confusion.exists():
        if classifier.thresholds is not None:
            found["note"] = (
                "A clip may have several labels, so there is no confusion "
                "matrix."
            )
        return found
    labels, counts = run_files.read_confusion(confusion, num_labels)
    pairs = curves.most_confused(counts, labels)
    if pairs:
        found["confused"] = [
            ["label", "predicted", "clips", "of the label's clips"],
            *([a, b, str(n), f"{share:.0%}"] for a, b, n, share in pairs),
        ]
    if len(labels) <= _MAX_MATRIX:
        figure = tables.draw(counts, labels, f"{split}: number of clips")
        found["matrix"] = _image(figure, f"confusion matrix of {split}", "png")
    else:
        found["note"] = (
            f"The confusion matrix of {len(labels)} labels is too large to be "
            f"shown. It is in {confusion.name}."
        )
    return found


def _filters(
    folder: Workdir, of_model: Any, summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns figures and the table of the filters."""
    found: dict[str, Any] = {"note": "", "images": [], "rows": []}
    if of_model is None:
        found["note"] = "The model has no frontend of this package."
        return found
    is_learned = of_model in diagnostics.learned_frontends(of_model)
    if not is_learned:
        found["note"] = f"The filters of {of_model.name} are fixed."
        found["rows"] = _pcen_rows(of_model)
        if found["rows"]:
            found["note"] += " Its PCEN is learned; the table has its values."
        if not isinstance(of_model, frontend.MelFilterbanks):
            return found
    responses = figures.responses(of_model)
    found["images"] = [_image(responses, "responses of the filters", "png")]
    if not is_learned:
        return found
    alt = "bandwidths over centre frequencies"
    if not folder.filters.exists():
        found["images"] += _images({alt: figures.bands(of_model)})
        return found
    kept_epoch = summary.get("kept_epoch")
    table = run_files.read_filters(folder.filters, kept_epoch)
    bands = figures.bands(of_model, run_files.first_filters(table))
    found["images"] += _images({alt: bands, **curves.draw_paths(table)})
    found["rows"] = _filter_rows(table, kept_epoch)
    return found


def _filter_rows(
    table: Mapping[str, np.ndarray], kept_epoch: int | None
) -> list[list[str]]:
    """Returns a row for each filter: its values in epoch 0, and now."""
    last = table["epoch"].max() if kept_epoch is None else kept_epoch
    then, now = table["epoch"] == 0, table["epoch"] == last
    names = [name for name in table if name not in ("epoch", "filter")]
    heading = ["filter"]
    for name in names:
        words, unit = curves.title_of(name)
        unit = f" ({unit})" if unit else ""
        heading += [f"{words}, before{unit}", f"after{unit}"]
    rows = [heading]
    for i, number in enumerate(table["filter"][then]):
        row = [f"{number:.0f}"]
        for name in names:
            row += [f"{table[name][rows_of][i]:.4g}" for rows_of in (then, now)]
        rows.append(row)
    return rows


def _pcen_rows(of_model: Any) -> list[list[str]]:
    """Returns a row for each filter: the values of a PCEN, if it is learned.

    Of a frontend with learned filters, `filters.csv` has them.
    """
    learned = [
        layer
        for layer in find_layers(of_model, postprocessing.PCENLayer)
        if layer.trainable_weights
    ]
    if not learned:
        return []
    then = diagnostics.pcen(of_model, initial=True)
    now = diagnostics.pcen(of_model)
    centres = diagnostics.centres_hz(of_model)
    rows = [["filter"]]
    rows[0] += [] if centres is None else ["centre (Hz)"]
    for name in now:
        words, _ = curves.title_of(name)
        rows[0] += [f"{words}, before", "after"]
    for i in range(of_model.n_filters):
        row = [str(i)]
        row += [] if centres is None else [f"{centres[i]:.0f}"]
        for name in now:
            row += [f"{values[name][i]:.4g}" for values in (then, now)]
        rows.append(row)
    return rows


def _shown(
    classifier: TrainedClassifier, examples: Examples | str
) -> dict[str, Any]:
    """Returns the examples as the template shows them."""
    if isinstance(examples, str):
        return {
            "note": _text(examples),
            "about": "",
            "right": [],
            "wrong": [],
        }
    judged = f"{examples.num_judged} clips of the split {examples.split}"
    if examples.num_judged < examples.num_clips:
        judged += f", drawn of {examples.num_clips},"
    about = f"{_text(examples.remark)} " if examples.remark else ""
    about += (
        f"{examples.num_right} of {judged} are right. Shown are those of the "
        "wrong ones with the largest error, and those of the right ones with "
        "the smallest. Each is played as the model gets it. The pictures show "
        "the output of the frontend, all on one scale of colours."
    )
    all_examples = [*examples.wrong, *examples.right]
    drawn: list[Image | None] = [None] * len(all_examples)
    is_audio = all(one.clip.ndim == 1 for one in all_examples)
    if all_examples and is_audio and classifier.frontend is not None:
        drawn = [
            _image(
                figure, f"output of the frontend for {_text(one.name)}", "png"
            )
            for figure, one in zip(
                figures.outputs_of_clips(
                    classifier.frontend, [one.clip for one in all_examples]
                ),
                all_examples,
                strict=True,
            )
        ]
    shown = [
        {
            "name": _text(one.name),
            "image": image,
            "audio": _audio(one, classifier.sample_rate) if is_audio else "",
            "shares": [
                share._replace(label=_text(share.label)) for share in one.shares
            ],
        }
        for one, image in zip(all_examples, drawn, strict=True)
    ]
    count = len(examples.wrong)
    return {
        "note": "",
        "about": about,
        "wrong": shown[:count],
        "right": shown[count:],
    }


def _audio(example: Example, sample_rate: int) -> str:
    """Returns a clip as FLAC, which all browsers play, as a data URI."""
    peak = np.abs(example.clip).max()
    # The loudness of a prepared clip is not one for ears.
    samples = example.clip * (0.5 / peak if peak else 1)
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC")
    return _data_uri("audio/flac", file.getvalue())


def _environment(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "value"]]
    rows += [[k, _text(v)] for k, v in summary.get("versions", {}).items()]
    timings = summary.get("timings", {})
    if "seconds" in timings:
        rows.append(["training", f"{timings['seconds'] / 60:.1f} min"])
    if "seed" in summary:
        rows.append(["seed", _text(summary["seed"])])
    fingerprint = summary["data"].get("fingerprint")
    if fingerprint:
        rows.append(["fingerprint of the data", _text(fingerprint)])
    rows.append(["leaf_audio, of this page", __version__])
    return rows


def _images(drawn: Mapping[str, Any]) -> list[Image]:
    return [_image(figure, alt, "svg") for alt, figure in drawn.items()]


def _image(figure: Any, alt: str, kind: str) -> Image:
    """Returns a figure as a data URI.

    Args:
        figure: A figure of matplotlib.
        alt: What it shows.
        kind: "svg" for lines, "png" for colours of many pixels.
    """
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The font may lack a letter of a label.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(file, format=kind, dpi=_DPI)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Image(_data_uri(mime, file.getvalue()), alt, width, height)


def _data_uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
