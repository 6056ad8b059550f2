"""Plans how the pooled energies of Gabor filters are computed at little cost.

There are two ways, good for different filters:

Sparse samples. LEAF's energies `|x * g|²` are band-limited by the filter, not
by the audio: a Gaussian of deviation σ lets them change little within σ
samples. They are computed some samples apart (the hop), with as much of the
filter as is worth it, and the pooling window sums them with weights of its own.
`decimation` computes this.

Spectra of frames. A filter that its length cuts off leaks into all frequencies,
and its energies change with every sample. But a pooled energy is a quadratic
form of a frame's spectrum, `Σ W(d) Y(k) Y*(k + d)` over bins k and offsets d, Y
being the filtered spectrum and W that of the pooling window: few offsets
matter where the filter is nearly as long as the window, fewer still between
bins that it only leaks into, and what is multiplied is the same for all
filters. `spectral` computes this.

A plan is NumPy and static, made from deviations, pooling widths and, for
spectra, centre frequencies. The error of a choice is predicted for a random
input whose spectrum is 20 dB higher away from the filter than in its
band, since in real audio the quiet bands lie next to loud ones. What is chosen
is the cheapest plan whose predicted errors, root mean square over the filters,
stay within the tolerance.

As for the weights of samples: those of a stationary process of known covariance
determine its value in between by linear prediction (Wiener); the weight of a
sample is what it contributes in this way to the pooled sum.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Spectral excess away from the filter's band, as a power ratio; it sets in at
# this distance from the centre, in deviations of the filter's response.
_EXCESS = 100.0
_EXCESS_DISTANCE = 3.0

# Deviations are planned for on a grid of this ratio, so that plans are reused.
_GRID = 1.02

# Factors by which a deviation and a pooling width may move, up or down, before
# the plan is left. Training moves widths by tens of percent within an epoch,
# deviations by one or two.
_SIGMA_MARGIN = 1.04
_WIDTH_MARGIN = 2.0
_MARGINS = np.array([_SIGMA_MARGIN, _WIDTH_MARGIN])

# What centre frequencies may move by where they matter, in cycles per sample
# times the filters' length: 80 Hz for LEAF's at 16 kHz.
_CENTRE_MARGIN = 2.0

# How much of these, as a power, may be used up before there is a new plan: what
# hovers around a margin would be computed exactly every other step.
_ROOM = 0.9

# Share of a shortened filter that fades out, at either end.
_FADE = 0.2

# What is cut off a filter errs most where its band is silent, which a
# stationary input does not show; measured on speech.
_CUT_WEIGHT = 2.0

# Lengths of filters to choose from are this far apart, down to this one.
_TAPS_RATIO = 1.19
_LEAST_TAPS = 16

# Hops to choose from are at least this far apart where they need several
# phases.
_HOP_RATIO = 1.3

# Multiply-adds per sample that a squared error of 1 may cost, as a power of
# ten, and the steps in which the right price is looked for.
_HIGHEST_PRICE = 16.0
_PRICE_STEPS = 24

# An error so small that closer samples need not be tried.
_NEGLIGIBLE = 1e-5

# Keeps the prediction regular where samples are close together.
_NUGGET = 1e-6

# Most frames that may share a pattern of samples, where the hop does not
# divide the stride.
_MAX_PHASES = 8

# Multiply-adds per sample of audio that a sparse group costs by itself; that
# frames' spectra cost; and what products of bins cost, which all filters share,
# as a multiple of what they add for one. Measured.
_GROUP_COST = 80.0
_SPECTRA_COST = 800.0
_PRODUCTS_COST = 60.0

# Offsets between bins to choose from. More would take much memory.
_OFFSETS = (4, 6, 8, 12, 16, 24)

# Bins that are further than this from a filter's centre, in cycles per sample
# times the filter's length, are those it leaks into. There offsets matter up to
# the second, likewise times the window's length, whatever the tolerance: a tone
# that leaks in swells and fades, and smaller ones would smear that.
_NEAR = 8.0
_FAR_OFFSETS = 2.5

# Only filters whose ends lie within this many deviations are computed from
# spectra. With others, quiet bands err: frames that begin and end in loud audio
# make a noise there, which leaving out offsets lets into the window.
_CUT_OFF = 3.5

# Bins within this many deviations of a filter's response are always near it.
_BAND = 6.0

# What leaks in from outside the pooling window is predicted for a burst louder
# by this ratio of power, whose deviation is this share of the filters' length.
# With these, 64 to 128 filters err on speech about as much as 40 do
# (`benchmarks/leaf_error.py --n_filters=80`).
_BURST = 30.0
_BURST_LENGTH = 1 / 40

# Filters that are pooled together; see `decimation`.
POOLED_TOGETHER = 16


@dataclasses.dataclass(frozen=True, eq=False)
class SparseGroup:
    """Filters whose energies are sampled alike.

    The first sample lies at the start of the first frame's window. A block is
    the shortest run of whole strides that is a multiple of the hop.

    Attributes:
      filters: which ones, by position.
      hop: in samples.
      first: index of the first tap that is used.
      fade: `(taps,)`, what the taps from `first` on are multiplied by.
      phases: number of frames in a block.
      starts: `(phases,)`, the first sample that a frame of a block uses.
      num_samples: that a frame uses.
      weights: `(filters, phases, samples, window)`; times a pooling window
        they give the weights of the samples. None for a hop of 1, where these
        are the window itself.
    """

    filters: tuple[int, ...]
    hop: int
    first: int
    fade: np.ndarray
    phases: int
    starts: tuple[int, ...]
    num_samples: int
    weights: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralGroup:
    """Filters whose pooled energies are computed from frames' spectra.

    Attributes:
      filters: which ones, by position.
      bands: offsets, ascending, each with the bins that are multiplied with
        those up to so far away: the first, which may be below 0, and one more
        than the last.
    """

    filters: tuple[int, ...]
    bands: tuple[tuple[int, tuple[int, int]], ...]

    @property
    def offsets(self) -> int:
        """Greatest distance of two bins that are multiplied."""
        return self.bands[-1][0]

    def bins(self, offset: int) -> tuple[int, int]:
        """Tells which bins are multiplied with those at some distance."""
        return next(bins for most, bins in self.bands if most >= offset)


@dataclasses.dataclass(frozen=True)
class Tier:
    """Pairs of bins that are multiplied for the same filters.

    Attributes:
      distances: between two bins.
      bins: the first of the lower ones, and one more than the last.
      num_filters: how many filters they count for, of those with the greatest
        offsets.
    """

    distances: range
    bins: tuple[int, int]
    num_filters: int


def tiers(groups: Sequence[SpectralGroup]) -> list[Tier]:
    """Lists the pairs of bins that groups need, without any twice."""
    found = []
    first = 0
    for offset in sorted({most for group in groups for most, _ in group.bands}):
        some = [group for group in groups if group.offsets >= offset]
        starts, ends = zip(*(group.bins(offset) for group in some), strict=True)
        count = sum(len(group.filters) for group in some)
        bins = (min(starts), max(ends))
        found.append(Tier(range(first, offset + 1), bins, count))
        first = offset + 1
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How to compute a filterbank's pooled energies, and when that holds.

    Attributes:
      parameters: `(filters, 3)`, which it was made for: deviations in samples,
        pooling widths as a share of half the window, and centre frequencies in
        rad/sample.
      centre_margins: `(filters,)`, how far these may move; infinite where they
        do not matter.
      groups: cover each filter once.
    """

    parameters: np.ndarray
    centre_margins: np.ndarray
    groups: tuple[SparseGroup | SpectralGroup, ...]

    @property
    def lowest(self) -> np.ndarray:
        """The least parameters for which it holds, `(filters, 3)`."""
        widths, centres = self.parameters[:, :2], self.parameters[:, 2]
        return np.column_stack(
            [widths / _MARGINS, centres - self.centre_margins]
        )

    @property
    def highest(self) -> np.ndarray:
        """The greatest, likewise."""
        widths, centres = self.parameters[:, :2], self.parameters[:, 2]
        return np.column_stack(
            [widths * _MARGINS, centres + self.centre_margins]
        )

    def has_room(self, parameters: np.ndarray) -> bool:
        """Tells whether it holds for parameters, with something to spare."""
        grown = np.abs(np.log(parameters[:, :2] / self.parameters[:, :2]))
        moved = np.abs(parameters[:, 2] - self.parameters[:, 2])
        return bool(
            np.all(grown <= _ROOM * np.log(_MARGINS))
            and np.all(moved <= _ROOM * self.centre_margins)
        )


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes that a plan is made for, all in samples.

    Attributes:
      kernel_size: length of the filters.
      window_size: length of the pooling windows.
      stride: between frames.
    """

    kernel_size: int
    window_size: int
    stride: int

    @property
    def symmetric(self) -> bool:
        """Whether filters and windows have a middle."""
        return bool(self.kernel_size % 2 and self.window_size % 2)

    @property
    def parts(self) -> int:
        """How many, real and imaginary, products of bins must have."""
        return 1 if self.symmetric else 2

    @property
    def frame_length(self) -> int:
        """All that a frame's pooled energies depend on."""
        return self.kernel_size + self.window_size - 1

    @property
    def far_offsets(self) -> int:
        """Greatest distance of bins that matters where filters only leak."""
        return round(_FAR_OFFSETS * self.fft_length / self.window_size)

    @property
    def fft_length(self) -> int:
        """Of a frame's spectrum: even, and of small factors."""
        length = self.frame_length + self.frame_length % 2
        while not _is_smooth(length):
            length += 2
        return length


