"""Prepares thousands of damaged files, and counts what becomes of them.

    python benchmarks/fuzz.py --count=10000 --output=out.json

Sound files of many formats, tables index.csv, and files of prepared clips are
changed at random: bits are flipped, pieces are removed, repeated, or
overwritten. Each group of damaged recordings is prepared in a process of its
own, with limited memory and time. A damaged recording must be skipped with a
reason, or be read; a damaged table must be an error that names it, or be read.
A damaged file of prepared clips must be an error that names it, or be prepared
again, or all of its clips must be as they were. A process that crashes, hangs
or fails in any other way is a fault, whose files are kept.
"""

import argparse
import collections
import concurrent.futures
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import soundfile

# The name of a format's files, and what soundfile is told to write.
FORMATS = {
    "wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "adpcm.wav": {"subtype": "IMA_ADPCM"},
    "flac": {},
    "ogg": {},
    "opus.ogg": {"subtype": "OPUS"},
    "mp3": {},
    "aiff": {},
    "caf": {},
    "au": {},
    "w64": {},
}
GROUP = 250
MAX_MEMORY = 12 * 2**30
MAX_SECONDS = 300
RATE = 16000


def sources(folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes a sound file of each format."""
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal((RATE // 4, 2))
    files = []
    for name, options in FORMATS.items():
        file = folder / f"source.{name}"
        soundfile.write(file, samples, RATE, **options)
        files.append(file)
    return files


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns a content with one to five damages, often in its beginning."""
    result = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        if not result:
            break
        reach = len(result) if rng.random() < 0.5 else min(len(result), 100)
        at = int(rng.integers(reach))
        length = int(rng.integers(1, 40))
        what = rng.integers(6)
        if what == 0:
            result[at] ^= 1 << int(rng.integers(8))
        elif what == 1:
            del result[at:]
        elif what == 2:
            del result[at : at + length]
        elif what == 3:
            result[at:at] = result[at : at + length]
        elif what == 4:
            result[at : at + length] = rng.bytes(length)
        else:
            value = 255 if rng.random() < 0.5 else 0
            result[at : at + length] = bytes([value]) * length
    return bytes(result)


def table(names: list[str], rng: np.random.Generator) -> bytes:
    """Returns an index.csv, in one of the ways that programs write it."""
    rows = [["file", "label", "split", "start", "end"]]
    for i, name in enumerate(names):
        split = ("train", "validation", "test")[i % 3]
        rows.append([name, f"label{i % 2}", split, "0", "0.1"])
    quote = rng.random() < 0.3
    end = "\r\n" if rng.random() < 0.3 else "\n"
    text = end.join(
        ",".join(f'"{cell}"' if quote else cell for cell in row) for row in rows
    )
    if rng.random() < 0.3:
        text += f"{end}../outside.wav,label0,test,0,0.1"
    if rng.random() < 0.3:
        text += f"{end}/{names[0]},label0,test,0,0.1"
    start = "\ufeff" if rng.random() < 0.3 else ""
    return (start + text).encode()


def prepare(folder: str, **options: float) -> dict[str, int]:
    """Prepares a folder, and returns how many clips were stored and skipped."""
    from leaf_audio import data

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    warnings.simplefilter("ignore", data.DataWarning)
    with tempfile.TemporaryDirectory() as data_dir:
        try:
            found = data.audio_folder(
                folder,
                on_error="skip",
                data_dir=data_dir,
                for_training=False,
                **options,
            )
        except ValueError as error:
            # Of a table, or where no file is left.
            text = str(error)
            if "audio_folder" not in text and "index.csv" not in text:
                raise
            return {"tables refused": 1}
        for clips in found.clips.values():
            read = clips.reader()
            for i in range(len(clips)):
                audio, _ = read(i)
                if not np.isfinite(audio).all():
                    raise AssertionError("a clip is not finite")
        stored = sum(found.counts.values())
        return {"clips stored": stored, "clips skipped": len(found.skipped)}


def open_prepared(folder: str) -> dict[str, int]:
    """Reads all clips of a folder whose prepared data may be damaged."""
    from leaf_audio import data

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    (shard,) = pathlib.Path(folder).rglob("*array_record*")
    before = shard.stat().st_ino
    found = data.audio_folder(
        f"{folder}/recordings",
        data_dir=f"{folder}/prepared",
        test_fraction=1.0,
        for_training=False,
    )
    expected = np.load(f"{folder}/recordings/expected.npz")
    clips = found.clips["test"]
    for in_memory in (False, True):
        try:
            read = clips.reader(in_memory)
            for i, name in enumerate(clips.names):
                np.testing.assert_array_equal(read(i)[0], expected[name])
        except ValueError as error:
            if str(shard) not in str(error):
                raise
            return {"files refused": 1}
    is_new = shard.stat().st_ino != before
    return {"files prepared again" if is_new else "files read": 1}


def write_prepared(
    folder: pathlib.Path, files: list[pathlib.Path], seed: int, count: int
) -> None:
    del count
    base = files[0].parent / "base"
    if not base.exists():
        prepare_base(base, files)
    rng = np.random.default_rng(seed)
    shutil.copytree(base / "prepared", folder / "prepared")
    # Times of files, which tell whether they have changed, do not.
    (folder / "recordings").symlink_to(base / "recordings")
    (shard,) = (folder / "prepared").rglob("*array_record*")
    content = shard.read_bytes()
    # The index of the records is at the end.
    is_end = rng.random() < 0.5
    changed = damaged(content[::-1] if is_end else content, rng)
    if rng.random() < 0.8:
        # A file of another size is prepared again.
        changed = changed[: len(content)].ljust(len(content), b"\0")
    shard.write_bytes(changed[::-1] if is_end else changed)


def prepare_base(base: pathlib.Path, files: list[pathlib.Path]) -> None:
    """Prepares a recording of each format, and keeps their samples."""
    from leaf_audio import data

    recordings = base / "recordings"
    for i, file in enumerate(files):
        (recordings / f"label{i % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, recordings / f"label{i % 2}")
    found = data.audio_folder(
        str(recordings),
        data_dir=str(base / "prepared"),
        test_fraction=1.0,
        for_training=False,
    )
    clips = found.clips["test"]
    read = clips.reader()
    samples = {name: read(i)[0] for i, name in enumerate(clips.names)}
    np.savez(recordings / "expected.npz", **samples)


def write_recordings(
    folder: pathlib.Path, files: list[pathlib.Path], seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    for i in range(count):
        file = files[int(rng.integers(len(files)))]
        target = folder / f"label{i % 2}" / f"{i}-{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(damaged(file.read_bytes(), rng))
    # One of each label is sound, so that something is left.
    for label in ("label0", "label1"):
        shutil.copy(files[0], folder / label / "sound.wav")


def write_table(
    folder: pathlib.Path, files: list[pathlib.Path], seed: int, count: int
) -> None:
    del count
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for file in files[:4]:
        shutil.copy(file, folder)
    content = table([file.name for file in files[:4]], rng)
    if rng.random() < 0.5:
        content = damaged(content, rng)
    (folder / "index.csv").write_bytes(content)


def run(
    write: Callable[..., None],
    read: Callable[..., dict[str, int]],
    numbers: range,
    count: int,
    keep: pathlib.Path,
    **options: float,
) -> tuple[collections.Counter, list[str]]:
    """Writes and reads folders; returns counts, and faults."""
    counts: collections.Counter = collections.Counter()
    faults = []
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(1, context)
    with tempfile.TemporaryDirectory() as work:
        files = sources(pathlib.Path(work))
        for number in numbers:
            folder = pathlib.Path(work, f"{write.__name__}-{number}")
            write(folder, files, number, count)
            try:
                future = pool.submit(read, str(folder), **options)
                counts.update(future.result(timeout=MAX_SECONDS))
            except BaseException as error:
                faults.append(f"{folder.name}: {type(error).__name__}: {error}")
                shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
                for process in pool._processes.values():
                    process.kill()
                pool.shutdown(wait=False)
                if isinstance(error, KeyboardInterrupt):
                    raise
                pool = concurrent.futures.ProcessPoolExecutor(1, context)
            shutil.rmtree(folder)
    pool.shutdown()
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="where to write the results as JSON")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--prepared", type=int, default=500)
    parser.add_argument("--keep", default="fuzz", help="where faults are kept")
    options = parser.parse_args()
    keep = pathlib.Path(options.keep)
    groups = range(-(-options.count // GROUP))
    kinds = {
        # All recordings go to one split, since any of them may be skipped.
        "recordings": run(
            *(write_recordings, prepare, groups),
            *(min(GROUP, options.count), keep),
            test_fraction=1.0,
        ),
        "tables": run(write_table, prepare, range(options.tables), 0, keep),
        "prepared clips": run(
            write_prepared, open_prepared, range(options.prepared), 0, keep
        ),
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{kind: dict(counts) for kind, (counts, _) in kinds.items()},
        "faults": [one for _, faults in kinds.values() for one in faults],
    }
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    sys.exit(bool(result["faults"]))


if __name__ == "__main__":
    main()
