"""Searches the cheapest plan whose predicted error meets a tolerance.

Each filter can be computed in many ways, called options: by sparse samples with
some hop and kernel length, or from spectra with some greatest offset. An option
has a predicted error (`error_model`) and a cost in multiply-adds per sample of
audio. The search minimises the total cost under one condition: the root mean
square of the filters' errors stays within the tolerance. A Lagrange multiplier,
the same for all filters, turns that into a choice for each filter by itself. A
group of filters that share an option has a fixed cost too, so options that few
filters use are then given up as long as that lowers the total.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from leaf_audio.common.threads import one_thread
from leaf_audio.fast import error_model
from leaf_audio.fast.constants import CONSTANTS
from leaf_audio.fast.plan import (
    Geometry,
    Plan,
    SparseGroup,
    SpectralGroup,
    tiers,
)

# Range of the Lagrange multiplier, as a power of ten. It is divided so many
# times, each time into so many parts, which are tried at once.
_MAX_LOG_MULTIPLIER = 16.0
_PARTS = 16
_DIVISIONS = 6

# A sampling error below this share of the tolerance does not matter.
_NEGLIGIBLE = 0.03


def make_plan(
    parameters: np.ndarray, geometry: Geometry, tolerance: float
) -> Plan:
    """Makes the cheapest plan that meets a tolerance.

    Args:
      parameters: `(filters, 3)`, standard deviations in samples, pooling widths
        as a share of half the window, and centre frequencies in rad/sample, all
        as the layers use them, that is within their bounds.
      geometry: Sizes of kernels, windows and strides.
      tolerance: Greatest root mean square of the filters' predicted relative
        errors, more than 0.

    Returns:
      The plan.

    Raises:
      ValueError: A deviation or width is not a positive number, or a centre
        frequency is not finite.
    """
    if not np.all(np.isfinite(parameters)) or np.any(parameters[:, :2] <= 0):
        raise ValueError(
            "Filters to plan for must have positive deviations and pooling "
            "widths, and finite centre frequencies. Received: "
            f"{parameters.tolist()}."
        )
    # Hundreds of small systems of equations are solved.
    with one_thread():
        return _make_plan(parameters, geometry, tolerance)


def _make_plan(
    parameters: np.ndarray, geometry: Geometry, tolerance: float
) -> Plan:
    sigma = _on_grid(parameters[:, 0])
    width = _on_grid(parameters[:, 1])
    options = _options(geometry, sigma.max())
    errors = np.array(
        [
            predicted_errors(options, *widths, geometry, tolerance)
            for widths in zip(sigma.tolist(), width.tolist(), strict=True)
        ]
    )
    planned_for = np.column_stack([sigma, width, parameters[:, 2]])
    chosen = _Search(options, errors, planned_for, geometry, tolerance).run()

    groups = [
        option.group(filters, planned_for[filters], geometry)
        for option, filters in _filters_by_option(options, chosen)
    ]
    margins = np.full(len(planned_for), np.inf)
    for group in groups:
        if isinstance(group, SpectralGroup):
            margin = 2 * np.pi * CONSTANTS.centre_margin / geometry.kernel_size
            margins[list(group.filters)] = margin
    return Plan(planned_for, margins, tuple(groups))


def _on_grid(values: np.ndarray) -> np.ndarray:
    grid = CONSTANTS.parameter_grid
    return grid ** np.round(np.log(values) / math.log(grid))


def candidate_hops(stride: int, longest: float) -> list[int]:
    """Lists the hops to choose from.

    These are the divisors of the stride. Where two of them are more than a
    factor of 2 apart, powers of 2 times the lower one are added in between:
    they cost a little more, as energies begin anew with each stride.

    Args:
      stride: Distance between frames, in samples.
      longest: Greatest hop, in samples.

    Returns:
      Hops in ascending order, from 1.
    """
    hops = [1]
    while True:
        last = hops[-1]
        greatest = int(min(2 * last, longest, stride))
        more = [n for n in range(last + 1, greatest + 1) if stride % n == 0]
        if not more and 2 * last > greatest:
            return hops
        hops += more or [2 * last]


@dataclasses.dataclass(frozen=True)
class SparseOption:
    """The option to compute a filter from energies at every `hop`-th sample.

    Attributes:
      hop: Distance between two energies, in samples.
      taps: Number of kernel taps that are used, in the middle of the kernel.
    """

    hop: int
    taps: int

    def cost(self, geometry: Geometry) -> float:
        """Returns the multiply-adds per sample of audio for one filter."""
        per_sample = geometry.energies_per_stride(self.hop) / geometry.stride
        convolution = 2 * self.hop * -(-self.taps // self.hop)
        channels = CONSTANTS.channels_pooled_together
        pooling = geometry.strides_per_window * channels
        return (convolution + pooling) * per_sample

    def group(
        self, filters: np.ndarray, parameters: np.ndarray, geometry: Geometry
    ) -> SparseGroup:
        """Makes the group of the filters that have this option.

        Args:
          filters: Their positions in the filterbank.
          parameters: `(filters, 3)`, theirs; see `make_plan`.
          geometry: Sizes.
        """
        matrices = None
        if self.hop > 1:
            matrices = np.array(
                [
                    error_model.weight_matrix(sigma, self.hop, geometry)
                    for sigma in parameters[:, 0].tolist()
                ]
            )
        return SparseGroup(
            filters=tuple(filters.tolist()),
            hop=self.hop,
            first_tap=geometry.kernel_size // 2 - self.taps // 2,
            taper=error_model.taper(self.taps, geometry.kernel_size),
            widths=parameters[:, 1],
            weight_matrices=matrices,
        )


@dataclasses.dataclass(frozen=True)
class SpectralOption:
    """The option to compute a filter from spectra, by products of two bins.

    Attributes:
      max_offset: Greatest offset of two bins that are multiplied; one of
        `CONSTANTS.offsets`.
    """

    max_offset: int

    def cost(self, geometry: Geometry) -> float:
        """Returns the multiply-adds per sample of audio for one filter.

        All bins are counted as near the filter's centre: those that one filter
        is far from may be near to another one of the group.
        """
        bins = geometry.fft_length // 2 + 1
        parts = geometry.parts_per_product
        return (1 + self.max_offset) * bins * parts / geometry.stride

    def group(
        self, filters: np.ndarray, parameters: np.ndarray, geometry: Geometry
    ) -> SpectralGroup:
        """Makes the group of the filters that have this option.

        Args:
          filters: Their positions in the filterbank.
          parameters: `(filters, 3)`, theirs; see `make_plan`.
          geometry: Sizes.
        """
        length, far = geometry.fft_length, geometry.far_offset
        # Centre frequencies above half the rate are aliases of lower ones.
        centre = (parameters[:, 2] / (2 * np.pi) + 0.5) % 1.0 - 0.5
        reach = error_model.near_distance(parameters[:, 0], geometry)
        reach = reach + CONSTANTS.centre_margin / geometry.kernel_size
        # A product's frequency is halfway between those of its two bins.
        first = length * (np.abs(centre) - reach).min() - self.max_offset / 2
        last = length * (np.abs(centre) + reach).max()
        near = (math.floor(first), math.ceil(last) + 1)
        everywhere = (-length, length)
        bands = [(self.max_offset, everywhere)]
        if self.max_offset > far:
            bands = [(far, everywhere), (self.max_offset, near)]
        return SpectralGroup(tuple(filters.tolist()), tuple(bands))


Option = SparseOption | SpectralOption


def _options(geometry: Geometry, longest_hop: float) -> list[Option]:
    """Lists all options for a filter."""
    taps = [geometry.kernel_size]
    while taps[-1] > CONSTANTS.min_taps:
        taps.append(_odd(taps[-1] / CONSTANTS.taps_ratio))
    sparse = [
        SparseOption(hop, size)
        for hop in candidate_hops(geometry.stride, longest_hop)
        for size in taps
    ]
    spectral = [
        SpectralOption(offset)
        for offset in CONSTANTS.offsets
        if offset < geometry.fft_length // 4
    ]
    return [*sparse, *spectral]


def _odd(length: float) -> int:
    return 2 * (int(length) // 2) + 1


def predicted_errors(
    options: Sequence[Option],
    sigma: float,
    width: float,
    geometry: Geometry,
    tolerance: float,
) -> list[float]:
    """Predicts the relative errors of a filter's pooled energies.

    Args:
      options: Ways to compute the filter.
      sigma: Standard deviation of the filter, in samples.
      width: Pooling width, as a share of half the window.
      geometry: Sizes.
      tolerance: That of the plan.

    Returns:
      An error for each option. It is infinite for spectra of a filter that
      decays to nearly 0 within its kernel.
    """
    # Short hops are slow to predict. Where a longer one errs too little to
    # matter, they get its error.
    sampling: dict[int, float] = {}
    error = math.inf
    hops = {one.hop for one in options if isinstance(one, SparseOption)}
    for hop in sorted(hops, reverse=True):
        if error > _NEGLIGIBLE * tolerance:
            error = error_model.sampling_error(sigma, width, hop, geometry)
        sampling[hop] = error
    by_offset: dict[int, float] = {}
    if geometry.kernel_size <= 2 * CONSTANTS.max_spectral_deviations * sigma:
        found = error_model.offset_errors(sigma, width, geometry)
        by_offset = dict(zip(CONSTANTS.offsets, found, strict=True))
    errors = []
    for one in options:
        if isinstance(one, SpectralOption):
            errors.append(by_offset.get(one.max_offset, math.inf))
            continue
        cut = error_model.truncation_error(
            sigma, one.taps, geometry.kernel_size
        )
        cut *= CONSTANTS.truncation_weight
        errors.append(math.hypot(cut, sampling[one.hop]))
    return errors


def shared_cost(
    filters_by_option: Sequence[tuple[Option, np.ndarray]],
    parameters: np.ndarray,
    geometry: Geometry,
) -> float:
    """Returns the costs that are not those of single filters.

    Args:
      filters_by_option: The options that are used, each with the positions of
        its filters.
      parameters: `(filters, 3)`, of the whole filterbank; see `make_plan`.
      geometry: Sizes.

    Returns:
      Multiply-adds per sample of audio: the fixed costs of groups, and of
      spectra and products of bins, if they are used.
    """
    spectral = [
        option.group(filters, parameters[filters], geometry)
        for option, filters in filters_by_option
        if isinstance(option, SpectralOption)
    ]
    cost = CONSTANTS.group_cost * (len(filters_by_option) - len(spectral))
    if spectral:
        products = _count_products(spectral, geometry) / geometry.stride
        cost += CONSTANTS.spectra_cost + CONSTANTS.products_cost * products
    return cost


def _count_products(
    groups: Sequence[SpectralGroup], geometry: Geometry
) -> float:
    """Counts the products of bins that groups share, for one frame."""
    last = geometry.fft_length // 2 + 1
    count = 0
    for tier in tiers(groups):
        first, end = tier.bins
        count += len(tier.offsets) * (min(end, last) - max(first, 0))
    return count * geometry.parts_per_product


def _filters_by_option(
    options: Sequence[Option], chosen: np.ndarray
) -> list[tuple[Option, np.ndarray]]:
    """Lists the options that were chosen, each with its filters."""
    return [
        (options[index], np.flatnonzero(chosen == index))
        for index in np.unique(chosen)
    ]


class _Search:
    """Chooses an option for each filter.

    A choice is an array `(filters,)` of positions in `options`.

    Args:
      options: What to choose from.
      errors: `(filters, options)`, predicted.
      parameters: `(filters, 3)`, that the plan is made for.
      geometry: Sizes.
      tolerance: Greatest root mean square of the errors.
    """

    def __init__(
        self,
        options: Sequence[Option],
        errors: np.ndarray,
        parameters: np.ndarray,
        geometry: Geometry,
        tolerance: float,
    ):
        self._options = options
        self._squared_errors = errors**2
        self._parameters = parameters
        self._geometry = geometry
        self._tolerance = tolerance
        self._costs = np.array([option.cost(geometry) for option in options])

    def run(self) -> np.ndarray:
        """Returns the best choice with sparse options only, or with all."""
        # Spectra have a high fixed cost. Giving up options one by one would not
        # find that doing without them is cheaper.
        every = np.arange(len(self._options))
        sparse = np.array(
            [isinstance(option, SparseOption) for option in self._options]
        )
        choices = [self._with_few_groups(every[sparse])]
        choices.append(self._with_few_groups(every))
        return min(choices, key=self._total_cost)

    def _with_few_groups(self, allowed: np.ndarray) -> np.ndarray:
        """Gives up one option after another while the total cost falls."""
        choice = self._cheapest(allowed)
        while True:
            used = np.unique(choice)
            trials = [
                self._cheapest(used[used != option])
                for option in used
                if len(used) > 1
            ]
            trials = [
                t for t in trials if self._rms_error(t) <= self._tolerance
            ]
            best = min(trials, key=self._total_cost, default=choice)
            if self._total_cost(best) >= self._total_cost(choice):
                return choice
            choice = best

    def _cheapest(self, allowed: np.ndarray) -> np.ndarray:
        """Finds the least multiplier that meets the tolerance.

        Returns:
          What minimises cost + multiplier * squared error, for each filter.
        """
        squared_errors = self._squared_errors[:, allowed]
        costs = self._costs[allowed]
        filters = np.arange(len(squared_errors))
        low, high = 0.0, _MAX_LOG_MULTIPLIER
        for _ in range(_DIVISIONS):
            logs = np.linspace(low, high, _PARTS + 1)
            multipliers = 10 ** logs[:, None, None]
            lagrangian = costs + multipliers * squared_errors
            best = np.argmin(lagrangian, axis=-1)
            errors = np.mean(squared_errors[filters, best], axis=-1)
            meets = errors <= self._tolerance**2
            # The greatest multiplier counts as one that does.
            meets[-1] = True
            first = max(int(np.argmax(meets)), 1)
            low, high = logs[first - 1], logs[first]
        return allowed[best[first]]

    def _rms_error(self, choice: np.ndarray) -> float:
        squared = self._squared_errors[np.arange(len(choice)), choice]
        return math.sqrt(squared.mean())

    def _total_cost(self, choice: np.ndarray) -> float:
        return self._costs[choice].sum() + shared_cost(
            _filters_by_option(self._options, choice),
            self._parameters,
            self._geometry,
        )
