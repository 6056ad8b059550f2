"""Pooled energies of complex filters, from the spectra of frames.

Let X be the spectrum of all the audio that a frame's pooled energy depends on,
G a filter's response and W the spectrum of its pooling window. Then the
energy is `Σ_d W(d) Σ_k Y(k) Y*(k + d)` with `Y = X G`. It is computed as the
product of two matrices: `X(k) X*(k + d)`, the same for all filters, with
`W(d) G(k) G*(k + d)`, the same for all frames. What `planning` has planned for
spectral groups says how great a distance d matters: near the filters' centres,
and, less, elsewhere.

Frames whose window reaches over an end of the audio are computed sample by
sample.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.convolution import gabor_energies
from leaf_audio.frame_grid import FrameGrid
from leaf_audio.planning import Geometry, SpectralGroup, Tier, tiers

Tensor = Any
Complex = tuple[Tensor, Tensor]


class SpectralEnergies:
    """Computes the pooled energies of the filters of spectral groups.

    Args:
      groups: of a plan.
      geometry: sizes, the plan's.
      grid: the frames.

    Attributes:
      filters: which ones, by position, in the order of the answers.
      start: the first sample of audio that is needed, in the grid's time.
      reach: samples needed after the start of the last frame's window.
    """

    def __init__(
        self,
        groups: Sequence[SpectralGroup],
        geometry: Geometry,
        grid: FrameGrid,
    ):
        self._geometry = geometry
        self._grid = grid
        # Those that a tier counts for are then the first ones.
        groups = sorted(groups, key=lambda group: -group.offsets)
        self.filters = [n for group in groups for n in group.filters]
        self._tiers = tiers(groups)
        # A "same" convolution puts tap (kernel_size - 1) // 2 on the sample.
        self.start = -((geometry.kernel_size - 1) // 2)
        self._strides = -(-geometry.fft_length // geometry.stride)
        self.reach = self._strides * geometry.stride

    def __call__(
        self, audio: Tensor, kernels: Tensor, windows: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Computes all frames, and those near an edge apart.

        Args:
          audio: `(batch, time)`, from `start` on.
          kernels: `(kernel_size, 2, filters)`, real and imaginary parts.
          windows: `(filters, window, 1 + edges)`; see `FrameGrid.windowing`.

        Returns:
          Two arrays, `(batch, frames, filters)` as if the audio had no edges,
          and `(batch, edges, filters)`, None where there are none.
        """
        inside, *near_edges = ops.unstack(windows, axis=-1)
        kernels = ops.unstack(kernels, axis=1)
        frames = self._inner(audio, kernels, inside)
        if not self._grid.num_edges:
            return frames, None
        return frames, self._edges(audio, kernels, near_edges)

    def _inner(
        self, audio: Tensor, kernels: list[Tensor], windows: Tensor
    ) -> Tensor:
        length = self._geometry.fft_length
        bins = _Bins(length, max(self._tiers[-1].distances))
        spectra = tuple(
            # Bins first: those at a distance are a part of the same memory.
            ops.transpose(ops.reshape(part, (-1, length // 2 + 1)))
            for part in ops.rfft(self._framed(audio), fft_length=length)
        )
        real, imag = spectra
        spectra = (
            bins.extended(real, real, axis=0),
            bins.extended(imag, imag, axis=0, sign=-1.0),
        )

        real, imag = (
            ops.rfft(ops.transpose(part), fft_length=length) for part in kernels
        )
        # The response at -k is not the conjugate of that at k: filters are
        # complex. Both are had from the spectra of their parts.
        below = (real[0] - imag[1], real[1] + imag[0])
        above = (real[0] + imag[1], imag[0] - real[1])
        responses, mirrored = (
            tuple(map(functools.partial(bins.extended, axis=1), one, other))
            for one, other in ((above, below), (below, above))
        )

        energies = 0.0
        for tier in self._tiers:
            count = tier.num_filters
            weights = bins.weights(
                tuple(part[:count] for part in responses),
                tuple(part[:count] for part in mirrored),
                _window_spectrum(windows[:count], tier.distances, length),
                tier,
            )
            products = bins.products(spectra, tier)
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

    def _framed(self, audio: Tensor) -> Tensor:
        """Lays out frames, as long as the transform.

        That is longer than what counts, which is the same for all that the
        filters make of the samples within the window.
        """
        stride, count = self._geometry.stride, self._grid.computed_frames
        blocks = count + self._strides - 1
        blocked = ops.reshape(
            audio[:, : blocks * stride],
            (ops.shape(audio)[0], blocks, stride),
        )
        rest = self._geometry.fft_length - (self._strides - 1) * stride
        last = blocked[:, self._strides - 1 :, :rest]
        return ops.concatenate(
            [
                *(blocked[:, k : k + count] for k in range(self._strides - 1)),
                last,
            ],
            axis=-1,
        )

    def _edges(
        self, audio: Tensor, kernels: list[Tensor], windows: list[Tensor]
    ) -> Tensor:
        geometry, count = self._geometry, self._grid.num_edges
        length = (count - 1) * geometry.stride + geometry.frame_length
        last = (self._grid.computed_frames - count) * geometry.stride
        ends = (audio[:, :length], audio[:, last : last + length])
        edges = []
        for end, first in zip(ends, (0, count), strict=True):
            energies = gabor_energies(end[..., None], *kernels, padding="valid")
            for frame in range(count):
                begin = frame * geometry.stride
                window = ops.transpose(windows[first + frame])
                part = energies[:, begin : begin + geometry.window_size]
                edges.append(ops.sum(part * window, axis=1))
        return ops.stack(edges, axis=1)


def _window_spectrum(windows: Tensor, bins: range, length: int) -> Complex:
    """Computes some bins of the spectra of `(filters, window)`."""
    phase = np.arange(windows.shape[1])[:, None] * np.array(bins)
    phase = 2 * np.pi * phase / length
    return tuple(
        ops.matmul(windows, ops.cast(part, windows.dtype))
        for part in (np.cos(phase), -np.sin(phase))
    )


class _Bins:
    """Bins of a spectrum, and which pairs of them, `k` and `k + d`, count.

    The pair of `-k - d` and `-k` is for real audio the same again, so one of
    the two is enough; where they are one pair, it counts once. A spectrum goes
    on by some bins on both sides, for pairs around 0 and half the length.

    Args:
      length: of the transform; even.
      offsets: greatest d.
    """

    def __init__(self, length: int, offsets: int):
        self._length = length
        self._offsets = offsets
        self._added = (offsets + 1) // 2
        self._count = length // 2 + 1 + 2 * self._added

    def extended(
        self, part: Tensor, opposite: Tensor, axis: int, sign: float = 1.0
    ) -> Tensor:
        """Adds bins on both sides, and zeros that have no other at a distance.

        Args:
          part: real or imaginary, at bins from 0 up to half the length.
          opposite: at bins from 0 down, but for its sign.
          axis: of the bins, 0 or 1.
          sign: of `opposite`.
        """

        def cut(x: Tensor, begin: int, end: int) -> Tensor:
            return x[begin:end] if axis == 0 else x[:, begin:end]

        added = self._added
        below, above = (
            sign * ops.flip(cut(opposite, begin, end), axis=axis)
            for begin, end in ((1, added + 1), (-1 - added, -1))
        )
        zeros = ops.zeros_like(cut(part, 0, self._offsets))
        return ops.concatenate([below, part, above, zeros], axis=axis)

    def products(self, spectra: Complex, tier: Tier) -> list[Tensor]:
        """Multiplies bins with those at every distance of a tier.

        Args:
          spectra: of frames, `(bins, frames)`, extended.
          tier: which ones.

        Returns:
          Arrays `(bins, frames)`: for each distance the real and the imaginary
          part, which a distance of 0 does not have.
        """
        first, last = self._positions(tier)
        low_real, low_imag = (part[first:last] for part in spectra)
        products = []
        for d in tier.distances:
            high_real, high_imag = (
                part[first + d : last + d] for part in spectra
            )
            products.append(low_real * high_real + low_imag * high_imag)
            if d:
                products.append(low_imag * high_real - low_real * high_imag)
        return products

    def weights(
        self,
        responses: Complex,
        mirrored: Complex,
        windows: Complex,
        tier: Tier,
    ) -> list[Tensor]:
        """Computes what products are multiplied by, each `(filters, bins)`.

        Args:
          responses: of the filters, `(filters, bins)`, extended.
          mirrored: the same at -k.
          windows: their spectra, `(filters, distances)`.
          tier: which bins and distances.
        """
        first, last = self._positions(tier)
        # Of W(d) and W(-d), which is its conjugate, twice the real part.
        share = np.zeros((len(tier.distances), self._count))
        for row, d in zip(share, tier.distances, strict=True):
            begin = self._added - d // 2
            end = begin + self._length // 2 - d % 2
            row[begin : end + 1] = 1.0 if d == 0 else 2.0
            if d % 2 == 0:
                row[[begin, end]] /= 2
        share = share[:, first:last] / self._length**2
        w, v = (
            part[..., None] * ops.cast(share, part.dtype) for part in windows
        )

        size = last - first

        def pairs(spectra: Complex) -> tuple[Complex, Complex]:
            parts = [part[:, first : last + self._offsets] for part in spectra]
            low = tuple(part[:, None, :size] for part in parts)
            high = tuple(
                ops.stack([part[:, d : d + size] for d in tier.distances], 1)
                for part in parts
            )
            return low, high

        # G(k) G*(k + d), and the same of the pair of -k - d and -k.
        (a, b), (far_a, far_b) = pairs(responses)
        (c, e), (far_c, far_e) = pairs(mirrored)
        real = a * far_a + b * far_b + c * far_c + e * far_e
        imag = b * far_a - a * far_b + c * far_e - e * far_c
        of_real = ops.unstack(w * real - v * imag, axis=1)
        of_imag = ops.unstack(-(v * real + w * imag), axis=1)
        parts = zip(tier.distances, of_real, of_imag, strict=True)
        return [
            part for d, re, im in parts for part in ((re, im) if d else (re,))
        ]

    def _positions(self, tier: Tier) -> tuple[int, int]:
        """Tells where a tier's bins begin and end."""
        first, last = (
            min(max(bin_ + self._added, 0), self._count) for bin_ in tier.bins
        )
        return first, last
