"""The filters of a frontend in physical units, and how far they have moved.

All functions take a frontend that is built. Frequencies are in Hz and durations
in ms. Arrays have one value for each filter, in the order of the outputs.

Example:

```python
from leaf_audio import diagnostics

moved = diagnostics.drift(leaf)["centre_hz"]
```
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.checks import check_bool
from leaf_audio.common.keras_checks import check_layer
from leaf_audio.convolution import GaborConv1D, SincConv1D
from leaf_audio.frontend.base import Frontend
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.pooling import GaussianLowpass
from leaf_audio.postprocessing import PCENLayer

# Length of the FFT that filters are measured with, for filters up to this long.
_MIN_FFT_LENGTH = 8192


def filters(frontend: Frontend, initial: bool = False) -> dict[str, np.ndarray]:
    """Returns the bands of the filters and the widths of the pooling windows.

    Args:
      frontend: Frontend with learnable filters. It must be built.
      initial: Boolean. True returns the values that the initializers give,
        False the present ones. After a model was loaded from a file, an
        initializer that draws at random gives the same values only if it has a
        seed. Defaults to False.

    Returns:
      A dictionary of arrays of shape `(n_filters,)`:

      - `"centre_hz"`: The centre frequency. For free kernels, the maximum of
        the spectrum.
      - `"bandwidth_hz"`: The distance between the cutoffs of a SincConv1D; for
        other filters the width at half of the maximum power.
      - `"pooling_ms"`: The standard deviation of the pooling window. Only with
        a GaussianLowpass.

    Raises:
      ValueError: If the frontend is not built or has no learnable filters.
    """
    return _to_numpy(frontend, _filters, initial)


def impulse_responses(frontend: Frontend, initial: bool = False) -> np.ndarray:
    """Returns the impulse responses of the filters.

    Args:
      frontend: See `filters`.
      initial: See `filters`.

    Returns:
      A complex array of shape `(kernel_size, n_filters)`. The imaginary part
      is 0 for filters that are real, such as those of a SincConv1D.

    Raises:
      ValueError: See `filters`.
    """
    parts = _to_numpy(frontend, _impulse_responses, initial)
    return parts["real"] + 1j * parts["imag"]


def responses(
    frontend: Frontend, initial: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the power response of the filters.

    Args:
      frontend: See `filters`.
      initial: See `filters`.

    Returns:
      Two arrays: frequencies from 0 to half the sample rate in Hz, of shape
      `(bins,)`, and the squared magnitudes of the responses there, of shape
      `(bins, n_filters)`.

    Raises:
      ValueError: See `filters`.
    """
    kernels = impulse_responses(frontend, initial)
    return _power_responses(kernels, frontend.sample_rate)


def centres_hz(frontend: Frontend) -> np.ndarray | None:
    """Returns the centre frequencies of the outputs, learned or not.

    Args:
      frontend: Frontend. It must be built.

    Returns:
      An array of shape `(n_filters,)`, in Hz, or None if they are unknown.

    Raises:
      ValueError: If the frontend is not built.
    """
    _check_built(frontend)
    if _has_filters(frontend):
        return filters(frontend)["centre_hz"]
    return frontend.fixed_centres_hz()


def drift(frontend: Frontend) -> dict[str, np.ndarray]:
    """Returns how far the filters have moved from their initial values.

    Args:
      frontend: See `filters`.

    Returns:
      A dictionary with the names of `filters`: the present values minus the
      initial ones.

    Raises:
      ValueError: See `filters`.
    """
    now, then = filters(frontend), filters(frontend, initial=True)
    return {name: now[name] - then[name] for name in now}


def pcen(frontend: Frontend, initial: bool = False) -> dict[str, np.ndarray]:
    """Returns the parameters of the PCEN of a frontend, as it applies them.

    Args:
      frontend: Frontend. It must be built.
      initial: Boolean. True returns the values that the layer is made with,
        False the present ones. Defaults to False.

    Returns:
      A dictionary of arrays of shape `(n_filters,)`: `"alpha"`, `"delta"`,
      `"exponent"` and `"smooth"`. It is empty if the frontend has no PCENLayer.

    Raises:
      ValueError: If the frontend is not built.
    """
    _check_built(frontend)
    check_bool("initial", initial)
    for layer in find_layers(frontend, PCENLayer):
        if initial:
            layer = type(layer).from_config(layer.get_config())
            layer.build((None, None, frontend.n_filters))
        return {
            name: np.broadcast_to(
                ops.convert_to_numpy(value), (frontend.n_filters,)
            )
            for name, value in layer.constrained_parameters().items()
        }
    return {}


def learned_frontends(model: keras.Model) -> list[Frontend]:
    """Finds the frontends with learnable filters within a model.

    Args:
      model: Model, such as an AudioClassifier or a frontend itself.

    Returns:
      The frontends, each once.

    Raises:
      ValueError: If `model` is not a layer or a model.
    """
    found = find_layers(check_layer("model", model), Frontend)
    return [frontend for frontend in found if _has_filters(frontend)]


