"""A convolution whose gradients are no slower than itself.

Both gradients of a convolution are convolutions again, with as many operations.
Backends have ways of their own for them, which on a CPU may be several times
slower, or hundreds where XLA compiles the gradient for a kernel; there they are
written as convolutions here, as custom gradients, through which JAX
differentiates in reverse mode alone. TensorFlow's are about as fast as the
convolution where it computes them with oneDNN, that is on CPUs with the
instructions that oneDNN is made for, and not compiled with XLA.
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

# On Linux TensorFlow takes oneDNN where a CPU has one of these.
_ONEDNN_INSTRUCTIONS = {
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
}


def valid_conv1d(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Convolves where the kernel lies inside the inputs.

    Args:
      inputs: `(batch, time, channels)`; `time` may be unknown.
      kernel: `(kernel_size, channels, outputs)`.

    Returns:
      An array `(batch, time - kernel_size + 1, outputs)`.
    """
    # Half floats would be summed up over time as half floats.
    wide = keras.backend.standardize_dtype(inputs.dtype) in (
        "float32",
        "float64",
    )
    # The batch becomes channels there, of which there must be some.
    if wide and inputs.shape[0] != 0 and _gradients_are_slow(inputs):
        return _with_convolved_gradients(inputs, kernel)
    return _conv1d(inputs, kernel)


def _gradients_are_slow(inputs: Tensor) -> bool:
    """Tells whether the backend's own gradients are, for these inputs."""
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
    """Tells whether TensorFlow computes with oneDNN, on x86."""
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
        # Time becomes the taps, the batch the channels.
        of_kernel = valid_conv1d(
            ops.transpose(inputs, (2, 1, 0)), ops.transpose(upstream, (1, 0, 2))
        )
        return of_inputs, ops.transpose(of_kernel, (1, 0, 2))

    return _conv1d(inputs, kernel), gradients
