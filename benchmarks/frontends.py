"""Measures the time of every frontend, and the memory of a training step.

    KERAS_BACKEND=tensorflow python benchmarks/frontends.py --output=out.json

Times are medians of compiled calls in one process. The calls go in rounds over
all frontends, so that other work of the machine slows all of them alike.
`--frontend` selects frontends. `--size` selects sizes, batch x seconds; the
default is every size up to a minute.

Memory is what a training step adds to the peak of a fresh process (Linux only),
or to the peak of the GPU if there is one.

All times are compared with "mel (tf.signal)", the mel frontend of the original
LEAF on TensorFlow: STFT, magnitude, square, matrix, logarithm.
"""

import argparse
import datetime
import functools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import rich.console
import rich.table
from keras import ops

from leaf_audio import frontend

SAMPLE_RATE = 16000
SIZES = {
    "8x1s": (8, 1),
    "8x10s": (8, 10),
    "1x60s": (1, 60),
    "1x600s": (1, 600),
    "256x1s": (256, 1),
    "32x8s": (32, 8),
    "16x16s": (16, 16),
}
DEFAULT_SIZES = ("8x1s", "8x10s", "1x60s")
YARDSTICK = "mel (tf.signal)"
FRONTENDS = {
    "mel": frontend.MelFilterbanks,
    "Keras MelSpectrogram": functools.partial(
        keras.layers.MelSpectrogram,
        sequence_length=400,
        sequence_stride=160,
        fft_length=512,
        num_mel_bins=40,
        sampling_rate=SAMPLE_RATE,
    ),
    "Leaf": frontend.Leaf,
    "Leaf, tolerance 0.01": functools.partial(frontend.Leaf, tolerance=1e-2),
    "Leaf, tolerance 0.0005": functools.partial(frontend.Leaf, tolerance=5e-4),
    "Leaf, exact": functools.partial(frontend.Leaf, tolerance=0),
    "Leaf, 20 filters": functools.partial(frontend.Leaf, n_filters=20),
    "Leaf, 80 filters": functools.partial(frontend.Leaf, n_filters=80),
    "Leaf, 128 filters": functools.partial(frontend.Leaf, n_filters=128),
    "EfficientLeaf, 8G-opt": functools.partial(
        frontend.EfficientLeaf,
        num_groups=8,
        conv_win_factor=6.0,
        stride_factor=16.0,
    ),
    "SincNet": frontend.SincNet,
    "SincNet+": frontend.SincNetPlus,
    "TD-filterbanks": frontend.TimeDomainFilterbanks,
}
# Numbers of rounds. Times of long inputs vary less, so these need fewer.
ROUNDS_SHORT, ROUNDS_LONG = 20, 7


def waveforms(size: str) -> np.ndarray:
    batch, seconds = SIZES[size]
    generator = np.random.default_rng(0)
    shape = (batch, seconds * SAMPLE_RATE)
    return generator.normal(0, 0.1, shape).astype("float32")


def tf_signal_mel() -> Callable:
    """Returns the mel frontend of the original LEAF, in plain TensorFlow."""
    import tensorflow as tf

    matrix = tf.signal.linear_to_mel_weight_matrix(
        40, 257, SAMPLE_RATE, 60.0, 7800.0
    )

    @tf.function
    def mel(x):
        stft = tf.signal.stft(x, 401, 160, 512, pad_end=True)
        return tf.math.log(tf.square(tf.abs(stft)) @ matrix + 1e-5)

    return mel


def compiled(
    layer: Callable, x: np.ndarray
) -> tuple[Callable[[], None], Callable[[], None] | None]:
    """Returns a forward call, and a forward and backward call.

    The second is None for a layer without trainable weights.
    """
    backend = keras.backend.backend()
    x = ops.convert_to_tensor(x)
    if not layer.built:
        # A call would build it too, but JAX would compile each operation.
        layer.build(x.shape)
    learns = bool(getattr(layer, "trainable_variables", ()))
    if backend == "tensorflow":
        forward, both = _compiled_tensorflow(layer, x)
    elif backend == "jax":
        forward, both = _compiled_jax(layer, x)
    else:
        forward, both = _plain_torch(layer, x)
    return forward, both if learns else None


def _compiled_tensorflow(layer, x):
    import tensorflow as tf

    call = tf.function(lambda: layer(x))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        weights = [v.value for v in layer.trainable_variables]
        return tape.gradient(loss, weights)

    return lambda: call().numpy(), lambda: [g.numpy() for g in step()]


def _compiled_jax(layer, x):
    import jax

    weights = [v.value for v in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]

    def outputs(weights, x):
        return layer.stateless_call(weights, fixed, x)[0]

    call = jax.jit(outputs)
    step = jax.jit(jax.grad(lambda w, x: ops.sum(outputs(w, x) ** 2)))
    return (
        lambda: jax.block_until_ready(call(weights, x)),
        lambda: jax.block_until_ready(step(weights, x)),
    )


