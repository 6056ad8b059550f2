"""Draws docs/fast_path.png: one filter of Leaf, computed by its plan.

    python benchmarks/fast_path_figure.py

The panels show the shortened kernel, the energy with the samples that the plan
computes, and the pooling window with the weights of these samples.
"""

import argparse

import matplotlib
import numpy as np

from leaf_audio import fast, frontend, impulse_responses

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

GEOMETRY = fast.Geometry(kernel_size=401, window_size=401, stride=160)
FILTER = 17
BLUE, ORANGE, GREY = "#1f5fa8", "#d1651a", "#9a9a9a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="docs/fast_path.png")
    options = parser.parse_args()

    leaf = frontend.Leaf()
    leaf.build((None, None))
    group = next(g for g in leaf.plan.groups if FILTER in g.filters)
    sigma, width, centre = leaf.plan.parameters[FILTER]
    time = np.arange(401)
    envelope = impulse_responses.gabor_envelope(np.array([sigma]), 401)[:, 0]
    kernel = envelope * np.exp(1j * centre * (time - 200))
    taper = np.zeros(401)
    last = group.first_tap + len(group.taper)
    taper[group.first_tap : last] = group.taper

    audio = np.random.default_rng(3).normal(0, 1, 801)
    energy = np.abs(np.convolve(audio, kernel[::-1], mode="valid")) ** 2
    energy /= energy.max()
    samples = GEOMETRY.sample_positions(group.hop)
    window = impulse_responses.gaussian_lowpass(np.array([width]), 401)[:, 0]
    place = group.filters.index(FILTER)
    weights = group.weight_matrices[place] @ window

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False})
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    kernel_axis, energy_axis, window_axis = axes
    kernel_axis.plot(time - 200, kernel.real, color=GREY, label="kernel")
    kernel_axis.plot(
        time - 200, taper, color=ORANGE, label=f"taper, {len(group.taper)} taps"
    )
    kernel_axis.set_title(f"1. Kernel: σ = {sigma:.1f} samples")
    energy_axis.plot(time, energy, color=GREY, label="energy, full rate")
    energy_axis.plot(
        samples,
        energy[samples],
        "o",
        color=BLUE,
        markersize=4,
        label=f"computed, hop {group.hop}",
    )
    energy_axis.set_title("2. Energy of white noise")
    window_axis.plot(time, window, color=GREY, label="pooling window")
    window_axis.plot(
        samples,
        weights / group.hop,
        "o",
        color=BLUE,
        markersize=4,
        label="weights / hop",
    )
    window_axis.set_title(f"3. Pooling: {len(samples)} weights")
    for axis in axes:
        axis.spines["right"].set_visible(False)
        axis.set_xlabel("time (samples)")
        axis.set_ylim(top=1.45)
        axis.legend(frameon=False, loc="upper right")
    # Room for the legend above the taper.
    kernel_axis.set_ylim(top=1.9)
    figure.savefig(options.output, dpi=110)


if __name__ == "__main__":
    main()
