"""What a frontend's filters are, and how far training has moved them.

"Do the filters learn?" is answered by `drift`, and by `table` for a person to
read; `callbacks.LogFilters` follows them through training. Frequencies are in
Hz, durations in ms; one value for each filter, in the order of the outputs.

Example:

```python
import rich
from leaf_audio import diagnostics

moved = diagnostics.drift(leaf)["centre_hz"]
rich.print(diagnostics.table(leaf))
```
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import rich.box
import rich.table
from keras import ops

from leaf_audio.convolution import GaborConv1D, SincConv1D
from leaf_audio.frontend.base import Frontend
from leaf_audio.pooling import GaussianLowpass
from leaf_audio.postprocessing import PCENLayer

# Of the transform that filters are measured with, but for longer ones.
_LEAST_FFT_LENGTH = 8192


def filters(frontend: Frontend, initial: bool = False) -> dict[str, np.ndarray]:
    """Returns the bands of a frontend's filters and the widths of its windows.

    Args:
      frontend: built, with learnable filters.
      initial: of the values that the initializers give, instead of those of
        now. Initializers that draw at random need a seed to give the same
        again in a model that was loaded.

    Returns:
      Arrays `(n_filters,)` by name. `"centre_hz"`: centre frequencies;
      `"bandwidth_hz"`: between the cutoffs of a SincConv1D, otherwise the full
      width at half of the power's maximum; with a GaussianLowpass also
      `"pooling_ms"`: standard deviations of the pooling windows. For free
      kernels, the centre is where the spectrum has its maximum.

    Raises:
      ValueError: the frontend is not built, or has no filters to learn.
    """
    return _numpy(frontend, _filters, initial)


def impulse_responses(frontend: Frontend, initial: bool = False) -> np.ndarray:
    """Returns the filters themselves, `(kernel_size, n_filters)`.

    They are complex; those of a SincConv1D are real.

    Args:
      frontend: see `filters`.
      initial: see `filters`.

    Raises:
      ValueError: see `filters`.
    """
    found = _numpy(frontend, _impulse_responses, initial)
    return found["real"] + 1j * found["imag"]


def responses(
    frontend: Frontend, initial: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much power the filters let through at each frequency.

    Args:
      frontend: see `filters`.
      initial: see `filters`.

    Returns:
      Frequencies from 0 to half the sample rate, `(bins,)` in Hz, and the
      squared magnitudes there, `(bins, n_filters)`.

    Raises:
      ValueError: see `filters`.
    """
    kernels = impulse_responses(frontend, initial)
    return _responses(kernels, frontend.sample_rate)


def drift(frontend: Frontend) -> dict[str, np.ndarray]:
    """Returns how far `filters` are from where they began, now less then.

    Args:
      frontend: see `filters`.

    Raises:
      ValueError: see `filters`.
    """
    now, then = filters(frontend), filters(frontend, initial=True)
    return {name: now[name] - then[name] for name in now}


def pcen(frontend: Frontend) -> dict[str, np.ndarray]:
    """Returns the parameters of a frontend's PCEN, as it uses them.

    Args:
      frontend: built.

    Returns:
      Arrays `(n_filters,)`, `"alpha"`, `"delta"`, `"exponent"` and
      `"smooth"`; nothing where the compression is not a PCENLayer.

    Raises:
      ValueError: the frontend is not built.
    """
    _check_built(frontend)
    for layer in _layers(frontend):
        if isinstance(layer, PCENLayer):
            values = layer.constrained_parameters()
            return {
                name: np.broadcast_to(
                    ops.convert_to_numpy(value), (frontend.n_filters,)
                )
                for name, value in values.items()
            }
    return {}