def _plain_torch(layer, x):
    import torch

    def wait():
        if gpu_name():
            torch.cuda.synchronize()

    def forward():
        with torch.no_grad():
            layer(x)
        wait()

    def both():
        (layer(x) ** 2).sum().backward()
        wait()

    return forward, both


def time_size(
    size: str, names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    x = waveforms(size)
    calls = {name: compiled(FRONTENDS[name](), x) for name in names}
    if keras.backend.backend() == "tensorflow":
        mel, tensor = tf_signal_mel(), ops.convert_to_tensor(x)
        calls = {YARDSTICK: (lambda: mel(tensor).numpy(), None), **calls}
    seconds = {
        (name, kind): []
        for name, pair in calls.items()
        for kind, call in enumerate(pair)
        if call is not None
    }
    rounds = ROUNDS_SHORT if x.size < 10**6 else ROUNDS_LONG
    for measured in [False] * 2 + [True] * rounds:
        for name, kind in seconds:
            start = time.perf_counter()
            calls[name][kind]()
            if measured:
                seconds[name, kind].append(time.perf_counter() - start)

    def median_ms(name: str, kind: int) -> float | None:
        taken = seconds.get((name, kind))
        return 1000 * statistics.median(taken) if taken else None

    return {
        name: {"forward_ms": median_ms(name, 0), "both_ms": median_ms(name, 1)}
        for name in calls
    }


def peak_megabytes(name: str, size: str) -> float:
    """Measures the memory of a step in a fresh process.

    The peak of a process never falls, so each measurement needs its own.
    """
    command = [sys.executable, __file__, f"--memory={name}", f"--size={size}"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        sys.exit(f"Error: no memory measured for {name!r} at {size}, see above")
    return float(answer.stdout.split()[-1])


def print_peak(name: str, size: str) -> None:
    x = waveforms(size)
    layer = FRONTENDS[name]()
    layer(x[:1, :1000])
    before = _peak_bytes()
    forward, both = compiled(layer, x)
    (both or forward)()
    print((_peak_bytes() - before) / 1024**2)


def _peak_bytes() -> int:
    backend = keras.backend.backend()
    if not gpu_name():
        # The peak of `resource` includes that of the parent process.
        status = pathlib.Path("/proc/self/status").read_text()
        (line,) = [line for line in status.splitlines() if "VmHWM" in line]
        return 1024 * int(line.split()[1])
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if backend == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    import torch

    return torch.cuda.max_memory_allocated()


@functools.cache
def gpu_name() -> str | None:
    """Returns the name of the GPU that the backend computes on, if any."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return None
        return tf.config.experimental.get_device_details(gpus[0])["device_name"]
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return device.device_kind if device.platform == "gpu" else None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def print_table(results: dict[str, dict[str, dict]]) -> None:
    table = rich.table.Table("frontend", "size")
    for heading in ("forward", "× mel", "forward+backward", "× mel", "memory"):
        table.add_column(heading, justify="right")
    for size, rows in results.items():
        mel = rows.get(YARDSTICK) or rows.get("mel") or {}
        mel_ms = mel.get("forward_ms")
        for name, row in rows.items():
            cells = []
            for value in (row["forward_ms"], row["both_ms"]):
                known = value is not None
                cells.append(f"{value:.1f} ms" if known else "–")
                cells.append(
                    f"{value / mel_ms:.1f}" if known and mel_ms else "–"
                )
            memory = row.get("memory_mb")
            cells.append("–" if memory is None else f"{memory:.0f} MB")
            table.add_row(name, size, *cells)
        table.add_section()
    rich.console.Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument("--size", choices=SIZES, action="append")
    parser.add_argument(
        "--frontend",
        choices=FRONTENDS,
        action="append",
        help="to measure; may be repeated; by default all",
    )
    parser.add_argument(
        "--no_memory", action="store_true", help="leave memory unmeasured"
    )
    parser.add_argument("--memory", choices=FRONTENDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = options.size or DEFAULT_SIZES
    if options.memory:
        print_peak(options.memory, sizes[0])
        return
    names = options.frontend or list(FRONTENDS)
    results = {}
    for size in sizes:
        results[size] = time_size(size, names)
        for name in () if options.no_memory else names:
            results[size][name]["memory_mb"] = peak_megabytes(name, size)
        if options.output:
            write(options.output, results)
    print_table(results)


def write(path: str, results: dict[str, dict[str, dict]]) -> None:
    about = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "date": datetime.date.today().isoformat(),
        "machine": gpu_name()
        or f"{platform.machine()}, {os.cpu_count()} cores",
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**about, "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
