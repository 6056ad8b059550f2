"""EfficientLEAF's filterbank: groups of filters with their own length and hop.

Filters with neighbouring centre frequencies form a group. The filters of a
group have the same length, which follows from the largest standard deviation
among them. Their energies are computed with the same hop, which follows from
the highest centre frequency. The pooling window is resampled to that rate.

The published system computes lengths and hops from the weights in each step.
Here a plan holds them as Python numbers, so that a graph can be compiled.

Lengths, hops and strides are in samples, standard deviations too, and centre
frequencies in rad/sample.

Reference: EfficientLEAF, arXiv:2207.05508, section 3.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from leaf_audio import impulse_responses
from leaf_audio.common.framing import is_before, zero_where_masked
from leaf_audio.common.lean_ops import reorder
from leaf_audio.convolution import GaborConv1D
from leaf_audio.convolution.gabor import gabor_energies
from leaf_audio.fast.plan_following import PlanFollower
from leaf_audio.pooling import GaussianLowpass, pool

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Settings from which a plan is made.

    Attributes:
      num_groups: Number of groups.
      window_size: Length of the pooling window, in samples.
      stride: Hop between frames, in samples.
      conv_win_factor: Length of the filters of a group, divided by the largest
        standard deviation in it.
      stride_factor: Largest hop between energies, divided by half the period
        of the highest centre frequency in the group.
    """

    num_groups: int
    window_size: int
    stride: int
    conv_win_factor: float
    stride_factor: float


@dataclasses.dataclass(frozen=True)
class FilterGroup:
    """Filters that are computed with the same length and hop.

    Attributes:
      filters: Positions of the filters among the weights, in ascending order.
      kernel_size: Length of the filters, in samples; odd.
      hop: Distance between energies, in samples. It divides the stride.
      window_size: Length of the pooling window, in energies; odd.
    """

    filters: tuple[int, ...]
    kernel_size: int
    hop: int
    window_size: int


@dataclasses.dataclass(frozen=True, eq=False)
class GroupedPlan:
    """Which filters are computed together, and with which length and hop.

    Attributes:
      parameters: Array of shape `(filters, 2)`: the centre frequencies in
        rad/sample and the standard deviations in samples for which the plan
        was made.
      groups: The groups. Each filter belongs to one of them.
      grouping: The settings from which the plan was made.
    """

    parameters: np.ndarray
    groups: tuple[FilterGroup, ...]
    grouping: Grouping

    def has_room(self, parameters: np.ndarray) -> bool:
        """Returns whether a plan for other parameters would be the same."""
        return make_plan(parameters, self.grouping).groups == self.groups


def make_plan(parameters: np.ndarray, grouping: Grouping) -> GroupedPlan:
    """Groups filters, and chooses a length and a hop for each group.

    Args:
      parameters: Array of shape `(filters, 2)`: centre frequencies in
        rad/sample and standard deviations in samples. NaN and infinity count
        as 0.
      grouping: Settings.

    Returns:
      The plan.

    Raises:
      ValueError: If a standard deviation is negative.
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
    for filters in _split_evenly(order, grouping.num_groups):
        hop = _hop(centre[filters].max(), grouping)
        kernel_size = int(sigma[filters].max() * grouping.conv_win_factor)
        window_size = int(grouping.window_size / hop + 0.5)
        groups.append(
            FilterGroup(
                # The order within a group has no effect on the result.
                filters=tuple(np.sort(filters).tolist()),
                kernel_size=round_up_to_odd(kernel_size),
                hop=hop,
                window_size=round_up_to_odd(window_size),
            )
        )
    return GroupedPlan(parameters, tuple(groups), grouping)


def _split_evenly(filters: np.ndarray, num_groups: int) -> list[np.ndarray]:
    """Splits filters into groups whose sizes differ by at most one."""
    edges = np.arange(num_groups + 1) * len(filters) // num_groups
    return np.split(filters, edges[1:-1])


def round_up_to_odd(size: int) -> int:
    """Returns `size` if it is odd, otherwise `size + 1`."""
    return size + 1 - size % 2


def _hop(centre: float, grouping: Grouping) -> int:
    """Returns the largest divisor of the stride that the centre allows."""
    longest = max(grouping.stride_factor * np.pi / max(centre, 1e-9), 1)
    stride = grouping.stride
    return max(
        hop
        for hop in range(1, stride + 1)
        if stride % hop == 0 and hop <= longest
    )


class GroupedFilterbank(PlanFollower):
    """Computes the pooled energies of Gabor filters, group by group.

    The parameters that a plan is made for are the centre frequency and the
    standard deviation of each filter.

    Args:
      convolve: Layer that holds the filters' weights. It is not called.
      pool: Layer that holds the pooling widths. It is not called.
      num_groups: Number of groups.
      conv_win_factor: See `Grouping`.
      stride_factor: See `Grouping`.
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
            num_groups=num_groups,
            window_size=pool.kernel_size,
            stride=pool.strides,
            conv_win_factor=conv_win_factor,
            stride_factor=stride_factor,
        )

    def _parameters(self) -> Tensor:
        return self._convolve.constrained_kernel()

    def _plan_for(self, parameters: np.ndarray) -> GroupedPlan:
        return make_plan(parameters, self._grouping)

    def __call__(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Computes pooled energies.

        Args:
          audio: Waveforms of shape `(batch, time, 1)`, with zeros after the
            end of each clip.
          lengths: Int32 tensor of shape `(batch,)`, the lengths of the clips;
            or None if all are as long as the batch. Energies after the end of a
            clip count as 0.

        Returns:
          A tensor of shape `(batch, frames, filters)`. Frame m is centred on
          sample `m * stride`.
        """
        self._look_at_weights()
        kernel = self._convolve.constrained_kernel()
        widths = self._pool.widths()
        groups = self._plan.groups
        pooled = []
        for group in groups:
            filters = np.array(group.filters, "int32")
            parameters = ops.take(kernel, filters, axis=0)
            energies = gabor_energies(
                audio,
                *impulse_responses.gabor_filters(
                    parameters[:, 0], parameters[:, 1], group.kernel_size
                ),
                strides=group.hop,
            )
            if lengths is not None:
                count = ops.shape(energies)[1]
                energies = zero_where_masked(
                    energies, is_before(lengths, count, step=group.hop)
                )
            windows = self._windows(group, ops.take(widths, filters))
            hops = self._grouping.stride // group.hop
            pooled.append(pool(energies, windows, hops, "centred"))
        order = np.concatenate([group.filters for group in groups])
        outputs = ops.concatenate(pooled, axis=-1)
        return reorder(outputs, np.argsort(order), axis=-1)

    def reaches(self) -> list[tuple[int, int]]:
        """Lists the audio that a frame depends on, for each group.

        Returns:
          For each group, how many samples before sample `m * stride` the audio
          of frame m begins, and how many after it the audio ends.
        """
        return [
            (half + group.kernel_size // 2, half + group.kernel_size // 2 + 1)
            for group in self._plan.groups
            # Kernels and windows are of odd length and centred.
            for half in [group.window_size // 2 * group.hop]
        ]

    def _windows(self, group: FilterGroup, widths: Tensor) -> Tensor:
        # Widths are relative to half the window. The resampled window is
        # rounded to an odd length; this factor keeps the widths in samples.
        size = self._grouping.window_size
        rounding = size / (group.hop * group.window_size)
        return impulse_responses.gaussian_windows(
            widths * rounding, group.window_size
        )