def _check_built(frontend: Frontend) -> None:
    """Raises a ValueError if this is not a frontend that is built."""
    if not isinstance(frontend, Frontend) or not frontend.built:
        raise ValueError(
            "`frontend` must be a frontend of leaf_audio, such as a "
            "classifier's `frontend`, that is built, such as by a call. "
            f"Received: frontend={frontend!r}."
        )


def _to_numpy(
    frontend: Frontend, compute: Callable, initial: bool
) -> dict[str, np.ndarray]:
    """Calls `compute` with present or initial weights.

    Args:
      frontend: Frontend.
      compute: Function of the frontend that returns a dictionary of tensors.
      initial: Whether the weights have their initial values meanwhile.

    Returns:
      The dictionary, with NumPy arrays.
    """
    _check_built(frontend)
    check_bool("initial", initial)
    values = []
    if initial:
        layers = (_filter_layer(frontend), *_gaussian_poolings(frontend))
        for layer in layers:
            kernel = layer.kernel
            value = layer.kernel_initializer(kernel.shape)
            values.append((kernel, ops.cast(value, kernel.dtype)))
    with keras.StatelessScope(state_mapping=values):
        found = compute(frontend)
        return {name: ops.convert_to_numpy(one) for name, one in found.items()}


def _has_filters(frontend: Frontend) -> bool:
    layer = frontend.filter_layer()
    if layer is None:
        return False
    if isinstance(layer, (GaborConv1D, SincConv1D)) or not layer.built:
        return True
    kernel, count = getattr(layer, "kernel", None), frontend.n_filters
    return kernel is not None and tuple(kernel.shape[1:]) in (
        (1, count),
        (1, 2 * count),
    )


def _filter_layer(frontend: Frontend) -> keras.layers.Layer:
    if not _has_filters(frontend):
        raise ValueError(
            "`frontend` must have filters to learn, of one input channel and "
            "one or two outputs each. "
            f"Received: frontend={frontend!r}."
        )
    return frontend.filter_layer()


def _gaussian_poolings(frontend: Frontend) -> list[GaussianLowpass]:
    # A subclass may define its widths in another way.
    found = find_layers(frontend, GaussianLowpass)
    return [layer for layer in found if type(layer) is GaussianLowpass]


def _filters(frontend: Frontend) -> dict[str, Any]:
    rate = frontend.sample_rate
    layer = _filter_layer(frontend)
    if hasattr(layer, "bands_hz"):
        centre, width = layer.bands_hz(rate)
    else:
        centre, width = _measure_bands(_impulse_responses(frontend), rate)
    found = {"centre_hz": centre, "bandwidth_hz": width}
    for pooling in _gaussian_poolings(frontend):
        half_ms = (pooling.kernel_size - 1) / 2 / rate * 1000
        found["pooling_ms"] = pooling.widths() * half_ms
    return found


def _impulse_responses(frontend: Frontend) -> dict[str, Any]:
    layer = _filter_layer(frontend)
    if isinstance(layer, GaborConv1D):
        real, imag = layer.impulse_responses()
    elif isinstance(layer, SincConv1D):
        real = layer.impulse_responses()
        imag = ops.zeros_like(real)
    else:
        kernel = ops.convert_to_tensor(layer.kernel)[:, 0]
        if kernel.shape[1] == frontend.n_filters:
            real, imag = kernel, ops.zeros_like(kernel)
        else:
            # Free kernels have the real and the imaginary part of a filter in
            # neighbouring channels.
            real, imag = kernel[:, ::2], kernel[:, 1::2]
    return {"real": real, "imag": imag}


def _measure_bands(
    parts: dict[str, Any], sample_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Measures centre frequencies and bandwidths, in Hz, on the spectra.

    The bandwidth is that of the bins around the maximum whose power is at least
    half of it.
    """
    real, imag = (ops.convert_to_numpy(parts[k]) for k in ("real", "imag"))
    hz, power = _power_responses(real + 1j * imag, sample_rate)
    centre = power.argmax(axis=0)
    width = np.empty(len(centre))
    for n, peak in enumerate(centre):
        low = np.flatnonzero(power[: peak + 1, n] < power[peak, n] / 2)
        high = np.flatnonzero(power[peak:, n] < power[peak, n] / 2)
        first = low[-1] + 1 if len(low) else 0
        last = peak + high[0] - 1 if len(high) else len(power) - 1
        width[n] = (last - first + 1) * hz[1]
    return hz[centre], width


def _power_responses(
    kernels: np.ndarray, sample_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    length = max(_MIN_FFT_LENGTH, 1 << (len(kernels) - 1).bit_length())
    spectra = np.fft.fft(kernels, length, axis=0)[: length // 2 + 1]
    hz = np.arange(len(spectra)) * sample_rate / length
    return hz, np.abs(spectra) ** 2
