"""Draws the time and the error of Leaf for several tolerances.

    python benchmarks/frontends.py --size=8x1s --output=speed.json
    python benchmarks/leaf_error.py --audio=... --output=error.json
    python benchmarks/leaf_figure.py --speed=speed.json --error=error.json \\
        --output=docs/leaf_speed.png

Needs matplotlib. Times are multiples of the time of mel in the same run. The
two points of EfficientLEAF were measured with the PyTorch code of its authors,
on the same kind of machine, with 8 clips of 1 s, and divided by the same mel.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MEL = "mel (tf.signal)"
# Forward time as a multiple of mel, and error at std 0.1.
EFFICIENT_LEAF = {"4 groups": (10.0, 0.044), "8G-opt": (2.8, 0.30)}
# Points without an error are drawn here, at the left.
NO_ERROR = 1e-4
# Okabe and Ito's colours, which colour-blind people can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speed", required=True)
    parser.add_argument("--error", required=True)
    parser.add_argument("--output", required=True, help="a .png or .svg file")
    options = parser.parse_args()
    speed = json.loads(pathlib.Path(options.speed).read_text("utf-8"))
    times = speed["results"]["8x1s"]
    mel_ms = times[MEL]["forward_ms"]
    points = {"exact": (times["Leaf, exact"]["forward_ms"] / mel_ms, NO_ERROR)}
    errors = json.loads(pathlib.Path(options.error).read_text("utf-8"))
    for title, by_input in errors.items():
        name = "Leaf" if title == "default" else f"Leaf, tolerance {title}"
        time = times[name]["forward_ms"] / mel_ms
        points[title] = (time, by_input["std 0.1"])

    figure, axes = plt.subplots(figsize=(6.4, 4))
    cheapest = min(points, key=points.get)
    for name, (time, error) in points.items():
        axes.scatter(error, time, color=BLUE, zorder=3)
        text = f"Leaf, {name}" if not name[0].isdigit() else f"tolerance {name}"
        axes.annotate(
            text,
            (error, time),
            # The text of its neighbour stands above the cheapest.
            xytext=(6, -14 if name == cheapest else 6),
            textcoords="offset points",
        )
    for name, (time, error) in EFFICIENT_LEAF.items():
        axes.scatter(error, time, color=ORANGE, marker="s", zorder=3)
        axes.annotate(
            f"EfficientLEAF,\n{name}",
            (error, time),
            xytext=(6, 6),
            textcoords="offset points",
        )
    axes.axhline(1, color=GREY, linestyle="--")
    axes.annotate(
        "mel", (NO_ERROR, 1), xytext=(0, 4), textcoords="offset points"
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(NO_ERROR / 1.5, 5),
        ylim=(0.7, 30),
        xlabel="error of the log energies on speech, rms (exact at the left)",
        ylabel="forward pass, multiples of mel",
        title=f"8 clips of 1 s, {speed['backend']}, {speed['machine']}",
    )
    axes.set_yticks(
        [1, 2, 3, 5, 10, 20], labels=["1", "2", "3", "5", "10", "20"]
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