def _is_smooth(length: int) -> bool:
    for factor in (2, 3, 5, 7):
        while length % factor == 0:
            length //= factor
    return length == 1


def make_plan(
    parameters: np.ndarray, geometry: Geometry, tolerance: float
) -> Plan:
    """Makes the cheapest plan that meets a tolerance.

    Args:
      parameters: `(filters, 3)`, deviations in samples, pooling widths as a
        share of half the window, and centre frequencies in rad/sample, as used,
        that is within their bounds.
      geometry: sizes.
      tolerance: greatest predicted error, relative; more than 0.

    Raises:
      ValueError: a deviation or width is not a positive number, or a centre
        frequency no number.
    """
    if not np.all(np.isfinite(parameters)) or np.any(parameters[:, :2] <= 0):
        raise ValueError(
            "Filters to plan for must have positive deviations and pooling "
            "widths, and finite centre frequencies. Received: "
            f"{parameters.tolist()}."
        )
    sigma = _on_grid(parameters[:, 0])
    width = _on_grid(parameters[:, 1])
    slots = _slots(geometry, sigma.max())
    error = np.array(
        [
            [slot.error(*one, geometry) for slot in slots]
            for one in zip(sigma.tolist(), width.tolist(), strict=True)
        ]
    )
    made_for = np.column_stack([sigma, width, parameters[:, 2]])
    chosen = _choose(slots, error, made_for, geometry, tolerance)

    groups = [
        slot.group(filters, made_for[filters], geometry)
        for slot, filters in _members(slots, chosen)
    ]
    margins = np.full(len(made_for), np.inf)
    for group in groups:
        if isinstance(group, SpectralGroup):
            margin = 2 * np.pi * _CENTRE_MARGIN / geometry.kernel_size
            margins[list(group.filters)] = margin
    return Plan(made_for, margins, tuple(groups))