def table(frontend: Frontend) -> rich.table.Table:
    """Returns a table of all this, a row for each filter.

    `Δ` is what `drift` gives for the column before. For `rich.print`.

    Args:
      frontend: see `filters`.

    Raises:
      ValueError: see `filters`.
    """
    moved = drift(frontend)
    columns: list[tuple[str, Callable[[float], str], np.ndarray]] = []
    for name, values in filters(frontend).items():
        columns.append((name, _digits, values))
        columns.append(("Δ", "{:+.2f}".format, moved[name]))
    for name, values in pcen(frontend).items():
        columns.append((name, _digits, values))
    # All of it fits into the 80 columns of a terminal.
    made = rich.table.Table(
        "#",
        title=frontend.name,
        box=rich.box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for name, _, _ in columns:
        heading = name.replace("bandwidth", "band-\nwidth").replace("_", "\n")
        made.add_column(heading, justify="right")
    for n in range(frontend.n_filters):
        cells = [write(float(values[n])) for _, write, values in columns]
        made.add_row(str(n), *cells)
    return made


def _digits(value: float) -> str:
    """Writes four digits, or all that are ahead of the point."""
    whole = 9999.5 <= abs(value) < 1e6
    return f"{value:.0f}" if whole else f"{value:.4g}"


def learned_frontends(model: keras.Model) -> list[Frontend]:
    """Finds the frontends with filters to learn that a model is made of.

    Args:
      model: built.
    """
    return [
        layer
        for layer in _layers(model)
        if isinstance(layer, Frontend) and _has_responses(layer)
    ]


def _check_built(frontend: Frontend) -> None:
    if not isinstance(frontend, Frontend) or not frontend.built:
        raise ValueError(
            "`frontend` must be a frontend of leaf_audio, such as a "
            "classifier's `frontend`, that is built, such as by a call. "
            f"Received: frontend={frontend!r}."
        )


def _layers(frontend: keras.Model) -> Iterator[keras.layers.Layer]:
    # `layers`, which is public, leaves out what wrappers and layers hold.
    return frontend._flatten_layers()


def _numpy(
    frontend: Frontend, compute: Callable, initial: bool
) -> dict[str, np.ndarray]:
    _check_built(frontend)
    values = []
    if initial:
        values = [
            (layer.kernel, layer.kernel_initializer(layer.kernel.shape))
            for layer in (_convolution(frontend), *_windows(frontend))
        ]
    values = [(kernel, ops.cast(v, kernel.dtype)) for kernel, v in values]
    with keras.StatelessScope(state_mapping=values):
        found = compute(frontend)
        return {name: ops.convert_to_numpy(one) for name, one in found.items()}


def _has_responses(frontend: Frontend) -> bool:
    convolve = getattr(frontend, "_complex_conv", None)
    if convolve is None:
        return False
    if isinstance(convolve, (GaborConv1D, SincConv1D)) or not convolve.built:
        return True
    kernel, count = getattr(convolve, "kernel", None), frontend.n_filters
    return kernel is not None and tuple(kernel.shape[1:]) in (
        (1, count),
        (1, 2 * count),
    )


def _convolution(frontend: Frontend) -> keras.layers.Layer:
    if not _has_responses(frontend):
        raise ValueError(
            "`frontend` must have filters to learn, of one input channel and "
            "one or two outputs each. "
            f"Received: frontend={frontend!r}."
        )
    return frontend._complex_conv


def _windows(frontend: Frontend) -> list[GaussianLowpass]:
    return [one for one in _layers(frontend) if type(one) is GaussianLowpass]


def _filters(frontend: Frontend) -> dict[str, Any]:
    rate = frontend.sample_rate
    convolve = _convolution(frontend)
    if hasattr(convolve, "bands_hz"):
        centre, width = convolve.bands_hz(rate)
    else:
        centre, width = _measured(_impulse_responses(frontend), rate)
    found = {"centre_hz": centre, "bandwidth_hz": width}
    for layer in _windows(frontend):
        half_ms = (layer.kernel_size - 1) / 2 / rate * 1000
        found["pooling_ms"] = layer.widths() * half_ms
    return found


def _impulse_responses(frontend: Frontend) -> dict[str, Any]:
    convolve = _convolution(frontend)
    if isinstance(convolve, GaborConv1D):
        real, imag = convolve.impulse_responses()
    elif isinstance(convolve, SincConv1D):
        real = convolve.impulse_responses()
        imag = ops.zeros_like(real)
    else:
        kernel = ops.convert_to_tensor(convolve.kernel)[:, 0]
        if kernel.shape[1] == frontend.n_filters:
            real, imag = kernel, ops.zeros_like(kernel)
        else:
            # Real and imaginary parts of a free filter are neighbours.
            real, imag = kernel[:, ::2], kernel[:, 1::2]
    return {"real": real, "imag": imag}


def _measured(
    parts: dict[str, Any], sample_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Measures filters by their spectra."""
    real, imag = (ops.convert_to_numpy(parts[k]) for k in ("real", "imag"))
    hz, power = _responses(real + 1j * imag, sample_rate)
    centre = power.argmax(axis=0)
    width = np.empty(len(centre))
    for n, peak in enumerate(centre):
        low = np.flatnonzero(power[: peak + 1, n] < power[peak, n] / 2)
        high = np.flatnonzero(power[peak:, n] < power[peak, n] / 2)
        first = low[-1] + 1 if len(low) else 0
        last = peak + high[0] - 1 if len(high) else len(power) - 1
        width[n] = (last - first + 1) * hz[1]
    return hz[centre], width


def _responses(
    kernels: np.ndarray, sample_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    length = max(_LEAST_FFT_LENGTH, 1 << (len(kernels) - 1).bit_length())
    spectra = np.fft.fft(kernels, length, axis=0)[: length // 2 + 1]
    hz = np.arange(len(spectra)) * sample_rate / length
    return hz, np.abs(spectra) ** 2
