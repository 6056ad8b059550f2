"""Published implementations of LEAF, in NumPy with 64 bits.

They are written from the descriptions of these systems, and share no code with
leaf_audio. Each takes waveforms `(batch, time)` and a state dict in the layout
of its system, and gives features `(batch, frames, filters)`.
"""

import math

import numpy as np

UNIT = math.sqrt(2 * math.log(2)) / math.pi


def parameters(count, seed=0):
    """Returns trained-like parameters, some of them beyond their limits."""
    rng = np.random.default_rng(seed)
    centre = np.sort(rng.uniform(0.1, 3.0, count))
    return {
        "centre": np.r_[centre[:-1], 3.3],
        "sigma": np.r_[0.5, rng.uniform(4, 60, count - 2), 500.0],
        "width": np.r_[0.001, rng.uniform(0.1, 0.5, count - 2), 0.7],
        "bias": np.r_[-0.01, rng.uniform(0, 1.5, count - 1)],
        "alpha": np.r_[1.2, rng.uniform(0.5, 1, count - 1)],
        "delta": rng.uniform(0.5, 3, count),
        "root": np.r_[0.5, rng.uniform(1, 4, count - 1)],
        "smooth": np.r_[1.3, rng.uniform(0.01, 0.2, count - 1)],
    }


def correlate(waveforms, kernel, begins):
    """Correlates, where output t begins `begins` samples before input t."""
    padded = np.pad(waveforms, ((0, 0), (begins, len(kernel))))
    flipped = kernel[::-1]
    full = np.stack([np.convolve(one, flipped, "valid") for one in padded])
    return full[:, : waveforms.shape[1]]


