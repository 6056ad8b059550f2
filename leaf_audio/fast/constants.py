"""The constants behind a plan, each with the benchmark that measures it.

Costs are in multiply-adds per sample of audio. One multiply-add is the time
that one multiply-add of a group's convolution takes. Errors are relative, σ is
the standard deviation of a Gabor filter in samples.

`benchmarks/plan_constants.py --constant=NAME` measures the constant NAME. The
name of the function that does so stands in brackets at each constant.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PlanConstants:
    """Numbers that plans depend on and that no formula gives."""

    # Costs of a plan.

    # Fixed cost of one more group of filters: its share of the calls of
    # operations, forward and backward. [fit_group_cost]
    group_cost: float = 80.0

    # Fixed cost of computing the spectra of all frames. [fit_spectral_costs]
    spectra_cost: float = 800.0

    # Cost of one product of two bins, computed once for all filters, as a
    # multiple of the cost of adding it up for one filter. [fit_spectral_costs]
    products_cost: float = 60.0

    # Filters that one convolution pools, unless a group has more. Only those
    # products count where an energy belongs to the filter, so its cost grows
    # with the square of this number; more filters mean fewer calls.
    # [compare_values]
    channels_pooled_together: int = 16

    # Greatest number of taps of the convolution that computes a group, after
    # the samples of a step have become channels. Convolution libraries are
    # slower with more taps and fewer channels. [compare_values]
    max_conv_taps: int = 13

    # Least number of channels of that convolution, real and imaginary parts
    # together. It computes 16 channels in the time of fewer. [compare_values]
    min_conv_channels: int = 16

    # Errors of a plan.

    # The predicted input is louder away from a filter's band by this ratio of
    # power (20 dB), because in real audio quiet bands lie next to loud ones.
    # [compare_values]
    input_excess: float = 100.0

    # Distance from the centre frequency at which the input becomes louder, in
    # standard deviations of the filter's frequency response. [compare_values]
    input_excess_distance: float = 3.0

    # Factor on the predicted error of a shortened kernel. The error is greatest
    # where the filter's band is silent. A stationary input has no silence, so
    # the prediction misses it. [compare_values, with --audio]
    truncation_weight: float = 2.0

    # Share of a shortened kernel that is tapered, at each end.
    # [compare_values]
    taper_share: float = 0.2

    # Bins further than this from a filter's centre are bins that it only leaks
    # into. In cycles per sample, times the kernel's length. [compare_values]
    near_distance: float = 8.0

    # Bins within this many standard deviations of the filter's response are
    # always near. [compare_values]
    near_deviations: float = 6.0

    # Greatest offset between bins that a filter only leaks into, in cycles per
    # sample, times the window's length. It does not depend on the tolerance:
    # the leakage of a loud tone swells and fades, and with fewer offsets it
    # would be smeared over time. [compare_values, with --audio]
    far_offset: float = 2.5

    # Filters are computed from spectra only if their kernel ends within this
    # many σ of its middle. With longer kernels the error in quiet bands is too
    # large: a frame that begins or ends in loud audio has noise in all bands,
    # and leaving out offsets lets this noise into the window.
    # [compare_values, with --audio]
    max_spectral_deviations: float = 3.5

    # A burst outside the pooling window is assumed to be louder by this ratio
    # of power. With this and the next value, 64 to 128 filters err on speech
    # about as much as 40 do. [compare_values, with --audio; also
    # `benchmarks/leaf_error.py --n_filters=80`]
    burst_ratio: float = 30.0

    # Standard deviation of that burst, as a share of the kernel's length.
    # [compare_values, with --audio]
    burst_length: float = 1 / 40

    # What the search may choose from: finer ladders give cheaper plans and take
    # longer to search.

    # Ratio of neighbouring kernel lengths. [compare_values]
    taps_ratio: float = 1.19

    # Kernels are not shortened to fewer taps than about this. [compare_values]
    min_taps: int = 16

    # Greatest offsets between bins to choose from. More offsets would take much
    # memory. [compare_values]
    offsets: tuple[int, ...] = (4, 6, 8, 12, 16, 24)

    # How far parameters may move before a plan no longer holds. These are
    # choices: greater margins make plans last longer and cost more.
    # [compare_values gives the cost]

    # Factor by which σ may grow or shrink. Training moves σ by one or two
    # percent within an epoch.
    sigma_margin: float = 1.04

    # Factor by which a pooling width may grow or shrink. Training moves widths
    # by tens of percent within an epoch.
    width_margin: float = 2.0

    # Distance by which a centre frequency may move, in cycles per sample, times
    # the kernel's length. It is 240 Hz for LEAF's kernels at 16 kHz. It matters
    # only for filters that are computed from spectra.
    centre_margin: float = 6.0

    # Share of a margin that may be used up before a new plan is made. At 1, a
    # parameter that hovers around its margin would be computed at the full rate
    # in every other step.
    usable_margin: float = 0.9

    # Plans are made for σ and widths on a geometric grid of this ratio, so that
    # predicted errors can be reused.
    parameter_grid: float = 1.02


CONSTANTS = PlanConstants()
