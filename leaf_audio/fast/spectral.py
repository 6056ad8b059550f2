"""Computes the filters of spectral groups, from the spectra of frames.

Let X be the spectrum of all the audio that a frame depends on, G the frequency
response of a filter and W the spectrum of its pooling window. With `Y = X G`
the frame's pooled energy is `Σ_d W(d) Σ_k Y(k) Y*(k + d)`, a sum over bins k
and offsets d. It is computed as the product of two matrices: one holds
`X(k) X*(k + d)` and is the same for all filters; the other one holds
`W(d) G(k) G*(k + d)` and is the same for all frames. The plan's spectral groups
say up to which offset products are needed: up to a large one near the filters'
centre frequencies, up to a smaller one elsewhere.

Time is counted from the middle of a frame. Kernels and windows of odd length
are symmetric about it. G and W are then real, and only the real parts of the
products are needed. Those of even length need the imaginary parts too.

Frames whose window reaches over an end of the audio are computed at the full
rate.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.common.blocks import cut_into_blocks, frames_of_blocks
from leaf_audio.common.fourier import rfft
from leaf_audio.convolution.gabor import gabor_energies
from leaf_audio.fast.frame_grid import FrameGrid
from leaf_audio.fast.plan import Geometry, SpectralGroup, Tier, tiers
from leaf_audio.fast.window_weights import masked_windows

Tensor = Any
# A complex array as its real and its imaginary part; a real one as one part.
Parts = Sequence[Tensor]


class SpectralEnergies:
    """Computes the pooled energies of the filters of spectral groups.

    Args:
      groups: Spectral groups of a plan.
      geometry: Sizes that the plan was made for.
      grid: Positions of the frames.

    Attributes:
      filters: Positions of the filters in the filterbank, in the order of the
        outputs.
      reach: Number of samples needed from the first one for the last frame on.
    """

    def __init__(
        self,
        groups: Sequence[SpectralGroup],
        geometry: Geometry,
        grid: FrameGrid,
    ):
        self._geometry = geometry
        self._grid = grid
        self._middle_of_kernel = (geometry.kernel_size - 1) // 2
        self._middle_of_window = (geometry.window_size - 1) // 2
        # In this order, the filters that need a tier are always the first ones.
        groups = sorted(groups, key=lambda group: -group.max_offset)
        self.filters = [n for group in groups for n in group.filters]
        self._tiers = tiers(groups)
        self._strides = -(-geometry.frame_length // geometry.stride)
        self.reach = self._strides * geometry.stride

    def __call__(
        self,
        audio: Tensor,
        filters: tuple[Tensor, Tensor],
        widths: Tensor,
        masks: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Computes all frames, and the frames near an edge separately.

        Args:
          audio: `(batch, time)`, from the first sample that the first frame
            depends on.
          filters: Real and imaginary parts of the whole filterbank, each
            `(kernel_size, all filters)`.
          widths: Pooling widths of the filters, `(filters,)`.
          masks: Which samples of the windows lie in the audio; see
            `FrameGrid.window_masks`.

        Returns:
          Two arrays: `(batch, frames, filters)`, computed as if the audio had
          no edges, and `(batch, edges, filters)`, the frames near an edge; None
          if the grid has no such frames.
        """
        windows = masked_windows(widths, masks)
        order = np.array(self.filters, "int32")
        kernels = [ops.take(part, order, axis=1) for part in filters]
        frames = self._inner(audio, kernels, windows[..., 0])
        if not self._grid.num_first:
            return frames, None
        near_edges = self._grid.edge_windows(windows[..., 1:])
        return frames, self._edges(audio, kernels, near_edges)

    def _inner(
        self, audio: Tensor, kernels: list[Tensor], windows: Tensor
    ) -> Tensor:
        length = self._geometry.fft_length
        farthest = max(self._tiers[-1].offsets)
        bins = _Bins(length, farthest)
        real, imag = (
            # With the bin axis first, bins at an offset are one contiguous
            # slice.
            ops.transpose(ops.reshape(part, (-1, length // 2 + 1)))
            for part in rfft(self._framed(audio), length)
        )
        spectra = (
            bins.extended(real, real, axis=0),
            bins.extended(imag, imag, axis=0, sign=-1.0),
        )
        responses, mirrored = (
            [bins.extended(*parts, axis=1) for parts in zip(*pair, strict=True)]
            for pair in self._responses(kernels)
        )

        window_spectra = self._window_spectra(windows, farthest + 1)
        energies = 0.0
        for tier in self._tiers:
            count, offsets = tier.num_filters, tier.offsets
            weights = bins.weights(
                [part[:count] for part in responses],
                [part[:count] for part in mirrored],
                [
                    part[:count, offsets.start : offsets.stop]
                    for part in window_spectra
                ],
                tier,
            )
            products = bins.products(
                spectra, tier, real_only=self._geometry.symmetric
            )
            some = sum(map(ops.matmul, weights, products))
            others = len(self.filters) - count
            energies += ops.pad(some, [[0, others], [0, 0]])
        return ops.reshape(
            ops.transpose(ops.cast(energies, windows.dtype)),
            (
                ops.shape(audio)[0],
                self._grid.computed_frames,
                len(self.filters),
            ),
        )

    def _responses(
        self, kernels: list[Tensor]
    ) -> tuple[tuple[Parts, Parts], tuple[Parts, Parts]]:
        """Computes the filters' frequency responses.

        Args:
          kernels: Real and imaginary parts, each `(kernel_size, filters)`.

        Returns:
          Two pairs. The first holds the responses at bins k and at bins -k, for
          k from 0 to half the length; the second one those at -k and at k. Each
          response is its real part, `(filters, bins)`, followed by the
          imaginary part unless kernels are symmetric.
        """
        length = self._geometry.fft_length
        beyond = length - self._geometry.kernel_size
        real, imag = (
            rfft(
                ops.roll(
                    ops.pad(ops.transpose(part), [[0, 0], [0, beyond]]),
                    -self._middle_of_kernel,
                    axis=1,
                ),
                length,
            )
            for part in kernels
        )
        # Filters are complex, so the response at -k is not the conjugate of
        # that at k. Both follow from the spectra of the real and the imaginary
        # part of the kernel.
        above = [real[0] + imag[1]]
        below = [real[0] - imag[1]]
        if not self._geometry.symmetric:
            above.append(imag[0] - real[1])
            below.append(real[1] + imag[0])
        return (above, below), (below, above)

    def _window_spectra(self, windows: Tensor, bins: int) -> Parts:
        """Computes the first bins of the windows' spectra.

        Args:
          windows: `(filters, window_size)`.
          bins: Number of bins.

        Returns:
          The real part, `(filters, bins)`, followed by the imaginary part
          unless windows are symmetric.
        """
        times = np.arange(self._geometry.window_size) - self._middle_of_window
        phase: Any = times[:, None] * np.arange(bins)
        phase = 2 * np.pi * phase / self._geometry.fft_length
        parts = (np.cos(phase), -np.sin(phase))
        return [
            ops.matmul(windows, ops.cast(part, windows.dtype))
            for part in (parts[:1] if self._geometry.symmetric else parts)
        ]

    def _framed(self, audio: Tensor) -> Tensor:
        """Lays out frames as the transform takes them.

        A frame begins with its middle sample, and the samples before the middle
        come last. It is padded with zeros to the transform's length. Further
        audio instead of zeros would not do: where offsets are left out, it
        would leak into the frame, and may be louder than all of the frame.

        Args:
          audio: `(batch, time)`.

        Returns:
          An array `(batch, frames, fft_length)`.
        """
        stride, count = self._geometry.stride, self._grid.computed_frames
        blocks = cut_into_blocks(audio, stride, count + self._strides - 1)
        length = self._geometry.frame_length
        middle = self._middle_of_kernel + self._middle_of_window
        zero = ops.zeros_like(blocks[:, :count, :1])
        padding = ops.repeat(zero, self._geometry.fft_length - length, axis=-1)
        pieces = [
            *frames_of_blocks(blocks, count, middle, length),
            padding,
            *frames_of_blocks(blocks, count, 0, middle),
        ]
        return ops.concatenate(pieces, axis=-1)

    def _edges(
        self, audio: Tensor, kernels: list[Tensor], windows: list[Tensor]
    ) -> Tensor:
        """Computes the frames near an edge at the full rate."""
        geometry, grid = self._geometry, self._grid
        first, last = grid.ends(audio, geometry.frame_length)
        edges = []
        for end, some in (
            (first, windows[: grid.num_first]),
            (last, windows[grid.num_first :]),
        ):
            if not some:
                continue
            energies = gabor_energies(
                end[..., None], kernels[0], kernels[1], padding="valid"
            )
            for frame, window in enumerate(some):
                begin = frame * geometry.stride
                part = energies[:, begin : begin + geometry.window_size]
                edges.append(ops.sum(part * window, axis=1))
        return ops.stack(edges, axis=1)


def _times_conjugate(x: Parts, y: Parts) -> Parts:
    """Computes `x y*`, which is real if x and y are."""
    if len(x) == 1:
        return [x[0] * y[0]]
    (a, b), (c, d) = x, y
    return [a * c + b * d, b * c - a * d]


class _Bins:
    """Computes products of bins k and k + d, and their weights.

    For real audio, the product of bins -k - d and -k equals that of k and
    k + d. One of the two is computed and counts twice. If both are the same
    pair, it counts once. Spectra are extended by some bins below 0 and above
    half the length, for the pairs around these frequencies.

    Args:
      length: Length of the transform; even.
      max_offset: Greatest d.
    """

    def __init__(self, length: int, max_offset: int):
        self._length = length
        self._max_offset = max_offset
        self._added = (max_offset + 1) // 2
        self._count = length // 2 + 1 + 2 * self._added

    def extended(
        self, part: Tensor, opposite: Tensor, axis: int, sign: float = 1.0
    ) -> Tensor:
        """Extends a spectrum by bins on both sides, and by zeros at the end.

        The zeros are the partners k + d of the last bins.

        Args:
          part: Real or imaginary part at bins 0, 1, ... half the length.
          opposite: The same part at bins 0, -1, ..., up to its sign.
          axis: Axis of the bins, 0 or 1.
          sign: Factor for `opposite`, 1 or -1.

        Returns:
          The extended part.
        """

        def cut(x: Tensor, begin: int, end: int) -> Tensor:
            return x[begin:end] if axis == 0 else x[:, begin:end]

        added = self._added
        below, above = (
            sign * ops.flip(cut(opposite, begin, end), axis=axis)
            for begin, end in ((1, added + 1), (-1 - added, -1))
        )
        zeros = ops.zeros_like(cut(part, 0, self._max_offset))
        return ops.concatenate([below, part, above, zeros], axis=axis)

    def products(
        self, spectra: Parts, tier: Tier, real_only: bool
    ) -> list[Tensor]:
        """Computes the products of bins of a tier.

        Args:
          spectra: Real and imaginary parts of the frames' spectra, extended,
            each `(bins, frames)`.
          tier: The products to compute.
          real_only: Whether to leave out the imaginary parts of the products.

        Returns:
          Arrays `(bins, frames)`, in the order of `weights`: for each offset
          the real part, then the imaginary part if it is needed.
        """
        first, last = self._positions(tier)
        real, imag = (part[first:last] for part in spectra)
        products = []
        for d in tier.offsets:
            other_real, other_imag = (
                part[first + d : last + d] for part in spectra
            )
            products.append(real * other_real + imag * other_imag)
            if d and not real_only:
                products.append(imag * other_real - real * other_imag)
        return products

    def weights(
        self, responses: Parts, mirrored: Parts, windows: Parts, tier: Tier
    ) -> list[Tensor]:
        """Computes the weights of the products of a tier.

        Args:
          responses: Frequency responses of the filters, extended, each part
            `(filters, bins)`.
          mirrored: The same at bins -k.
          windows: Spectra of the windows, each part `(filters, offsets)`.
          tier: The products.

        Returns:
          Arrays `(filters, bins)`: for each offset the weight of the product's
          real part, then that of its imaginary part, unless kernels and windows
          are symmetric. An offset of 0 has a real part only.
        """
        first, last = self._positions(tier)
        # W(-d) is the conjugate of W(d), so the two add up to twice the real
        # part.
        share = np.zeros((len(tier.offsets), self._count))
        for row, d in zip(share, tier.offsets, strict=True):
            begin = self._added - d // 2
            end = begin + self._length // 2 - d % 2
            row[begin : end + 1] = 1.0 if d == 0 else 2.0
            if d % 2 == 0:
                row[[begin, end]] /= 2
        share = share[:, first:last] / self._length**2
        windows = [
            part[..., None] * ops.cast(share, part.dtype) for part in windows
        ]

        size = last - first

        def with_others(parts: Parts) -> Parts:
            parts = [part[:, first : last + self._max_offset] for part in parts]
            return _times_conjugate(
                [part[:, None, :size] for part in parts],
                [
                    ops.stack(
                        [part[:, d : d + size] for d in tier.offsets], axis=1
                    )
                    for part in parts
                ],
            )

        # G(k) G*(k + d), and the same for the pair of -k - d and -k, which is
        # the conjugate of that for -k and -k - d.
        pairs, opposite = map(with_others, (responses, mirrored))
        real = pairs[0] + opposite[0]
        if len(pairs) == 1:
            return ops.unstack(windows[0] * real, axis=1)
        imag = pairs[1] - opposite[1]
        w, v = windows
        of_real = ops.unstack(w * real - v * imag, axis=1)
        of_imag = ops.unstack(-(v * real + w * imag), axis=1)
        parts = zip(tier.offsets, of_real, of_imag, strict=True)
        return [
            part for d, re, im in parts for part in ((re, im) if d else (re,))
        ]

    def _positions(self, tier: Tier) -> tuple[int, int]:
        """Returns the positions of a tier's first and end bin."""
        first, last = (
            min(max(bin_ + self._added, 0), self._count) for bin_ in tier.bins
        )
        return first, last
