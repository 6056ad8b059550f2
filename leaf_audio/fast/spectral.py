"""Pooled energies of complex filters, from the spectra of frames.

Let X be the spectrum of all the audio that a frame's pooled energy depends on,
G a filter's response and W the spectrum of its pooling window. Then the
energy is `Σ_d W(d) Σ_k Y(k) Y*(k + d)` with `Y = X G`. It is computed as the
product of two matrices: `X(k) X*(k + d)`, the same for all filters, with
`W(d) G(k) G*(k + d)`, the same for all frames. What `planning` has planned for
spectral groups says how great a distance d matters: near the filters' centres,
and, less, elsewhere.

Time is counted from the middle of a frame. Filters and windows of odd length
are symmetric about it, so that G and W are real, and real parts are all that is
needed of the products. Those of even length are not.

Frames whose window reaches over an end of the audio are computed sample by
sample.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.convolution.gabor import gabor_energies
from leaf_audio.fast.frame_grid import FrameGrid
from leaf_audio.fast.planning import Geometry, SpectralGroup, Tier, tiers

Tensor = Any
# Real and imaginary, or real only.
Parts = Sequence[Tensor]


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
        self._middle_of_kernel = (geometry.kernel_size - 1) // 2
        self._middle_of_window = (geometry.window_size - 1) // 2
        # Those that a tier counts for are then the first ones.
        groups = sorted(groups, key=lambda group: -group.offsets)
        self.filters = [n for group in groups for n in group.filters]
        self._tiers = tiers(groups)
        # A "same" convolution puts this tap on the sample.
        self.start = -self._middle_of_kernel
        self._strides = -(-geometry.frame_length // geometry.stride)
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
        farthest = max(self._tiers[-1].distances)
        bins = _Bins(length, farthest)
        real, imag = (
            # Bins first: those at a distance are a part of the same memory.
            ops.transpose(ops.reshape(part, (-1, length // 2 + 1)))
            for part in ops.rfft(self._framed(audio), fft_length=length)
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
            count, distances = tier.num_filters, tier.distances
            weights = bins.weights(
                [part[:count] for part in responses],
                [part[:count] for part in mirrored],
                [
                    part[:count, distances.start : distances.stop]
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
        """Computes filters' responses at bins k and -k, and at -k and k.

        Each is its real part, `(filters, bins)`, and the imaginary one where
        filters are not symmetric.
        """
        length = self._geometry.fft_length
        beyond = length - self._geometry.kernel_size
        real, imag = (
            ops.rfft(
                ops.roll(
                    ops.pad(ops.transpose(part), [[0, 0], [0, beyond]]),
                    -self._middle_of_kernel,
                    axis=1,
                ),
                fft_length=length,
            )
            for part in kernels
        )
        # The response at -k is not the conjugate of that at k: filters are
        # complex. Both are had from the spectra of their parts.
        above = [real[0] + imag[1]]
        below = [real[0] - imag[1]]
        if not self._geometry.symmetric:
            above.append(imag[0] - real[1])
            below.append(real[1] + imag[0])
        return (above, below), (below, above)

    def _window_spectra(self, windows: Tensor, bins: int) -> Parts:
        """Computes the first bins of the spectra of `(filters, window)`."""
        times = np.arange(self._geometry.window_size) - self._middle_of_window
        phase = times[:, None] * np.arange(bins)
        phase = 2 * np.pi * phase / self._geometry.fft_length
        parts = (np.cos(phase), -np.sin(phase))
        return [
            ops.matmul(windows, ops.cast(part, windows.dtype))
            for part in (parts[:1] if self._geometry.symmetric else parts)
        ]

    def _framed(self, audio: Tensor) -> Tensor:
        """Lays out frames from the middle on, around to what lies before.

        They are padded to the transform's length: what offsets left out let in
        from further samples could be louder than all there is in a frame.
        """
        stride, count = self._geometry.stride, self._grid.computed_frames
        blocks = count + self._strides - 1
        blocked = ops.reshape(
            audio[:, : blocks * stride],
            (ops.shape(audio)[0], blocks, stride),
        )
        length = self._geometry.frame_length
        middle = self._middle_of_kernel + self._middle_of_window

        def between(begin: int, end: int) -> list[Tensor]:
            pieces = []
            while begin < end:
                block, first = divmod(begin, stride)
                size = min(stride - first, end - begin)
                pieces.append(
                    blocked[:, block : block + count, first : first + size]
                )
                begin += size
            return pieces

        zero = ops.zeros_like(blocked[:, :count, :1])
        padding = ops.repeat(zero, self._geometry.fft_length - length, axis=-1)
        pieces = [*between(middle, length), padding, *between(0, middle)]
        return ops.concatenate(pieces, axis=-1)

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


def _times_conjugate(x: Parts, y: Parts) -> Parts:
    """Multiplies x with the conjugate of y; the product is real if both are."""
    if len(x) == 1:
        return [x[0] * y[0]]
    (a, b), (c, d) = x, y
    return [a * c + b * d, b * c - a * d]


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
        """Adds bins on both sides, and zeros for the last bins' partners.

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

    def products(
        self, spectra: Parts, tier: Tier, real_only: bool
    ) -> list[Tensor]:
        """Multiplies bins with those at every distance of a tier.

        Args:
          spectra: of frames, `(bins, frames)`, extended.
          tier: which ones.
          real_only: whether imaginary parts are not needed.

        Returns:
          Arrays `(bins, frames)`, as many as `weights` gives.
        """
        first, last = self._positions(tier)
        real, imag = (part[first:last] for part in spectra)
        products = []
        for d in tier.distances:
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
        """Computes what products are multiplied by, each `(filters, bins)`.

        Args:
          responses: of the filters, `(filters, bins)`, extended.
          mirrored: the same at -k.
          windows: their spectra, `(filters, distances)`.
          tier: which bins and distances.

        Returns:
          For each distance what counts for the real part and, where these have
          imaginary parts, for that one; a distance of 0 has none.
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
        windows = [
            part[..., None] * ops.cast(share, part.dtype) for part in windows
        ]

        size = last - first

        def with_others(parts: Parts) -> Parts:
            parts = [part[:, first : last + self._offsets] for part in parts]
            return _times_conjugate(
                [part[:, None, :size] for part in parts],
                [
                    ops.stack(
                        [part[:, d : d + size] for d in tier.distances], axis=1
                    )
                    for part in parts
                ],
            )

        # G(k) G*(k + d), and the same of the pair of -k - d and -k, which is
        # the conjugate of that of -k and -k - d.
        pairs, opposite = map(with_others, (responses, mirrored))
        real = pairs[0] + opposite[0]
        if len(pairs) == 1:
            return ops.unstack(windows[0] * real, axis=1)
        imag = pairs[1] - opposite[1]
        w, v = windows
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
