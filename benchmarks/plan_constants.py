"""Measures the constants that plans of Leaf depend on.

    python benchmarks/plan_constants.py --constant=group_cost
    python benchmarks/plan_constants.py --constant=taper_share --values=0.1,0.2

The constants are the fields of `leaf_audio.fast.PlanConstants`. Costs of a plan
(`group_cost`, `spectra_cost`, `products_cost`) are fitted to the times of plans
made for the purpose. Any other constant is given the values of a grid in turn:
for each value Leaf plans anew, and the table shows the predicted and the
measured error, the predicted cost and the measured time. A good value keeps the
measured error at or under the predicted one at the least time.

Errors are RMS differences of the logarithms of the energies between the planned
and the exact Leaf, with energies floored at 1e-5: on white noise, and with
--audio on recordings. Times are those of a forward pass of 8 x 1 s.
"""

import argparse
import ast
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np
import rich.console
import rich.table
from keras import ops

from leaf_audio import convolution, fast, frontend, pooling
from leaf_audio.fast import decimation, error_model, plan, search

BATCH = 8
FLOOR = 1e-5
COSTS = ("group_cost", "spectra_cost", "products_cost")
# Without --values, a constant is multiplied by each of these.
FACTORS = (0.5, 1.0, 2.0)


@contextlib.contextmanager
def replaced(name: str, value: Any) -> Iterator[None]:
    """Gives a constant another value in all modules that use it."""
    constants = dataclasses.replace(fast.CONSTANTS, **{name: value})
    margins = np.array([constants.sigma_margin, constants.width_margin])

    def forget() -> None:
        for function in vars(error_model).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    forget()
    with contextlib.ExitStack() as stack:
        for module in (decimation, error_model, plan, search):
            patch = mock.patch.object(module, "CONSTANTS", constants)
            stack.enter_context(patch)
        stack.enter_context(mock.patch.object(plan, "_MARGINS", margins))
        yield
    forget()


