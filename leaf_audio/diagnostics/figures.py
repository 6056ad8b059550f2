"""Figures of the filters and the outputs of frontends, drawn by matplotlib.

matplotlib comes with the extra `plot`: `pip install -e '.[plot]'`. Each
function returns a `matplotlib.figure.Figure`. It opens no window; `savefig`
saves the figure.

Example:

```python
from leaf_audio import figures

figures.responses(leaf).savefig("responses.png")
```
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from leaf_audio import diagnostics
from leaf_audio.frontend.base import Frontend

Figure = Any

# Colours of Okabe and Ito, which colour-blind people can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"


def responses(frontend: Frontend) -> Figure:
    """Draws the power responses of the filters, now and before training.

    Each response is divided by its maximum.

    Args:
      frontend: Frontend with learnable filters. It must be built.

    Returns:
      The figure.

    Raises:
      ValueError: If the frontend is not built or has no learnable filters.
      ImportError: If matplotlib is not installed.
    """
    figure = _figure(8, 3.2)
    axes = figure.subplots()
    for label, initial, color, width in (
        ("at the beginning", True, _GREY, 1.2),
        ("now", False, _BLUE, 0.8),
    ):
        hz, power = diagnostics.responses(frontend, initial)
        lines = axes.plot(hz / 1000, power / power.max(axis=0), color, lw=width)
        lines[0].set_label(label)
    axes.set(
        xlabel="frequency (kHz)",
        ylabel="power, of the peak's",
        xlim=(0, frontend.sample_rate / 2000),
        ylim=(0, 1.05),
        title=f"filters of {frontend.name}",
    )
    # The curves fill the axes, so the legend stands beside them.
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def bands(frontend: Frontend) -> Figure:
    """Draws bandwidths over centre frequencies, now and before training.

    A line connects the initial and the present values of a filter.

    Args:
      frontend: Frontend with learnable filters. It must be built.

    Returns:
      The figure.

    Raises:
      ValueError: If the frontend is not built or has no learnable filters.
      ImportError: If matplotlib is not installed.
    """
    figure = _figure(6, 4)
    axes = figure.subplots()
    then, now = (
        diagnostics.filters(frontend, initial=initial)
        for initial in (True, False)
    )
    ends = [
        np.stack([one[name] for one in (then, now)])
        for name in ("centre_hz", "bandwidth_hz")
    ]
    axes.plot(*ends, color=_GREY, lw=0.8, zorder=1)
    for one, label, color, marker in (
        (then, "at the beginning", _ORANGE, "o"),
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
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="centre frequency (Hz)",
        ylabel="bandwidth at half power (Hz)",
        title=f"filters of {frontend.name}",
    )
    for axis in (axes.xaxis, axes.yaxis):
        _label_in_full(axis)
    axes.legend()
    return figure


def outputs(frontends: Mapping[str, Any], waveform: np.ndarray) -> Figure:
    """Draws the outputs of several frontends for one recording, side by side.

    If features have an axis of channels, the first channel is drawn.

    Args:
      frontends: Frontends by the title of their panel. All have the same
        sample rate.
      waveform: Array of shape `(time,)` at that sample rate.

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
    is_wave = np.ndim(waveform) == 1 and np.size(waveform)
    if not is_wave or np.asarray(waveform).dtype.kind not in "iuf":
        raise ValueError(
            "`waveform` must be numbers of shape (time,). "
            f"Received: waveform={waveform!r}."
        )
    (rate,) = rates
    figure = _figure(3.2 * len(frontends) + 0.6, 3.4)
    panels = figure.subplots(1, len(frontends), squeeze=False)[0]
    waveform = np.asarray(waveform, "float32")
    for axes, (title, frontend) in zip(panels, frontends.items(), strict=True):
        features = ops.convert_to_numpy(frontend(waveform[None]))[0]
        if features.ndim > 2:
            features = features[..., 0]
        image = axes.imshow(
            features.T,
            origin="lower",
            aspect="auto",
            extent=(0, len(waveform) / rate, -0.5, features.shape[1] - 0.5),
            cmap="cividis",
        )
        axes.set(title=title, xlabel="time (s)")
        figure.colorbar(image, ax=axes)
    panels[0].set_ylabel("filter")
    figure.axes[-1].set_ylabel("output")
    return figure


def _label_in_full(axis: Any) -> None:
    """Labels a logarithmic axis with plain numbers, such as 200."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure as MatplotlibFigure
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib: pip install -e '.[plot]'."
        ) from error
    return MatplotlibFigure(figsize=(width, height), layout="constrained")
