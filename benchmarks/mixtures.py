"""Makes a data set with several labels from one with a label for each clip.

    python benchmarks/mixtures.py --source=/path/to/esc10 --target=mixtures

The source is a folder with an index.csv that has the columns file, label and
split, such as ESC-10 by its own folds. A mixture is the sum of two or three of
its clips, of different labels and all of one split, so that no clip is heard in
two splits. The first has the level 0 dB, and the others a random one. The
target gets wav files, an index.csv with the columns file, labels and split, and
sources.csv, which says what each file was mixed of.

Train on it with

    python -m example.main --gin_config=example/configs/leaf.gin \\
        --gin_config=example/configs/audio_folder.gin \\
        --gin_config=example/configs/own_recordings.gin \\
        --gin_config=example/configs/five_seconds.gin \\
        --gin_bindings="audio_folder.path = 'mixtures'"
"""

import argparse
import collections
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import soundfile

from leaf_audio.common import files
from leaf_audio.data.clips import SPLITS
from leaf_audio.data.decoding import decode
from leaf_audio.data.index_csv import read_index

# Quieter samples are silence that was added to make clips of one length. They
# must not count for the level of a clip.
_SILENCE = 1e-3
# The level of the first clip of a mixture, and its largest absolute value.
_RMS = 0.05
_PEAK = 0.99

# The clips of each label.
Pool = dict[str, list[str]]


def read_pools(source: pathlib.Path) -> dict[str, Pool]:
    """Returns the clips of each split and label."""
    if not (source / "index.csv").is_file():
        raise SystemExit(
            f"{source} must hold an index.csv with the columns file, label and "
            "split."
        )
    pools: dict[str, Pool] = {}
    for entry in read_index(source).entries:
        if entry.split is None:
            raise SystemExit(f"{source}/index.csv must have the column split.")
        pool = pools.setdefault(entry.split, collections.defaultdict(list))
        for label in entry.labels:
            pool[label].append(entry.file)
    return pools


def placed(
    samples: np.ndarray, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Crops a clip, or pads it with zeros, at a random place."""
    surplus = len(samples) - length
    start = int(rng.integers(abs(surplus) + 1))
    if surplus > 0:
        return samples[start : start + length]
    return np.pad(samples, (start, -surplus - start))


def levelled(samples: np.ndarray, level_db: float) -> np.ndarray:
    """Sets the root mean square of what is not silent."""
    loud = np.abs(samples) > _SILENCE * np.abs(samples).max()
    rms = np.sqrt(np.mean(samples[loud] ** 2)) if loud.any() else 1.0
    return samples * (_RMS * 10 ** (level_db / 20) / rms)


def mixture(
    source: pathlib.Path,
    pool: Pool,
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[tuple[str, str, float]]]:
    """Returns the samples, and the label, file and level of each part."""
    labels = sorted(pool)
    count = int(rng.integers(2, min(3, len(labels)) + 1))
    parts = []
    total = np.zeros(round(options.seconds * options.sample_rate))
    for position in rng.choice(len(labels), count, replace=False):
        label = labels[position]
        file = str(rng.choice(pool[label]))
        low, high = (options.min_db, options.max_db) if parts else (0.0, 0.0)
        level = float(rng.uniform(low, high))
        clip = decode(source / file, options.sample_rate)
        total += placed(levelled(clip, level), len(total), rng)
        parts.append((label, file, round(level, 2)))
    return total * min(1.0, _PEAK / np.abs(total).max()), parts


def write(options: argparse.Namespace) -> None:
    """Writes all mixtures, and the two tables."""
    target = pathlib.Path(options.target)
    if target.exists() and any(target.iterdir()):
        sys.exit(f"Error: {target} must be new or empty.")
    source = pathlib.Path(options.source)
    pools = read_pools(source)
    rows, sources = [], []
    for number, split in enumerate(SPLITS):
        count = getattr(options, split)
        if count and len(pools.get(split, ())) < 2:
            sys.exit(f"Error: {source} must have two labels in {split!r}.")
        (target / split).mkdir(parents=True)
        for i in range(count):
            # A split and its first mixtures do not depend on the counts.
            rng = np.random.default_rng((options.seed, number, i))
            samples, parts = mixture(source, pools[split], options, rng)
            file = f"{split}/{i:05d}.wav"
            soundfile.write(target / file, samples, options.sample_rate)
            labels = ";".join(sorted(label for label, _, _ in parts))
            rows.append({"file": file, "labels": labels, "split": split})
            sources += [
                {"file": file, "label": label, "source": one, "level_db": level}
                for label, one, level in parts
            ]
    files.write_csv(target / "index.csv", list(rows[0]), rows)
    files.write_csv(target / "sources.csv", list(sources[0]), sources)
    print(f"{len(rows)} mixtures in {target}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", required=True, help="folder of clips")
    parser.add_argument("--target", required=True, help="folder to write to")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--validation", type=int, default=300)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sample_rate", type=int, default=16000, help="in Hz")
    parser.add_argument(
        "--min_db", type=float, default=-10.0, help="lowest level"
    )
    parser.add_argument(
        "--max_db", type=float, default=0.0, help="highest level"
    )
    parser.add_argument("--seed", type=int, default=0)
    write(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