def seconds(function: Callable, x: np.ndarray, repeats: int) -> float:
    """Returns the lower decile of the time of a compiled call."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(function)
    elif keras.backend.backend() == "jax":
        import jax

        function = jax.jit(function)
    x = ops.convert_to_tensor(x)
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        ops.convert_to_numpy(function(x))
        times.append(time.perf_counter() - start)
    return float(np.quantile(times[2:], 0.1))


def noise(samples: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(0, 0.1, (BATCH, samples)).astype("float32")


class Bench:
    """Times plans for filters whose number and deviations are given."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        rate = options.sample_rate
        leaf = frontend.Leaf(sample_rate=rate)
        window, self.rate = rate * 25 // 1000 + 1, rate
        self.geometry = fast.Geometry(window, window, rate // 100)
        self.parameters = np.array(planned_for(leaf))

    def time(self, groups: list, filters: int) -> float:
        """Returns the time of a plan of these groups, in seconds."""
        geometry = self.geometry
        convolve = convolution.GaborConv1D(2 * filters, geometry.kernel_size)
        pool = pooling.GaussianLowpass(geometry.window_size, geometry.stride)
        convolve.build((None, None, 1))
        pool.build((None, None, filters))
        own = fast.Plan(
            np.ones((filters, 3)), np.full(filters, np.inf), tuple(groups)
        )

        def energies(audio: Any) -> Any:
            return fast.planned_energies(
                audio[..., None],
                convolve.impulse_responses(),
                pool.widths(),
                plan=own,
                geometry=geometry,
                padding="same",
            )

        return seconds(energies, noise(self.rate), self._options.repeats)

    def sparse_groups(self, option: Any, sizes: list[int]) -> list:
        """Makes groups of these sizes, all with the same option."""
        starts = np.cumsum([0, *sizes])
        sigma = float(np.median(self.parameters[:, 0]))
        parameters = np.tile([sigma, 0.4, 1.0], (sum(sizes), 1))
        return [
            option.group(
                np.arange(begin, begin + size),
                parameters[begin : begin + size],
                self.geometry,
            )
            for begin, size in zip(starts, sizes, strict=False)
        ]


def planned_for(leaf: keras.Model) -> np.ndarray:
    leaf.build((None, None))
    return leaf.planned_for


def least_squares(
    terms: list[list[float]], times: list[float]
) -> tuple[np.ndarray, float]:
    """Fits times by terms; returns coefficients and the relative residual."""
    terms, times = np.array(terms), np.array(times)
    # Relative errors, so that long times do not outweigh short ones.
    found, *_ = np.linalg.lstsq(
        terms / times[:, None], np.ones(len(times)), rcond=None
    )
    residual = terms @ found / times - 1
    return found, float(np.sqrt(np.mean(residual**2)))


def fit_group_cost(bench: Bench) -> tuple[dict[str, float], float, float]:
    """Fits `group_cost` to the times of one plan cut into 1 to 8 groups.

    Returns:
      The constant, the time of one multiply-add per sample in seconds, and the
      relative residual of the fit.
    """
    terms, times = [], []
    for hop, taps in ((8, 65), (20, 257)):
        option = search.SparseOption(hop, taps)
        for filters in (16, 48):
            for count in (1, 3, 8):
                sizes = [
                    len(some) for some in np.array_split(range(filters), count)
                ]
                groups = bench.sparse_groups(option, sizes)
                cost = filters * option.cost(bench.geometry)
                times.append(bench.time(groups, filters))
                terms.append([cost, count, 1.0])
    (per_cost, per_group, _), residual = least_squares(terms, times)
    return {"group_cost": per_group / per_cost}, per_cost, residual


def fit_spectral_costs(bench: Bench) -> tuple[dict[str, float], float, float]:
    """Fits `spectra_cost` and `products_cost` to times of spectral plans.

    Returns:
      The constants, the time of one multiply-add per sample in seconds, and the
      relative residual of the fit.
    """
    _, per_cost, _ = fit_group_cost(bench)
    geometry = bench.geometry
    bins = (-geometry.fft_length, geometry.fft_length)
    terms, times = [], []
    for offset in fast.CONSTANTS.offsets[::2]:
        option = search.SpectralOption(offset)
        for filters in (4, 16, 48):
            group = fast.SpectralGroup(tuple(range(filters)), ((offset, bins),))
            one = option.cost(geometry)
            times.append(bench.time([group], filters))
            terms.append([filters * one, one, 1.0])
    (_, products, spectra), residual = least_squares(terms, times)
    found = {
        "spectra_cost": spectra / per_cost,
        "products_cost": products / per_cost,
    }
    return found, per_cost, residual


def compare_values(
    name: str, values: list, options: argparse.Namespace
) -> rich.table.Table:
    """Plans Leaf with each value of a constant, and measures the plans."""
    settings = {
        "n_filters": options.n_filters,
        "sample_rate": options.sample_rate,
        "window_stride": options.window_stride,
        "compression_fn": None,
    }
    rate = options.sample_rate
    inputs = {"white noise": noise(rate)}
    if options.audio:
        from leaf_error import read_clips

        clips = read_clips(options.audio)[::4, :rate]
        unit = clips / clips.std(axis=1, keepdims=True)
        inputs |= {"std 0.1": 0.1 * unit, "std 5.6": 5.6 * unit}
    exact = frontend.Leaf(**settings, tolerance=0)
    expected = {key: log_energies(exact, x) for key, x in inputs.items()}

    table = rich.table.Table(name, "predicted error")
    for heading in (*(f"on {key}" for key in inputs), "cost", "ms", "groups"):
        table.add_column(heading, justify="right")
    for value in values:
        with replaced(name, value):
            leaf = frontend.Leaf(**settings)
            leaf.build((None, None))
            sizes = (leaf.get_config()["window_len"], options.window_stride)
            window, stride = (int(rate * size // 1000) for size in sizes)
            geometry = fast.Geometry(window + 1, window + 1, stride)
            error, cost = predicted(leaf.plan, geometry)
            errors = [
                math.sqrt(np.mean((log_energies(leaf, x) - expected[key]) ** 2))
                for key, x in inputs.items()
            ]
            took = seconds(leaf, noise(rate), options.repeats)
            table.add_row(
                str(value),
                f"{error:.1e}",
                *(f"{measured:.1e}" for measured in errors),
                f"{cost:.0f}",
                f"{1000 * took:.1f}",
                str(len(leaf.plan.groups)),
            )
    return table


def predicted(own: fast.Plan, geometry: fast.Geometry) -> tuple[float, float]:
    """Returns the predicted error and the cost of a plan."""
    squares, cost, used = 0.0, 0.0, []
    for group in own.groups:
        if isinstance(group, fast.SparseGroup):
            option = search.SparseOption(group.hop, len(group.taper))
        else:
            option = search.SpectralOption(group.max_offset)
        used.append((option, np.array(group.filters)))
        for filter_ in group.filters:
            sigma, width, _ = own.parameters[filter_].tolist()
            (error,) = search.predicted_errors(
                [option], sigma, width, geometry, tolerance=0.0
            )
            squares += error**2
            cost += option.cost(geometry)
    cost += search.shared_cost(used, own.parameters, geometry)
    return math.sqrt(squares / len(own.parameters)), cost


def log_energies(leaf: keras.Model, x: np.ndarray) -> np.ndarray:
    batches = np.array_split(x, max(len(x) // BATCH, 1))
    energies = [ops.convert_to_numpy(leaf(batch)) for batch in batches]
    return np.log(np.maximum(np.concatenate(energies), FLOOR))


def grid(name: str, given: str | None) -> list:
    """Returns the values of a constant to compare."""
    if given:
        found = ast.literal_eval(f"[{given}]")
    else:
        usual = getattr(fast.CONSTANTS, name)
        if isinstance(usual, tuple):
            sys.exit(f"Give --values for {name}, such as (4,8,16),(4,6,8).")
        # Ratios must stay above 1, and whole numbers whole.
        ratio = name in ("taps_ratio", "parameter_grid")
        ratio = ratio or name in ("sigma_margin", "width_margin")
        found = [
            1 + factor * (usual - 1) if ratio else type(usual)(factor * usual)
            for factor in FACTORS
        ]
    return found


def main() -> None:
    names = [field.name for field in dataclasses.fields(fast.PlanConstants)]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--constant", required=True, choices=names)
    parser.add_argument("--values", help="separated by commas")
    parser.add_argument("--audio", help="a folder of 64 recordings or more")
    parser.add_argument("--n_filters", type=int, default=40)
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--window_stride", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()

    console = rich.console.Console(width=100)
    name = options.constant
    if name in COSTS and not options.values:
        group = name == "group_cost"
        fit = fit_group_cost if group else fit_spectral_costs
        found, per_cost, residual = fit(Bench(options))
        for fitted, value in found.items():
            used = getattr(fast.CONSTANTS, fitted)
            console.print(f"{fitted}: {value:.0f} measured, {used:.0f} in use")
        console.print(
            f"one multiply-add per sample: {1e6 * per_cost:.2f} µs; the fit "
            f"errs by {residual:.0%}"
        )
        return
    console.print(compare_values(name, grid(name, options.values), options))


if __name__ == "__main__":
    main()