def energies(waveforms, centre, sigma, size, smallest=4):
    """Computes the energies of Gabor filters, `(batch, time, filters)`."""
    t = np.arange(-(size // 2), (size + 1) // 2)
    outputs = []
    for eta, s in zip(centre, sigma, strict=True):
        eta, s = (
            np.clip(eta, 0, np.pi),
            np.clip(s, smallest * UNIT, size * UNIT),
        )
        gauss = np.exp(-(t**2) / (2 * s**2)) / (math.sqrt(2 * math.pi) * s)
        # Padding of TensorFlow for a stride of 1.
        begins = (size - 1) // 2
        real = correlate(waveforms, gauss * np.cos(eta * t), begins)
        imaginary = correlate(waveforms, gauss * np.sin(eta * t), begins)
        outputs.append(real**2 + imaginary**2)
    return np.stack(outputs, axis=-1)


def pooled(energy, width, size, stride, begins):
    """Pools with Gaussian windows; frame m begins at `m * stride - begins`."""
    t = np.arange(size) - (size - 1) / 2
    width = np.clip(width, 2 / size, 0.5) * (size - 1) / 2
    windows = np.exp(-0.5 * (t[:, None] / width) ** 2)
    frames = -(-energy.shape[1] // stride)
    padded = np.pad(energy, ((0, 0), (begins, size + stride), (0, 0)))
    return np.stack(
        [
            (padded[:, m * stride : m * stride + size] * windows).sum(1)
            for m in range(frames)
        ],
        axis=1,
    )


def same(time, size, stride):
    """Returns the padding of TensorFlow at the beginning."""
    frames = -(-time // stride)
    return max((frames - 1) * stride + size - time, 0) // 2


def averaged(energy, smooth):
    level = [energy[:, 0]]
    for frame in range(1, energy.shape[1]):
        level.append((1 - smooth) * level[-1] + smooth * energy[:, frame])
    return np.stack(level, axis=1)


def pcen(energy, alpha, smooth, delta, root, floor=1e-12):
    """PCEN with the limits of LEAF."""
    level = averaged(energy, np.clip(smooth, 0, 1))
    alpha, power = np.minimum(alpha, 1), 1 / np.maximum(root, 1)
    return (energy / (floor + level) ** alpha + delta) ** power - delta**power


def leaf_state(system, count=6, with_pcen=True, seed=0):
    """Returns the state dict of a Leaf in the layout of a system."""
    p = parameters(count, seed)
    filters = np.stack([p["centre"], p["sigma"]], axis=1)
    width = p["width"].reshape(1, 1, -1, 1)
    names = {
        "original": (
            "_complex_conv/_kernel",
            "_pooling/kernel",
            "_compress_fn/",
            "ema/_weights",
        ),
        "leaf_pytorch": (
            "_complex_conv._kernel",
            "_pooling.weights",
            "_compression.",
            "ema._weights",
        ),
        "speechbrain": (
            "complex_conv.kernel",
            "pooling.weights",
            "compression.",
            "ema._weights",
        ),
    }[system]
    state = {names[0]: filters, names[1]: width}
    if system != "original":
        state[names[1].replace("weights", "_bias")] = p["bias"]
    if with_pcen:
        state |= {names[2] + n: p[n] for n in ("alpha", "delta", "root")}
        state[names[2] + names[3]] = p["smooth"]
    return {k: v.astype("float32") for k, v in state.items()}


def leaf(waveforms, state, size, stride):
    """Computes a Leaf of the original release, leaf-pytorch or SpeechBrain."""
    # Without the name of the part, which differs from system to system.
    short = {k.replace(".", "/"): v for k, v in state.items()}
    by_end = {k.split("/", 1)[1].lstrip("_"): v for k, v in short.items()}
    centre, sigma = state[next(k for k in state if k.endswith("kernel"))].T
    energy = energies(waveforms, centre, sigma, size)
    if "bias" in by_end:
        width, bias = by_end["weights"], by_end["bias"]
        begins = size // 2
    else:
        width, bias = state["_pooling/kernel"], 0
        begins = same(waveforms.shape[1], size, stride)
    energy = pooled(energy, width.reshape(-1), size, stride, begins) + bias
    energy = np.maximum(energy, 1e-5)
    if "alpha" not in by_end:
        return energy
    smooth = by_end["ema/_weights"]
    return pcen(
        energy, by_end["alpha"], smooth, by_end["delta"], by_end["root"]
    )


def efficientleaf_state(kind, count=6, seed=0):
    """Returns the state dict of a frontend of CPJKU/EfficientLEAF.

    Args:
      kind: The compression: "pcen", "pcen of logarithms", "logtbn", or None.
      count: Number of filters.
      seed: Seed of the values.
    """
    p = parameters(count, seed)
    rng = np.random.default_rng(seed)
    state = {
        "filterbank.center_freqs": p["centre"],
        "filterbank.bandwidths": p["sigma"],
        "filterbank.pooling_widths": p["width"],
    }
    if kind == "pcen":
        state |= {
            "compression.s": np.minimum(p["smooth"], 1),
            "compression.alpha": p["alpha"],
            "compression.delta": p["delta"],
            "compression.r": p["root"],
        }
    elif kind == "pcen of logarithms":
        state |= {
            "compression.s": np.log(np.minimum(p["smooth"], 0.9)),
            "compression.alpha": np.log(p["alpha"]),
            "compression.delta": np.log(p["delta"]),
            "compression.r": -np.log(p["root"]),
        }
    elif kind == "logtbn":
        state |= {
            "compression.log1p.a": rng.uniform(2, 6, count),
            "compression.TBN.bn.weight": rng.uniform(0.5, 2, 2 * count),
            "compression.TBN.bn.bias": rng.normal(0, 1, 2 * count),
            "compression.TBN.bn.running_mean": rng.normal(0, 1, 2 * count),
            "compression.TBN.bn.running_var": rng.uniform(0.5, 2, 2 * count),
            "compression.TBN.bn.num_batches_tracked": np.array(7),
        }
    return {k: v.astype("float32") for k, v in state.items()}


def efficientleaf_compression(energy, state):
    """Computes the compression that the state dict is of."""
    part = {
        k.removeprefix("compression."): v.astype("float64")
        for k, v in state.items()
        if k.startswith("compression.")
    }
    if "s" in part:
        energy = np.maximum(energy, 1e-5)
        if (part["s"] < 0).all():
            s, alpha, delta, r = (
                np.exp(part[n]) for n in ("s", "alpha", "delta", "r")
            )
            level = averaged(energy, s)
            return (energy / (1e-12 + level) ** alpha + delta) ** r - delta**r
        return pcen(energy, part["alpha"], part["s"], part["delta"], part["r"])
    if "log1p.a" not in part:
        return energy
    x = np.log1p(10 ** part["log1p.a"] * energy)
    ranked = np.sort(x, axis=1)
    median = ranked[:, [(x.shape[1] - 1) // 2]]
    # Channels before bands.
    x = np.stack([x, x - median], axis=-1)
    of = {
        n: v.reshape(2, -1).T for n, v in part.items() if v.ndim and "bn" in n
    }
    x = (x - of["TBN.bn.running_mean"]) / np.sqrt(
        of["TBN.bn.running_var"] + 1e-5
    )
    return x * of["TBN.bn.weight"] + of["TBN.bn.bias"]


def odd(size):
    return size + 1 - size % 2


def efficientleaf(
    waveforms, state, size, stride, num_groups, conv_win_factor, stride_factor
):
    """Computes an EfficientLeaf, group by group."""
    size = odd(size)
    centre = np.clip(state["filterbank.center_freqs"], 0, np.float32(np.pi))
    sigma = np.clip(state["filterbank.bandwidths"], 2 * UNIT, size * UNIT)
    width = np.clip(state["filterbank.pooling_widths"], 2 / size, 0.5)
    edges = np.arange(num_groups + 1) * len(centre) // num_groups
    groups = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        longest = max(1, np.pi / float(centre[a:b].max()) * stride_factor)
        hop = max(
            h for h in range(1, stride + 1) if not stride % h and h <= longest
        )
        length = odd(int(sigma[a:b].max() * conv_win_factor))
        t = np.arange(length) - length // 2
        energy = []
        for eta, s in zip(centre[a:b], sigma[a:b], strict=True):
            gauss = np.exp(-(t**2) / (2 * s**2)) / (math.sqrt(2 * math.pi) * s)
            parts = [
                correlate(waveforms, gauss * wave(eta * t), length // 2)
                for wave in (np.cos, np.sin)
            ]
            energy.append((parts[0] ** 2 + parts[1] ** 2)[:, ::hop])
        window = odd(int(size / hop + 0.5))
        # Its own half is the unit of the width of a window.
        t = np.arange(window) * (2 / (window - 1)) - 1
        widths = width[a:b] / hop * size / window
        windows = np.exp(-0.5 * (t[:, None] / widths) ** 2)
        energy = np.stack(energy, axis=-1)
        step = stride // hop
        padded = np.pad(energy, ((0, 0), (window // 2, window), (0, 0)))
        frames = (energy.shape[1] - 1) // step + 1
        groups.append(
            np.stack(
                [
                    (padded[:, m * step : m * step + window] * windows).sum(1)
                    for m in range(frames)
                ],
                axis=1,
            )
        )
    return efficientleaf_compression(np.concatenate(groups, axis=-1), state)


def efficientleaf_leaf(waveforms, state, size, stride):
    """Computes the Leaf of the repository of EfficientLEAF."""
    size = odd(size)
    energy = energies(
        waveforms,
        state["filterbank.center_freqs"],
        state["filterbank.bandwidths"],
        size,
    )
    width = state["filterbank.pooling_widths"]
    energy = pooled(energy, width, size, stride, size // 2)
    return efficientleaf_compression(energy, state)
