"""Draws the time of every frontend as a multiple of mel.

    python benchmarks/frontends.py --size=8x10s --output=speed.json
    python benchmarks/speed_figure.py --speed=speed.json --output=docs/speed.png

Needs matplotlib.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MEL = "mel (tf.signal)"
# The names of docs/speed.md for those of benchmarks/frontends.py.
TITLES = {
    "mel": "MelFilterbanks",
    "Leaf": "Leaf",
    "Leaf, exact": "Leaf(tolerance=0)",
    "Leaf, 80 filters": "Leaf(n_filters=80)",
    "EfficientLeaf, 8G-opt": "EfficientLeaf, 8G-opt",
    "SincNet": "SincNet",
    "SincNet+": "SincNetPlus",
    "TD-filterbanks": "TimeDomainFilterbanks",
}
# Okabe and Ito's colours, which colour-blind people can tell apart.
BLUE, ORANGE = "#0072B2", "#D55E00"


def two_digits(value: float) -> str:
    """Formats a multiple as the tables of docs/speed.md do."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speed", required=True, help="of frontends.py")
    parser.add_argument("--size", default="8x10s")
    parser.add_argument("--output", required=True, help="a .png or .svg file")
    options = parser.parse_args()
    speed = json.loads(pathlib.Path(options.speed).read_text("utf-8"))
    times = speed["results"][options.size]
    mel_ms = times[MEL]["forward_ms"]
    shown = [name for name in TITLES if name in times]

    figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.4 * len(shown)))
    for key, label, color, shift in (
        ("forward_ms", "forward", BLUE, -0.2),
        ("both_ms", "forward and backward", ORANGE, 0.2),
    ):
        measured = {n: times[n][key] for n in shown if times[n][key]}
        bars = axes.barh(
            [shown.index(name) + shift for name in measured],
            [ms / mel_ms for ms in measured.values()],
            height=0.4,
            color=color,
            label=label,
        )
        axes.bar_label(bars, fmt=two_digits, padding=3, fontsize="small")
    axes.axvline(1, color="#555555", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(shown)), [TITLES[name] for name in shown])
    axes.invert_yaxis()
    axes.set(
        xscale="log",
        xlim=(0.3, 120),
        xlabel=f"time as a multiple of mel, {options.size}",
        title=f"{speed['backend']}, {speed['machine']}, {speed['date']}",
    )
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, labels=[f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="upper right")
    figure.tight_layout()
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
