"""Figures of the filters and the outputs of frontends, drawn by matplotlib.

matplotlib comes with the extra `plot`: `pip install -e '.[plot]'`. Each
function returns figures of the type `matplotlib.figure.Figure`. It opens no
window; `savefig` saves a figure. Frequencies are in Hz. Panels that are to be
compared have one scale of colours.

Example:

```python
from leaf_audio import figures

figures.responses(leaf).savefig("responses.png")
```
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio import diagnostics
from leaf_audio.common.checks import check_text
from leaf_audio.frontend import MelFilterbanks
from leaf_audio.frontend.base import Frontend
from leaf_audio.postprocessing import (
    Log1p,
    LogTBN,
    PCENLayer,
    db_compression,
    log_compression,
)

Figure = Any

# Colours of Okabe and Ito, which colour-blind people can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"

# Weaker responses are drawn as this one, in dB.
_FLOOR_DB = -60.0
# The points of the logarithmic axis of frequencies that responses are drawn at.
_POINTS = 500
_TICKS_HZ = np.outer(10.0 ** np.arange(0, 6), [1, 2, 5]).ravel()

# In the name of a quantity: each frontend has brought it to a scale of its own.
_NORMALIZED = "normalized"
# What the outputs of a frontend are, by its compression.
_QUANTITIES: dict[Any, str] = {
    PCENLayer: "PCEN (no unit)",
    Log1p: "log(1 + a · energy)",
    LogTBN: f"log energy, {_NORMALIZED}",
    log_compression: "ln(energy)",
    db_compression: "energy (dB)",
    type(None): "energy",
}


def responses(frontend: Frontend) -> Figure:
    """Draws the power responses of the filters, now and as initialized.

    Each filter is a row of colours: its response in dB, with its maximum at
    0 dB. Of `MelFilterbanks`, which learns nothing, there is one panel.

    Args:
      frontend: Frontend with learnable filters, or `MelFilterbanks`. It must be
        built.

    Returns:
      The figure.

    Raises:
      ValueError: If the frontend is not built or has no such filters.
      ImportError: If matplotlib is not installed.
    """
    if isinstance(frontend, MelFilterbanks):
        panels = {"": frontend.filter_responses()}
    else:
        panels = {
            "as initialized": diagnostics.responses(frontend, True),
            "now": diagnostics.responses(frontend),
        }
    figure = _figure(5.4, 2.6 * len(panels) + 1)
    figure.suptitle(f"filters of {frontend.name}", parse_math=False)
    # One above the other: frequencies are compared.
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    # Half an octave below the lowest filter, at which it is weak already.
    lowest = min(
        max(hz[power.argmax(axis=0)].min() / 2**0.5, hz[1])
        for hz, power in panels.values()
    )
    for axes, (title, (hz, power)) in zip(
        all_axes, panels.items(), strict=True
    ):
        image = _draw_responses(axes, hz, power, lowest)
        axes.set(title=title, ylabel="filter")
    all_axes[-1].set_xlabel("frequency (Hz)")
    label = "power, of the maximum (dB)"
    figure.colorbar(image, ax=list(all_axes), label=label, extend="min")
    return figure


def _draw_responses(
    axes: Any, hz: np.ndarray, power: np.ndarray, lowest: float
) -> Any:
    """Draws a row of colours for each filter; returns the image.

    Args:
      axes: Where to draw.
      hz: Frequencies, of shape `(bins,)`.
      power: Responses, of shape `(bins, n_filters)`.
      lowest: The lowest frequency to draw, in Hz.
    """
    at = np.geomspace(lowest, hz[-1], _POINTS)
    top = np.maximum(power.max(axis=0), np.finfo(power.dtype).tiny)
    decibels = np.stack(
        [
            10 * np.log10(np.interp(at, hz, row / one) + 1e-12)
            for row, one in zip(power.T, top, strict=True)
        ]
    )
    image = axes.pcolormesh(
        at,
        np.arange(len(decibels)),
        np.maximum(decibels, _FLOOR_DB),
        vmin=_FLOOR_DB,
        vmax=0,
        shading="nearest",
        cmap="cividis",
        # As curves, an SVG would take megabytes.
        rasterized=True,
    )
    axes.set_xscale("log")
    label_in_full(axes.xaxis)
    return image


def bands(
    frontend: Frontend, before: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Draws bandwidths over centre frequencies, now and before training.

    A line connects the earlier and the present values of a filter.

    Args:
      frontend: Frontend with learnable filters. It must be built.
      before: Dictionary with the values before training, as
        `diagnostics.filters` returned them. None takes the values that the
        initializers give, where training began unless it began with the weights
        of another model. Defaults to None.

    Returns:
      The figure.

    Raises:
      ValueError: If the frontend is not built or has no learnable filters, or
        `before` is no such dictionary.
      ImportError: If matplotlib is not installed.
    """
    now = diagnostics.filters(frontend)
    then: Mapping[str, np.ndarray]
    if before is None:
        begin = "as initialized"
        then = diagnostics.filters(frontend, initial=True)
    else:
        begin = "at the beginning"
        then = _checked_filters(before, len(now["centre_hz"]))
    figure = _figure(6, 4)
    axes = figure.subplots()
    ends = [
        np.stack([one[name] for one in (then, now)])
        for name in ("centre_hz", "bandwidth_hz")
    ]
    axes.plot(*ends, color=_GREY, lw=0.8, zorder=1)
    for one, label, color, marker in (
        (then, begin, _ORANGE, "o"),
        (now, "now", _BLUE, "D"),
    ):
        axes.scatter(
            one["centre_hz"],
            one["bandwidth_hz"],
            s=18,
            color=color,
            marker=marker,
            label=label,
            zorder=2,
            # A marker at the edge of the axes is drawn whole.
            clip_on=False,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="centre frequency (Hz)",
        ylabel="bandwidth at half power (Hz)",
    )
    axes.set_title(f"filters of {frontend.name}", parse_math=False)
    for axis in (axes.xaxis, axes.yaxis):
        label_in_full(axis)
    axes.legend()
    return figure