def _on_grid(values: np.ndarray) -> np.ndarray:
    return _GRID ** np.round(np.log(values) / math.log(_GRID))


def candidate_hops(stride: int, longest: float) -> list[int]:
    """Lists hops to choose from: divisors of the stride, and some between.

    Args:
      stride: in samples.
      longest: in samples.

    Returns:
      Hops in ascending order, from 1; each is at most about twice the one
      before, by way of hops that divide a few strides, where there are any.
    """
    longest = max(int(longest), 1)
    phases = {
        hop: hop // math.gcd(hop, stride) for hop in range(1, longest + 1)
    }
    hops = [hop for hop, count in phases.items() if count == 1]
    between = [hop for hop, n in phases.items() if 1 < n <= _MAX_PHASES]
    for hop in sorted(between, key=phases.get):
        below = max(other for other in hops if other < hop)
        above = min((other for other in hops if other > hop), default=None)
        gap = (above or longest + 1) / below
        nearest = min(hop / below, (above or math.inf) / hop)
        if gap > 2 and nearest >= _HOP_RATIO:
            hops.append(hop)
    return sorted(hops)


@dataclasses.dataclass(frozen=True)
class _Sparse:
    """A way to compute some filters: by energies `hop` samples apart."""

    hop: int
    taps: int

    def error(self, sigma: float, width: float, geometry: Geometry) -> float:
        """Predicts the relative error of a filter's pooled energies."""
        cut = _truncation_error(sigma, self.taps, geometry.kernel_size)
        sparse = _decimation_error(sigma, width, self.hop, geometry)
        return math.hypot(_CUT_WEIGHT * cut, sparse)

    def cost(self, geometry: Geometry) -> float:
        """Counts multiply-adds per sample of audio for one filter."""
        convolution = 2 * -(-self.taps // self.hop)
        phases = self.hop // math.gcd(self.hop, geometry.stride)
        overlap = geometry.window_size / (phases * geometry.stride) + 1
        return convolution + overlap * phases * POOLED_TOGETHER / self.hop

    def group(
        self, filters: np.ndarray, parameters: np.ndarray, geometry: Geometry
    ) -> SparseGroup:
        """Makes the group of the filters that are computed like this."""
        sigma = parameters[:, 0]
        return _sparse_group(filters, sigma, self.hop, self.taps, geometry)


@dataclasses.dataclass(frozen=True)
class _Spectral:
    """A way to compute some filters: by products of bins of the spectra."""

    offsets: int

    def error(self, sigma: float, width: float, geometry: Geometry) -> float:
        """Predicts the relative error of a filter's pooled energies."""
        if geometry.kernel_size > 2 * _CUT_OFF * sigma:
            return math.inf
        errors = _offsets_errors(sigma, width, geometry)
        return errors[_OFFSETS.index(self.offsets)]

    def cost(self, geometry: Geometry) -> float:
        # As if all bins were near: those that a filter's centre spares it may
        # be near another's.
        bins = geometry.fft_length // 2 + 1
        return (1 + self.offsets) * bins * geometry.parts / geometry.stride

    def group(
        self, filters: np.ndarray, parameters: np.ndarray, geometry: Geometry
    ) -> SpectralGroup:
        """Makes the group of the filters that are computed like this."""
        length, far = geometry.fft_length, geometry.far_offsets
        # Above half the rate, frequencies are those below once more.
        centre = (parameters[:, 2] / (2 * np.pi) + 0.5) % 1.0 - 0.5
        reach = _near(parameters[:, 0], geometry)
        reach = reach + _CENTRE_MARGIN / geometry.kernel_size
        # A product belongs halfway between its two bins.
        first = length * (np.abs(centre) - reach).min() - self.offsets / 2
        last = length * (np.abs(centre) + reach).max()
        near = (math.floor(first), math.ceil(last) + 1)
        everywhere = (-length, length)
        if self.offsets <= far:
            bands = ((self.offsets, everywhere),)
        else:
            bands = ((far, everywhere), (self.offsets, near))
        return SpectralGroup(tuple(filters.tolist()), bands)


def _near(sigma: np.ndarray | float, geometry: Geometry) -> Any:
    """Tells how far from its centre a filter does more than leak.

    In cycles per sample, for deviations in samples.
    """
    band = _BAND / (2 * np.pi * sigma)
    return np.maximum(_NEAR / geometry.kernel_size, band)


def _pairs(groups: Sequence[SpectralGroup], geometry: Geometry) -> float:
    """Counts the products of bins that groups share."""
    last = geometry.fft_length // 2 + 1
    count = 0
    for tier in tiers(groups):
        first, end = tier.bins
        count += len(tier.distances) * (min(end, last) - max(first, 0))
    return count * geometry.parts


_Slot = _Sparse | _Spectral


def _slots(geometry: Geometry, longest: float) -> list[_Slot]:
    """Lists the ways to compute a filter."""
    taps = [geometry.kernel_size]
    while taps[-1] > _LEAST_TAPS:
        taps.append(_odd(taps[-1] / _TAPS_RATIO))
    sparse = [
        _Sparse(hop, size)
        for hop in candidate_hops(geometry.stride, longest)
        for size in taps
    ]
    spectral = [
        _Spectral(offsets)
        for offsets in _OFFSETS
        if offsets < geometry.fft_length // 4
    ]
    return [*sparse, *spectral]


def _odd(length: float) -> int:
    return 2 * (int(length) // 2) + 1


def _choose(
    slots: Sequence[_Slot],
    error: np.ndarray,
    parameters: np.ndarray,
    geometry: Geometry,
    tolerance: float,
) -> np.ndarray:
    """Chooses a slot for each filter.

    Minimises the cost plus a multiple of the squared errors, the multiple such
    that the tolerance is met; then gives up slots while that pays.

    Args:
      slots: to choose from.
      error: `(filters, slots)`, predicted.
      parameters: `(filters, 3)`, which the plan is made for.
      geometry: sizes.
      tolerance: greatest root mean square of the errors.

    Returns:
      Positions in `slots`, `(filters,)`.
    """
    cost = np.array([slot.cost(geometry) for slot in slots])
    spectral = np.array([isinstance(slot, _Spectral) for slot in slots])
    rows = np.arange(len(error))

    def assign(allowed: np.ndarray, price: float) -> np.ndarray:
        return allowed[np.argmin((cost + price * error**2)[:, allowed], axis=1)]

    def rms(chosen: np.ndarray) -> float:
        return math.sqrt(np.mean(error[rows, chosen] ** 2))

    def cheapest(allowed: np.ndarray) -> np.ndarray:
        low, high = 0.0, _HIGHEST_PRICE
        for _ in range(_PRICE_STEPS):
            price = (low + high) / 2
            if rms(assign(allowed, 10**price)) > tolerance:
                low = price
            else:
                high = price
        return assign(allowed, 10**high)

    def total(chosen: np.ndarray) -> float:
        used = np.unique(chosen)
        shared = _GROUP_COST * np.count_nonzero(~spectral[used])
        groups = [
            slot.group(filters, parameters[filters], geometry)
            for slot, filters in _members(slots, chosen)
            if isinstance(slot, _Spectral)
        ]
        if groups:
            products = _pairs(groups, geometry) / geometry.stride
            shared += _SPECTRA_COST + _PRODUCTS_COST * products
        return cost[chosen].sum() + shared

    def cheapest_of_groups(allowed: np.ndarray) -> np.ndarray:
        chosen = cheapest(allowed)
        while True:
            used = np.unique(chosen)
            trials = [
                cheapest(used[used != slot]) for slot in used if len(used) > 1
            ]
            trials = [trial for trial in trials if rms(trial) <= tolerance]
            best = min(trials, key=total, default=chosen)
            if total(best) >= total(chosen):
                return chosen
            chosen = best

    # Spectra pay for many filters or for none.
    every = np.arange(len(slots))
    return min(
        cheapest_of_groups(every[~spectral]),
        cheapest_of_groups(every),
        key=total,
    )


def _members(
    slots: Sequence[_Slot], chosen: np.ndarray
) -> list[tuple[_Slot, np.ndarray]]:
    """Lists the slots that were chosen, each with its filters."""
    return [
        (slots[index], np.flatnonzero(chosen == index))
        for index in np.unique(chosen)
    ]


def _envelope(sigma: float, kernel_size: int) -> np.ndarray:
    t = np.arange(kernel_size) - kernel_size // 2
    return np.exp(-((t / sigma) ** 2) / 2)


def _window(width: float, geometry: Geometry) -> np.ndarray:
    size = geometry.window_size
    t = (np.arange(size) - (size - 1) / 2) / (max(size - 1, 1) / 2)
    return np.exp(-((t / np.clip(width, 2.0 / size, 0.5)) ** 2) / 2)


def _fade(taps: int, kernel_size: int) -> np.ndarray:
    """Returns what shortened filters are multiplied by."""
    if taps == kernel_size:
        return np.ones(taps)
    outside = 1 - np.abs(np.linspace(-1, 1, taps + 2)[1:-1])
    return np.where(
        outside < _FADE, (1 - np.cos(np.pi * outside / _FADE)) / 2, 1.0
    )


def _spectrum_length(geometry: Geometry, hop: int) -> int:
    longest = 2 * geometry.kernel_size + geometry.window_size
    return 2 ** math.ceil(math.log2(longest + hop))


def _input_spectrum(sigma: float, length: int) -> np.ndarray:
    """Returns a power spectrum that is higher away from frequency 0."""
    distance = 2 * np.pi * np.fft.fftfreq(length) * sigma
    return 1 + _EXCESS * -np.expm1(-((distance / _EXCESS_DISTANCE) ** 2) / 2)


@functools.lru_cache(maxsize=4096)
def _truncation_error(sigma: float, taps: int, kernel_size: int) -> float:
    """Predicts the relative error of energies that comes of fewer taps."""
    sigma = sigma * _SIGMA_MARGIN
    envelope = _envelope(sigma, kernel_size)
    first = kernel_size // 2 - taps // 2
    missing = envelope.copy()
    missing[first : first + taps] *= 1 - _fade(taps, kernel_size)
    length = 2 ** math.ceil(math.log2(4 * kernel_size))
    power = _input_spectrum(sigma, length)
    lost, whole = (
        np.sum(power * np.abs(np.fft.fft(part, length)) ** 2)
        for part in (missing, envelope)
    )
    return math.sqrt(lost / whole)


def _output_spectrum(
    sigma: float, kernel_size: int, input_spectrum: np.ndarray
) -> np.ndarray:
    """Returns the power spectrum of a filter's output, of a mean of 1."""
    envelope = _envelope(sigma, kernel_size)
    response = np.fft.fft(envelope, len(input_spectrum))
    power = np.abs(response) ** 2 * input_spectrum
    return power / power.mean()


def _correlation(output_spectrum: np.ndarray) -> np.ndarray:
    """Returns the autocorrelation of a filter's energy, by lag, circular.

    Its output is taken for Gaussian: the energy's correlation is the square of
    the output's, plus that of its mean.
    """
    return 1 + np.abs(np.fft.ifft(output_spectrum)) ** 2


def _leaks(output_spectrum: np.ndarray, reach: float) -> np.ndarray:
    """Returns what bins further than `reach` add to an energy's spectrum.

    Up to the greatest of `_OFFSETS`; there is 0 beyond.
    """
    length = len(output_spectrum)
    leaks = np.zeros(length)
    for d in range(1, min(max(_OFFSETS), length // 2) + 1):
        middle = np.arange(length) + d / 2
        away = np.abs((middle + length / 2) % length - length / 2) > reach
        products = output_spectrum * np.roll(output_spectrum, -d)
        leaks[[d, -d]] = np.mean(products * away)
    return leaks


def _covariances(
    sigma: float, hop: int, samples: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the covariances from which samples predict a window's points.

    Args:
      sigma: in samples.
      hop: in samples.
      samples: `(n,)`, positions relative to the window's start.
      geometry: sizes.

    Returns:
      Two arrays, `(n, n)` among the samples and `(n, window_size)` with the
      points. The first's inverse times the second, times a window, gives the
      samples' weights.
    """
    white = np.ones(_spectrum_length(geometry, hop))
    correlation = _correlation(
        _output_spectrum(sigma, geometry.kernel_size, white)
    )
    among = correlation[samples[:, None] - samples]
    # Keeps the system regular where samples are close together.
    among[np.diag_indices_from(among)] += _NUGGET
    points = np.arange(geometry.window_size)
    return among, correlation[samples[:, None] - points]


def _sample_positions(hop: int, offset: int, window_size: int) -> np.ndarray:
    """Lists the samples that take part in a window, ascending.

    Args:
      hop: in samples.
      offset: from a sample to the window's start, `0 <= offset < hop`.
      window_size: in samples.
    """
    # Samples further out would help on noise, but energies may fall by orders
    # of magnitude within a window, and what lies outside must not leak in.
    last = (window_size - 1 + offset) // hop
    return np.arange(last + 1) * hop - offset


@functools.lru_cache(maxsize=4096)
def _decimation_error(
    sigma: float, width: float, hop: int, geometry: Geometry
) -> float:
    """Predicts the relative error of energies sampled every `hop` samples."""
    if hop == 1:
        return 0.0
    if 2 * hop <= sigma:
        # The closer the samples, the longer does it take to tell.
        error = _decimation_error(sigma, width, 2 * hop, geometry)
        if error < _NEGLIGIBLE:
            return error
    size = geometry.window_size
    samples = _sample_positions(hop, 0, size)
    windows = np.stack(
        [
            _window(width / _WIDTH_MARGIN, geometry),
            _window(width * _WIDTH_MARGIN, geometry),
        ]
    )
    # Solving for two windows is many times cheaper than for every point.
    among, with_points = _covariances(sigma, hop, samples, geometry)
    weights = np.linalg.solve(among, with_points @ windows.T).T
    length = _spectrum_length(geometry, hop)
    worst = 0.0
    for window, of_samples in zip(windows, weights, strict=True):
        difference = np.zeros(length)
        difference[:size] = window
        difference[samples] -= of_samples
        power = np.abs(np.fft.fft(difference)) ** 2
        for sigma_factor in (1 / _SIGMA_MARGIN, _SIGMA_MARGIN):
            actual = sigma * sigma_factor
            output = _output_spectrum(
                actual, geometry.kernel_size, _input_spectrum(actual, length)
            )
            spectrum = np.fft.fft(_correlation(output)).real
            variance = max(np.mean(power * spectrum), 0.0)
            worst = max(worst, math.sqrt(variance) / window.sum())
    return worst


@functools.lru_cache(maxsize=4096)
def _offsets_errors(
    sigma: float, width: float, geometry: Geometry
) -> tuple[float, ...]:
    """Predicts relative errors of leaving out bins further apart.

    Those of bins that the filter leaks into are left out from the far offsets
    on.

    Returns:
      One error for each of `_OFFSETS`.
    """
    length = geometry.fft_length
    distance = np.minimum(np.arange(length), length - np.arange(length))
    far = distance > np.array(_OFFSETS)[:, None]
    leaked = (distance > geometry.far_offsets) & ~far
    reach = _near(sigma, geometry) * length
    deviation = geometry.kernel_size * _BURST_LENGTH
    burst = np.exp(-((2 * np.pi * np.fft.fftfreq(length) * deviation) ** 2) / 2)
    worst = np.zeros(len(_OFFSETS))
    for width_factor in (1 / _WIDTH_MARGIN, _WIDTH_MARGIN):
        window = _window(width * width_factor, geometry)
        window_power = np.abs(np.fft.fft(window, length)) ** 2
        left_out = window_power * far
        for sigma_factor in (1 / _SIGMA_MARGIN, _SIGMA_MARGIN):
            actual = sigma * sigma_factor
            output = _output_spectrum(
                actual, geometry.kernel_size, _input_spectrum(actual, length)
            )
            spectrum = np.fft.fft(_correlation(output)).real
            steady = np.maximum(np.mean(left_out * spectrum, axis=1), 0)
            leaks = window_power * _leaks(output, reach)
            steady += np.mean(leaked * leaks, axis=1)
            # How much a burst counts too little or too much, by its place.
            energy = _envelope(actual, geometry.kernel_size) ** 2
            response = np.abs(np.fft.fft(energy, length) * burst) ** 2
            misplaced = np.sum(left_out * response, axis=1) / energy.sum() ** 2
            errors = np.sqrt(steady + _BURST**2 * misplaced) / window.sum()
            worst = np.maximum(worst, errors)
    return tuple(worst.tolist())


def _sparse_group(
    filters: np.ndarray,
    sigma: np.ndarray,
    hop: int,
    taps: int,
    geometry: Geometry,
) -> SparseGroup:
    phases = hop // math.gcd(hop, geometry.stride)
    offsets = [frame * geometry.stride % hop for frame in range(phases)]
    count = max(
        len(_sample_positions(hop, offset, geometry.window_size))
        for offset in offsets
    )
    positions = [
        range(-offset, count * hop - offset, hop) for offset in offsets
    ]
    weights = None
    if hop > 1:
        weights = np.array(
            [
                [_weights(one, hop, tuple(p), geometry) for p in positions]
                for one in sigma.tolist()
            ]
        )
    return SparseGroup(
        filters=tuple(filters.tolist()),
        hop=hop,
        first=geometry.kernel_size // 2 - taps // 2,
        fade=_fade(taps, geometry.kernel_size),
        phases=phases,
        starts=tuple(frame * geometry.stride // hop for frame in range(phases)),
        num_samples=count,
        weights=weights,
    )


@functools.lru_cache(maxsize=128)
def _weights(
    sigma: float, hop: int, samples: tuple[int, ...], geometry: Geometry
) -> np.ndarray:
    return np.linalg.solve(
        *_covariances(sigma, hop, np.array(samples), geometry)
    )
