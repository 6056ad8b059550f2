"""Draws why most filters need few samples, and why some need spectra.

    python benchmarks/plan_figure.py --output=docs/leaf_plan.png

Left: the output of a Gabor filter for white noise, its energy, and samples of
the energy one standard deviation of the filter apart. Right: a filter of a Leaf
with 80 filters that is longer than the window. Needs matplotlib.
"""

import argparse
import pathlib

import matplotlib
import numpy as np

from leaf_audio import diagnostics, frontend

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SAMPLE_RATE = 16000
CENTRE_HZ = 1000
SECONDS = 0.06
# Okabe and Ito's colours, which colour-blind people can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#AAAAAA"


def built_leaf(n_filters: int) -> frontend.Leaf:
    leaf = frontend.Leaf(n_filters=n_filters, sample_rate=SAMPLE_RATE)
    leaf.build((None, SAMPLE_RATE))
    return leaf


def draw_samples(axes: plt.Axes) -> None:
    """Draws the energy of a filter's output, and the samples that suffice."""
    leaf = built_leaf(40)
    centres = diagnostics.filters(leaf)["centre_hz"]
    kernel = diagnostics.impulse_responses(leaf)[
        :, np.abs(centres - CENTRE_HZ).argmin()
    ]
    hop = round(standard_deviation(kernel))
    noise = np.random.default_rng(4).normal(size=SAMPLE_RATE)
    output = np.convolve(noise, kernel, mode="same")
    output = output[: round(SECONDS * SAMPLE_RATE)]
    output /= np.abs(output).max()
    ms = 1000 * np.arange(len(output)) / SAMPLE_RATE
    energy = np.abs(output) ** 2
    axes.plot(ms, output.real, color=GREY, linewidth=0.8, label="output")
    axes.plot(ms, energy, color=BLUE, label="energy")
    axes.plot(
        *(ms[::hop], energy[::hop], "o"),
        color=ORANGE,
        markersize=5,
        label=f"every {hop}th sample",
    )
    axes.set(xlabel="time (ms)", title=f"a filter at {CENTRE_HZ / 1000:g} kHz")
    axes.legend(loc="lower right", ncols=3, fontsize="small")
    axes.set_ylim(-1.5, 1.1)


def standard_deviation(kernel: np.ndarray) -> float:
    """Returns the deviation, in samples, of a Gaussian envelope."""
    envelope = np.abs(kernel) / np.abs(kernel).sum()
    taps = np.arange(len(kernel)) - len(kernel) // 2
    return float(np.sqrt(np.sum(envelope * taps**2)))


def draw_cut_off(axes: plt.Axes) -> None:
    """Draws the filter whose envelope is highest where the window ends."""
    kernels = diagnostics.impulse_responses(built_leaf(80))
    kernels = kernels / np.abs(kernels).max(axis=0)
    kernel = kernels[:, np.abs(kernels[0]).argmax()]
    ms = 1000 * (np.arange(len(kernel)) - len(kernel) // 2) / SAMPLE_RATE
    axes.plot(ms, kernel.real, color=GREY, linewidth=0.8, label="filter")
    axes.plot(ms, np.abs(kernel), color=BLUE, label="its envelope")
    for end in ms[[0, -1]]:
        axes.axvline(end, color=ORANGE, linestyle="--")
    axes.annotate(
        "the window\nends here",
        (ms[-1], -1.0),
        xytext=(-6, 0),
        textcoords="offset points",
        horizontalalignment="right",
        color=ORANGE,
    )
    axes.set(
        xlabel="time (ms)",
        title="a narrow filter among 80",
        xlim=(1.15 * ms[0], 1.15 * ms[-1]),
    )
    axes.set_ylim(-1.5, 1.1)
    axes.legend(loc="lower right", ncols=2, fontsize="small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, help="a .png or .svg file")
    options = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    draw_samples(left)
    draw_cut_off(right)
    figure.tight_layout()
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
