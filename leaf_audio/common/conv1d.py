"""A 1D convolution whose gradients are as fast as the convolution itself.

Both gradients of a convolution are convolutions again, with the same number of
operations. Backends compute them with kernels of their own, which may be slow
on a CPU: several times slower than the convolution, and hundreds of times if
XLA compiles the gradient of the kernel. There, this module writes the gradients
as convolutions, in a custom gradient. JAX can differentiate a custom gradient
in reverse mode only.

TensorFlow's own gradients are about as fast as the convolution if it uses
oneDNN, that is on CPUs that have the instructions oneDNN is made for, and
without XLA. They are used there.
"""

import functools
import os
import pathlib
import platform
from typing import Any

import keras
from keras import ops

from leaf_audio.common.tracing import is_traced_for_xla

Tensor = Any

# On Linux, TensorFlow uses oneDNN by default on CPUs with one of these.
_ONEDNN_INSTRUCTIONS = {
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
}


def valid_conv1d(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Convolves without padding and with a stride of 1.

    Args:
      inputs: `(batch, time, channels)`, of any float dtype; `time` may be
        unknown.
      kernel: `(kernel_size, channels, outputs)`.

    Returns:
      An array `(batch, time - kernel_size + 1, outputs)`.
    """
    # In 16 bits, the sums over time in these gradients would lose precision.
    wide = keras.backend.standardize_dtype(inputs.dtype) in (
        "float32",
        "float64",
    )
    # The gradients make the batch the channels, of which none may be missing.
    if wide and inputs.shape[0] != 0 and _gradients_are_slow(inputs):
        return _with_convolved_gradients(inputs, kernel)
    return _conv1d(inputs, kernel)


def _gradients_are_slow(inputs: Tensor) -> bool:
    """Returns whether the backend's own gradients are slow for these inputs."""
    backend = keras.backend.backend()
    if backend == "torch" or not _has_only_cpus():
        return False
    return backend == "jax" or not _has_onednn() or is_traced_for_xla(inputs)


@functools.cache
def _has_only_cpus() -> bool:
    devices = keras.distribution.list_devices()
    return all(device.startswith("cpu") for device in devices)


@functools.cache
def _has_onednn() -> bool:
    """Returns whether TensorFlow computes with oneDNN, on x86."""
    told = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    if told in ("0", "false", "1", "true"):
        return told in ("1", "true")
    if platform.system() != "Linux":
        return platform.system() == "Windows"
    try:
        described = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return not _ONEDNN_INSTRUCTIONS.isdisjoint(described.split())


def _conv1d(inputs: Tensor, kernel: Tensor) -> Tensor:
    return ops.conv(
        inputs, kernel, padding="valid", data_format="channels_last"
    )


@ops.custom_gradient
def _with_convolved_gradients(inputs: Tensor, kernel: Tensor) -> Any:
    def gradients(upstream: Tensor) -> tuple[Tensor, Tensor]:
        beyond = ops.shape(kernel)[0] - 1
        of_inputs = valid_conv1d(
            ops.pad(upstream, [[0, 0], [beyond, beyond], [0, 0]]),
            ops.transpose(ops.flip(kernel, axis=0), (0, 2, 1)),
        )
        # Here the time axis takes the place of the taps, and the batch axis
        # that of the channels.
        of_kernel = valid_conv1d(
            ops.transpose(inputs, (2, 1, 0)), ops.transpose(upstream, (1, 0, 2))
        )
        return of_inputs, ops.transpose(of_kernel, (1, 0, 2))

    return _conv1d(inputs, kernel), gradients
