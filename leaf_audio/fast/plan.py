"""What a plan is: groups of filters, and how each group is computed.

A plan is static data in NumPy. It is made from the filters' parameters by
`search`, and followed by `decimation` (sparse groups) and `spectral` (spectral
groups). README.md in this folder explains both ways to compute a filter.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from leaf_audio.fast.constants import CONSTANTS

# How far the standard deviation and the pooling width may move, as factors.
_MARGINS = np.array([CONSTANTS.sigma_margin, CONSTANTS.width_margin])


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes that a plan is made for.

    Attributes:
      kernel_size: Length of the filters' kernels, in samples.
      window_size: Length of the pooling windows, in samples.
      stride: Distance between neighbouring frames, in samples.
    """

    kernel_size: int
    window_size: int
    stride: int

    @property
    def symmetric(self) -> bool:
        """Whether kernels and windows have a middle sample.

        Both lengths are then odd, and the spectra of envelopes and windows are
        real.
        """
        return bool(self.kernel_size % 2 and self.window_size % 2)

    @property
    def parts_per_product(self) -> int:
        """Number of parts of a product of two bins that are needed.

        1, the real part, for symmetric kernels and windows; else 2, the real
        and the imaginary part.
        """
        return 1 if self.symmetric else 2

    @property
    def frame_length(self) -> int:
        """Number of samples of audio that one frame depends on."""
        return self.kernel_size + self.window_size - 1

    @property
    def strides_per_window(self) -> int:
        """Number of strides that a window reaches into."""
        return -(-self.window_size // self.stride)

    def energies_per_stride(self, hop: int) -> int:
        """Returns how many energies are computed within one stride."""
        return -(-self.stride // hop)

    def first_energy(self, hop: int) -> int:
        """Returns how many samples after its start a stride's energies begin.

        The last sample of a window then has an energy. With causal padding, it
        is the only one of the first window that lies inside the audio.
        Energies before the audio say little about it.

        Args:
          hop: Distance between two energies, in samples.
        """
        return (self.window_size - 1) % self.stride % hop

    def sample_positions(self, hop: int) -> np.ndarray:
        """Lists the positions of the energies that a window uses, ascending.

        Energies outside the window would make predictions better on noise. They
        are left out because real energies may differ by orders of magnitude
        within a window, and a loud one outside must not leak into it.

        Args:
          hop: Distance between two energies, in samples.

        Returns:
          Positions in samples, counted from the window's start. They begin anew
          with each stride.
        """
        starts = np.arange(0, self.window_size, self.stride)
        own = np.arange(0, self.stride, hop) + self.first_energy(hop)
        found = (starts[:, None] + own).reshape(-1)
        return found[found < self.window_size]

    @property
    def far_offset(self) -> int:
        """Greatest offset, in bins, between bins that a filter leaks into."""
        return round(CONSTANTS.far_offset * self.fft_length / self.window_size)

    @property
    def fft_length(self) -> int:
        """Length of the transform of a frame.

        The least even number that holds a frame and has no prime factor above
        7, for which transforms are fast.
        """
        length = self.frame_length + self.frame_length % 2
        while not _has_small_factors(length):
            length += 2
        return length


def _has_small_factors(length: int) -> bool:
    for factor in (2, 3, 5, 7):
        while length % factor == 0:
            length //= factor
    return length == 1


@dataclasses.dataclass(frozen=True, eq=False)
class SparseGroup:
    """Filters that are computed from energies sampled at the same hop.

    A filter's energy is computed at every `hop`-th sample only. A frame is the
    weighted sum of the energies that lie within its window. The weights replace
    the pooling window at full rate; they are the product of a matrix, which the
    plan holds, and the window, which is learned.

    Energies begin anew with each stride, so that all frames have the same
    weights even if the hop does not divide the stride. They are placed so that
    the last sample of a window has one (`Geometry.first_energy`).

    Attributes:
      filters: Positions of the group's filters in the filterbank.
      hop: Distance between two energies, in samples.
      first_tap: Index of the first kernel tap that is used.
      taper: `(taps,)`, factors for the taps from `first_tap` on. Shortened
        kernels fade to 0 at both ends.
      widths: `(filters,)`, the pooling widths that the plan was made for, as a
        share of half the window.
      weight_matrices: `(filters, energies of a frame, window_size)`. Times a
        pooling window they give the weights of the energies. None for a hop of
        1, where the window itself is the weights.
    """

    filters: tuple[int, ...]
    hop: int
    first_tap: int
    taper: np.ndarray
    widths: np.ndarray
    weight_matrices: np.ndarray | None


def ownership(groups: Sequence[SparseGroup], geometry: Geometry) -> np.ndarray:
    """Says which filter each channel of the energies belongs to.

    The channels of a group are its energies within a stride, each for all of
    its filters.

    Args:
      groups: The groups, one after the other.
      geometry: Sizes that they were made for.

    Returns:
      A Boolean array `(channels, filters)`, of all groups.
    """
    owners = np.concatenate(
        [
            np.tile(group.filters, geometry.energies_per_stride(group.hop))
            for group in groups
        ]
    )
    filters = [n for group in groups for n in group.filters]
    return np.equal(owners[:, None], filters)


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralGroup:
    """Filters that are computed from the spectra of frames.

    Their frames are weighted sums of products of two bins, k and k + d. The
    distance d is called the offset.

    Attributes:
      filters: Positions of the group's filters in the filterbank.
      bands: Pairs `(max_offset, (first_bin, end_bin))` in ascending order of
        `max_offset`. Products with an offset above that of the band before, and
        up to `max_offset`, are computed for the bins from `first_bin`, which
        may be negative, to `end_bin - 1`.
    """

    filters: tuple[int, ...]
    bands: tuple[tuple[int, tuple[int, int]], ...]

    @property
    def max_offset(self) -> int:
        """Greatest offset of two bins whose product is computed."""
        return self.bands[-1][0]

    def bins(self, offset: int) -> tuple[int, int]:
        """Returns the bins whose products with an offset are computed.

        Args:
          offset: Distance between two bins, at most `max_offset`.

        Returns:
          The first bin, and one more than the last.
        """
        return next(bins for most, bins in self.bands if most >= offset)


@dataclasses.dataclass(frozen=True)
class Tier:
    """Products of bins that the same filters need.

    Attributes:
      offsets: Distances between the two bins of a product.
      bins: The first bin, and one more than the last; of the lower of the two
        bins of a product.
      num_filters: Number of filters that need these products. They are the
        filters of the groups with the greatest `max_offset`.
    """

    offsets: range
    bins: tuple[int, int]
    num_filters: int


def tiers(groups: Sequence[SpectralGroup]) -> list[Tier]:
    """Lists the products of bins that groups need, each product once.

    Args:
      groups: Groups of one plan, in any order.

    Returns:
      Tiers in ascending order of their offsets.
    """
    found = []
    first = 0
    for offset in sorted({most for group in groups for most, _ in group.bands}):
        some = [group for group in groups if group.max_offset >= offset]
        starts, ends = zip(*(group.bins(offset) for group in some), strict=True)
        count = sum(len(group.filters) for group in some)
        bins = (min(starts), max(ends))
        found.append(Tier(range(first, offset + 1), bins, count))
        first = offset + 1
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Says how to compute a filterbank, and where that is accurate.

    Attributes:
      parameters: `(filters, 3)`, the parameters that the plan was made for:
        standard deviations in samples, pooling widths as a share of half the
        window, and centre frequencies in rad/sample.
      centre_margins: `(filters,)`, by how much a centre frequency may move, in
        rad/sample. Infinite for filters of sparse groups, whose error does not
        depend on it.
      groups: The groups. Each filter is in exactly one of them.
    """

    parameters: np.ndarray
    centre_margins: np.ndarray
    groups: tuple[SparseGroup | SpectralGroup, ...]

    def bounds(self, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Returns the least and the greatest parameters for which it holds.

        Args:
          share: Share of the margins that may be used up.

        Returns:
          Two arrays of the shape of `parameters`.
        """
        widths, centres = self.parameters[:, :2], self.parameters[:, 2]
        factors, distances = _MARGINS**share, share * self.centre_margins
        return (
            np.column_stack([widths / factors, centres - distances]),
            np.column_stack([widths * factors, centres + distances]),
        )

    def has_room(self, parameters: np.ndarray) -> bool:
        """Returns whether the plan holds for parameters, with room to spare.

        Args:
          parameters: `(filters, 3)`, in the units of `Plan.parameters`.

        Returns:
          True if each parameter lies well within the margins: they would have
          to move further before the plan no longer holds.
        """
        lowest, highest = self.bounds(CONSTANTS.usable_margin)
        inside = (lowest <= parameters) & (parameters <= highest)
        return bool(np.all(inside))