def _checked_filters(before: Any, count: int) -> Mapping[str, np.ndarray]:
    names = ("centre_hz", "bandwidth_hz")
    is_mapping = isinstance(before, Mapping)
    if not is_mapping or any(
        np.shape(before.get(name)) != (count,) for name in names
    ):
        raise ValueError(
            f"`before` must be a dictionary with {count} values of "
            f"{' and '.join(names)} each, or None. Received: before={before!r}."
        )
    return before


def outputs(
    frontends: Mapping[str, Any],
    waveform: np.ndarray,
    title: str | None = None,
) -> Figure:
    """Draws the outputs of several frontends for one recording, side by side.

    Panels of one quantity, such as PCEN, have one scale of colours, unless a
    frontend normalizes its outputs to a scale of its own. The filters are in
    the order of their centre frequencies. If features have an axis of
    channels, the first channel is drawn.

    Args:
      frontends: Frontends by the title of their panel. All have the same
        sample rate.
      waveform: Array of shape `(time,)` at that sample rate.
      title: String. A title, such as the name of the recording. Defaults to
        None, which is no title.

    Returns:
      The figure.

    Raises:
      ValueError: If the sample rates differ, or if the waveform has another
        rank.
      ImportError: If matplotlib is not installed.
    """
    if (
        not isinstance(frontends, Mapping)
        or not frontends
        or not all(isinstance(one, Frontend) for one in frontends.values())
    ):
        raise ValueError(
            "`frontends` must be a dictionary of frontends. "
            f"Received: frontends={frontends!r}."
        )
    rates = {frontend.sample_rate for frontend in frontends.values()}
    if len(rates) != 1:
        raise ValueError(
            "`frontends` must be of one sample rate. "
            f"Received: frontends of {sorted(rates)} Hz."
        )
    if not _is_waveform(waveform):
        raise ValueError(
            "`waveform` must be numbers of shape (time,). "
            f"Received: waveform={waveform!r}."
        )
    waveform = np.asarray(waveform, "float32")
    features = {
        name: _features(frontend, waveform)
        for name, frontend in frontends.items()
    }
    quantities = {name: _quantity(one) for name, one in frontends.items()}
    figure = _figure(3.4 * len(frontends) + 0.6, 3.6)
    if title is not None:
        figure.suptitle(check_text("title", title), parse_math=False)
    panels = figure.subplots(1, len(frontends), squeeze=False)[0]
    for axes, (name, frontend) in zip(panels, frontends.items(), strict=True):
        compared = [
            features[other]
            for other in frontends
            if other == name
            or (
                quantities[other] == quantities[name]
                and _NORMALIZED not in quantities[name]
            )
        ]
        _draw_features(axes, frontend, features[name], waveform, compared)
        axes.set_title(name, parse_math=False)
    return figure


