"""Pooled energies of complex filters, from the spectra of frames.

Let X be the spectrum of all the audio that a frame's pooled energy depends on,
G a filter's response and W the spectrum of its pooling window. Then the
energy is `Σ_d W(d) Σ_k Y(k) Y*(k + d)` with `Y = X G`. It is computed as the
product of two matrices: `X(k) X*(k + d)`, the same for all filters, with
`W(d) G(k) G*(k + d)`, the same for all frames. What `planning` has planned for
spectral groups says how great a distance d matters.

Frames whose window reaches over an end of the audio are computed sample by
sample.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from leaf_audio.convolution import gabor_energies
from leaf_audio.frame_grid import FrameGrid
from leaf_audio.lean_ops import split_by
from leaf_audio.planning import Geometry, SpectralGroup

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
        self._groups = groups
        self._geometry = geometry
        self._grid = grid
        self.filters = [n for group in groups for n in group.filters]
        # A "same" convolution puts tap (kernel_size - 1) // 2 on the sample.
        self.start = -((geometry.kernel_size - 1) // 2)
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
        most = max(group.offsets for group in self._groups)
        bins = _Bins(length, most)
        spectra = ops.rfft(self._framed(audio), fft_length=length)
        products = bins.products(bins.mirrored(spectra, _conjugate(spectra)))

        real, imag = (
            ops.rfft(ops.transpose(part), fft_length=length) for part in kernels
        )
        # The response at -k is not the conjugate of that at k: filters are
        # complex. Both are had from the spectra of their parts.
        below = (real[0] - imag[1], real[1] + imag[0])
        above = (real[0] + imag[1], imag[0] - real[1])
        responses = bins.mirrored(above, below)
        mirrored = bins.mirrored(below, above)

        sizes = [len(group.filters) for group in self._groups]
        parts = (*responses, *mirrored, windows)
        pooled = []
        for group, *some in zip(
            self._groups,
            *(split_by(part, sizes, axis=0) for part in parts),
            strict=True,
        ):
            re, im, mirrored_re, mirrored_im, window = some
            weights = bins.weights(
                (re, im),
                (mirrored_re, mirrored_im),
                _window_spectrum(window, group.offsets, length),
            )
            energies = sum(
                ops.matmul(weight, product)
                for product, weight in zip(products, weights, strict=False)
            )
            pooled.append(ops.cast(energies, windows.dtype))
        return ops.reshape(
            ops.transpose(ops.concatenate(pooled, axis=0)),
            (
                ops.shape(audio)[0],
                self._grid.computed_frames,
                len(self.filters),
            ),
        )

    def _framed(self, audio: Tensor) -> Tensor:
        """Lays out frames, padded to the transform's length."""
        stride, count = self._geometry.stride, self._grid.computed_frames
        blocks = count + self._strides - 1
        blocked = ops.reshape(
            audio[:, : blocks * stride],
            (ops.shape(audio)[0], blocks, stride),
        )
        frames = ops.concatenate(
            [blocked[:, k : k + count] for k in range(self._strides)], axis=-1
        )
        length = self._geometry.frame_length
        # TensorFlow's transform pads what it is given, but for empty batches.
        beyond = self._geometry.fft_length - length
        return ops.pad(frames[..., :length], [[0, 0], [0, 0], [0, beyond]])

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


def _conjugate(x: Complex) -> Complex:
    return x[0], -x[1]


def _window_spectrum(windows: Tensor, offsets: int, length: int) -> Complex:
    """Computes the spectra of `(filters, window)` at bins 0 to `offsets`."""
    phase = np.arange(windows.shape[1])[:, None] * np.arange(offsets + 1)
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

    def mirrored(self, above: Complex, below: Complex) -> Complex:
        """Adds bins on both sides, where values are those of -k.

        Args:
          above: real and imaginary parts, `(..., bins)`, at bins from 0 up to
            half the length.
          below: those at bins from 0 down.
        """
        added = self._added
        return tuple(
            ops.concatenate(
                [
                    ops.flip(other[..., 1 : added + 1], axis=-1),
                    one,
                    ops.flip(other[..., -1 - added : -1], axis=-1),
                ],
                axis=-1,
            )
            for one, other in zip(above, below, strict=True)
        )

    def products(self, spectra: Complex) -> list[Tensor]:
        """Multiplies each bin with that at every distance.

        Args:
          spectra: `(batch, frames, bins)`, mirrored.

        Returns:
          Arrays `(bins, batch * frames)`: for d = 0, for real and imaginary
          parts of d = 1, and so on. The last bins have no other at a distance;
          no weight counts them.
        """
        # Bins first: those at a distance are then a part of the same memory.
        real, imag = (
            ops.pad(
                ops.transpose(ops.reshape(part, (-1, self._count))),
                [[0, self._offsets], [0, 0]],
            )
            for part in spectra
        )
        low_real, low_imag = real[: self._count], imag[: self._count]
        products = []
        for d in range(self._offsets + 1):
            high_real, high_imag = (
                part[d : d + self._count] for part in (real, imag)
            )
            products.append(low_real * high_real + low_imag * high_imag)
            if d:
                products.append(low_imag * high_real - low_real * high_imag)
        return products

    def weights(
        self, responses: Complex, mirrored: Complex, windows: Complex
    ) -> list[Tensor]:
        """Computes what products are multiplied by, each `(filters, bins)`.

        Args:
          responses: of the filters, `(filters, bins)`.
          mirrored: the same at -k.
          windows: their spectra, `(filters, offsets + 1)`.
        """
        offsets = windows[0].shape[1] - 1
        # Of W(d) and W(-d), which is its conjugate, twice the real part.
        share = np.zeros((offsets + 1, self._count))
        for d in range(offsets + 1):
            first = self._added - d // 2
            last = first + self._length // 2 - d % 2
            share[d, first : last + 1] = 1.0 if d == 0 else 2.0
            if d % 2 == 0:
                share[d, [first, last]] /= 2
        share = ops.cast(share / self._length**2, windows[0].dtype)
        w, v = (part[..., None] * share for part in windows)

        # G(k) G*(k + d), and the same of the pair of -k - d and -k.
        (a, b), (far_a, far_b) = self._with_distant(responses, offsets)
        (c, e), (far_c, far_e) = self._with_distant(mirrored, offsets)
        real = a * far_a + b * far_b + c * far_c + e * far_e
        imag = b * far_a - a * far_b + c * far_e - e * far_c
        of_real = ops.unstack(w * real - v * imag, axis=1)
        of_imag = ops.unstack(-(v * real + w * imag), axis=1)
        return [
            of_real[0],
            *(
                part
                for pair in zip(of_real[1:], of_imag[1:], strict=True)
                for part in pair
            ),
        ]

    def _with_distant(
        self, spectra: Complex, offsets: int
    ) -> tuple[Complex, Complex]:
        """Lays out bins beside those at all distances, `(filters, d, bins)`."""
        distances = np.arange(offsets + 1)[:, None]
        # What lies beyond the last bin counts for no pair.
        partner = np.minimum(
            np.arange(self._count) + distances, self._count - 1
        )
        near = tuple(part[:, None] for part in spectra)
        distant = tuple(ops.take(part, partner, axis=1) for part in spectra)
        return near, distant
