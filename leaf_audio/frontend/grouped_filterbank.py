"""EfficientLEAF's filterbank: filters in groups, of unlike lengths and rates.

Filters of neighbouring centre frequencies form a group. Its filters are as long
as its widest deviation asks for, and its energies are computed as many samples
apart as its highest centre frequency allows; the pooling window is resampled to
that rate. EfficientLEAF, arXiv:2207.05508, section 3.

The published system reads lengths and strides off the weights in each step.
Here a static plan holds them, so that graphs can be compiled. Lengths, strides
and hops are in samples, centre frequencies in rad/sample.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.lean_ops import reorder
from leaf_audio.convolution import GaborConv1D
from leaf_audio.convolution.gabor import gabor_energies
from leaf_audio.fast.plan_following import PlanFollower
from leaf_audio.frontend.base import zero_where_masked
from leaf_audio.pooling import GaussianLowpass, pool

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Grouping:
    """The settings that a plan follows.

    Attributes:
      num_groups: number of groups.
      window_size: of the pooling at full rate, in samples.
      stride: between frames, in samples.
      conv_win_factor: length of a group's filters, over its widest deviation.
      stride_factor: hop, over half the period of the highest centre frequency.
    """

    num_groups: int
    window_size: int
    stride: int
    conv_win_factor: float
    stride_factor: float


@dataclasses.dataclass(frozen=True)
class FilterGroup:
    """Filters that are computed alike.

    Attributes:
      filters: which ones, by position.
      kernel_size: length of the filters, in samples.
      hop: between energies, in samples; divides the stride.
      window_size: of the pooling, in energies.
    """

    filters: tuple[int, ...]
    kernel_size: int
    hop: int
    window_size: int


@dataclasses.dataclass(frozen=True, eq=False)
class GroupedPlan:
    """Which filters are computed together, and how.

    Attributes:
      parameters: `(filters, 2)`, centre frequencies in rad/sample and
        deviations in samples, which it was made for.
      groups: cover each filter once.
      grouping: the settings that it follows.
    """

    parameters: np.ndarray
    groups: tuple[FilterGroup, ...]
    grouping: Grouping

    def has_room(self, parameters: np.ndarray) -> bool:
        """Tells whether a plan for other parameters would be the same."""
        return make_plan(parameters, self.grouping).groups == self.groups


def make_plan(parameters: np.ndarray, grouping: Grouping) -> GroupedPlan:
    """Groups filters and chooses their lengths and hops.

    Args:
      parameters: `(filters, 2)`, centre frequencies and deviations. What is not
        finite counts as 0.
      grouping: the settings.

    Raises:
      ValueError: a deviation is negative.
    """
    parameters = np.nan_to_num(parameters, posinf=0.0, neginf=0.0)
    centre, sigma = parameters.T
    if np.any(sigma < 0):
        raise ValueError(
            "Filters to plan for must not have negative deviations. Received: "
            f"{parameters.tolist()}."
        )
    groups = []
    order = np.argsort(centre, kind="stable")
    for filters in split(order, grouping.num_groups):
        hop = _hop(centre[filters].max(), grouping)
        kernel_size = int(sigma[filters].max() * grouping.conv_win_factor)
        groups.append(
            FilterGroup(
                # Within a group, the weights' order is as good as any.
                filters=tuple(np.sort(filters).tolist()),
                kernel_size=odd(kernel_size),
                hop=hop,
                window_size=odd(int(grouping.window_size / hop + 0.5)),
            )
        )
    return GroupedPlan(parameters, tuple(groups), grouping)


def split(filters: np.ndarray, num_groups: int) -> list[np.ndarray]:
    """Splits filters into groups that differ by one filter at most."""
    edges = np.arange(num_groups + 1) * len(filters) // num_groups
    return np.split(filters, edges[1:-1])


def odd(size: int) -> int:
    """Returns a size, or the next one where it is even."""
    return size + 1 - size % 2


def _hop(centre: float, grouping: Grouping) -> int:
    longest = max(grouping.stride_factor * np.pi / max(centre, 1e-9), 1)
    stride = grouping.stride
    return max(
        hop
        for hop in range(1, stride + 1)
        if stride % hop == 0 and hop <= longest
    )


class GroupedFilterbank(PlanFollower):
    """Computes pooled energies of Gabor filters, group by group.

    Plans are made for centre frequencies and deviations.

    Args:
      convolve: holds the filters' weights.
      pool: holds the pooling widths, as a share of half its window.
      num_groups: number of groups.
      conv_win_factor: see `Grouping`.
      stride_factor: see `Grouping`.
    """

    num_parameters = 2

    def __init__(
        self,
        convolve: GaborConv1D,
        pool: GaussianLowpass,
        num_groups: int,
        conv_win_factor: float,
        stride_factor: float,
    ):
        super().__init__([convolve])
        self._convolve = convolve
        self._pool = pool
        self._grouping = Grouping(
            num_groups,
            pool.kernel_size,
            pool.strides,
            conv_win_factor,
            stride_factor,
        )

    def _parameters(self) -> Tensor:
        return self._convolve.constrained_kernel()

    def _plan_for(self, parameters: np.ndarray) -> GroupedPlan:
        return make_plan(parameters, self._grouping)

    def __call__(self, audio: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes pooled energies.

        Args:
          audio: `(batch, time, 1)`, zero where masked.
          mask: `(batch, time)`, or None. Energies count as 0 where it is False.

        Returns:
          An array `(batch, frames, filters)`; frame m is centred on sample
          `m * stride`.
        """
        self._look_at_weights()
        kernel = self._convolve.constrained_kernel()
        widths = self._pool.widths()
        groups = self._plan.groups
        pooled = []
        for group in groups:
            filters = np.array(group.filters, "int32")
            some = ops.take(kernel, filters, axis=0)
            energies = gabor_energies(
                audio,
                *impulse_responses.gabor_filters(
                    some[:, 0], some[:, 1], group.kernel_size
                ),
                strides=group.hop,
            )
            if mask is not None:
                energies = zero_where_masked(energies, mask[:, :: group.hop])
            windows = self._windows(group, ops.take(widths, filters))
            hops = self._grouping.stride // group.hop
            pooled.append(pool(energies, windows, hops, "centred"))
        order = np.concatenate([group.filters for group in groups])
        outputs = ops.concatenate(pooled, axis=-1)
        return reorder(outputs, np.argsort(order), axis=-1)

    def _windows(self, group: FilterGroup, widths: Tensor) -> Tensor:
        # A share of half the window stays as many samples when that is rounded.
        size = self._grouping.window_size
        rounding = size / (group.hop * group.window_size)
        return impulse_responses.gaussian_windows(
            widths * rounding, group.window_size
        )