def outputs_of_clips(
    frontend: Frontend, waveforms: Sequence[np.ndarray]
) -> list[Figure]:
    """Draws the outputs of a frontend for several clips, on one scale.

    Args:
      frontend: Frontend.
      waveforms: List of arrays of shape `(time,)`, at its sample rate; at least
        one.

    Returns:
      A figure for each clip. All have the same scale of colours.

    Raises:
      ValueError: If the frontend is none, or a waveform has another rank.
      ImportError: If matplotlib is not installed.
    """
    if not isinstance(frontend, Frontend):
        raise ValueError(
            "`frontend` must be a frontend of leaf_audio. "
            f"Received: frontend={frontend!r}."
        )
    is_list = isinstance(waveforms, (list, tuple)) and waveforms
    if not is_list or not all(map(_is_waveform, waveforms)):
        raise ValueError(
            "`waveforms` must be a list of arrays of shape (time,). "
            f"Received: waveforms={waveforms!r}."
        )
    clips = [np.asarray(one, "float32") for one in waveforms]
    features = [_features(frontend, one) for one in clips]
    drawn = []
    for one, waveform in zip(features, clips, strict=True):
        figure = _figure(4.6, 3)
        _draw_features(figure.subplots(), frontend, one, waveform, features)
        drawn.append(figure)
    return drawn


def _is_waveform(value: Any) -> bool:
    is_wave = np.ndim(value) == 1 and np.size(value) > 0
    return is_wave and np.asarray(value).dtype.kind in "iuf"


def _features(frontend: Frontend, waveform: np.ndarray) -> np.ndarray:
    """Returns the outputs for a clip, of shape (frames, n_filters)."""
    features = ops.convert_to_numpy(frontend(waveform[None]))[0]
    return features if features.ndim == 2 else features[..., 0]


def _quantity(frontend: Frontend) -> str:
    """Returns what the outputs are, with their unit."""
    compression = frontend.compression
    if isinstance(compression, functools.partial):
        compression = compression.func
    for known in (type(compression), compression):
        if known in _QUANTITIES:
            return _QUANTITIES[known]
    name = getattr(compression, "name", None)
    return f"output of {name or getattr(compression, '__name__', 'the layer')}"


def _draw_features(
    axes: Any,
    frontend: Frontend,
    features: np.ndarray,
    waveform: np.ndarray,
    compared: Sequence[np.ndarray],
) -> None:
    """Draws features over time and frequency, with a bar of colours.

    Args:
      axes: Where to draw.
      frontend: What has computed them.
      features: Array of shape `(frames, n_filters)`.
      waveform: What they were computed of.
      compared: Features that decide on the scale, all of one quantity.
    """
    centres = diagnostics.centres_hz(frontend)
    order = slice(None) if centres is None else np.argsort(centres)
    # A few extreme values would leave the rest without contrast.
    low, high = np.percentile(
        np.concatenate([one.ravel() for one in compared]), [0.5, 99.5]
    )
    image = axes.imshow(
        features[:, order].T,
        origin="lower",
        aspect="auto",
        extent=(
            0,
            len(waveform) / frontend.sample_rate,
            -0.5,
            features.shape[1] - 0.5,
        ),
        vmin=low,
        vmax=high,
        interpolation="nearest",
        cmap="cividis",
    )
    axes.set_xlabel("time (s)")
    if centres is None:
        axes.set_ylabel("filter")
    else:
        _label_rows(axes, centres[order])
        axes.set_ylabel("centre frequency of the filter (Hz)")
    axes.figure.colorbar(
        image, ax=axes, label=_quantity(frontend), extend="both"
    )


def _label_rows(axes: Any, centres: np.ndarray) -> None:
    """Labels rows, whose centres rise, by round frequencies."""
    ticks = _TICKS_HZ[(_TICKS_HZ >= centres[0]) & (_TICKS_HZ <= centres[-1])]
    rows = np.interp(ticks, centres, np.arange(len(centres)))
    # Of two that would overlap, the first is kept.
    kept: list[int] = []
    for i, row in enumerate(rows):
        if not kept or row - rows[kept[-1]] >= len(centres) / 16:
            kept.append(i)
    axes.set_yticks(rows[kept], [f"{ticks[i]:g}" for i in kept])


def label_in_full(axis: Any) -> None:
    """Labels a logarithmic axis with plain numbers, such as 200.

    Args:
      axis: An axis of matplotlib.
    """
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure as MatplotlibFigure
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib: pip install -e '.[plot]'."
        ) from error
    return MatplotlibFigure(figsize=(width, height), layout="constrained")
