"""Writes the clips of a split to shards, and goes on after an interruption.

A shard is complete when it has a summary, a JSON file beside it. The next call
leaves such shards as they are.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from leaf_audio.common import files
from leaf_audio.data import flac, records
from leaf_audio.data.decoding import UnusableFileError
from leaf_audio.data.parallel import in_parallel
from leaf_audio.data.progress import progress

# A shard is full when it holds this many bytes. Of FLAC at 16 kHz, that is some
# ten hours of audio. An interrupted preparation begins the last shard again.
# All shards of a data set are open at the same time.
SHARD_BYTES = 2**29
# A record holds at most this many samples. A long clip is thus read and encoded
# in parts.
PART_SAMPLES = 2**20


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip to store.

    Attributes:
        samples: Its samples, an int16 or float32 array of shape (time,). Or a
            function without arguments that yields them in several such arrays.
            It may raise `UnusableFileError`; the clip is then skipped.
        label: The index of its label. Or, where clips may have several labels,
            a list of the indices of all of its labels. It must be of the same
            kind for all clips of a data set.
        name: What messages call it, such as the name of its file.
        group: A number that all clips have which belong together, such as those
            of one speaker. None for all clips of a split if each stands alone.
        bits: With how many bits float32 samples are stored, 16 or 24; see
            `flac.encode`. Or a function without arguments that returns this,
            and is called once there are samples.
        remark: A function without arguments that is called after all samples
            were read. If it returns True, `Written.remarked` has the name.
    """

    samples: np.ndarray | Callable[[], Iterator[np.ndarray]]
    label: int | Sequence[int]
    name: str = ""
    group: int | None = None
    bits: int | Callable[[], int] = 24
    remark: Callable[[], bool] = bool


@dataclasses.dataclass(frozen=True)
class Source:
    """The clips of a split, in an order that is always the same.

    Attributes:
        count: Their number.
        clips: A function. It is given a number, and returns an iterable of the
            clips without the first ones, that many.
    """

    count: int
    clips: Callable[[int], Iterable[Clip]]

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> "Source":
        """Returns the source of the clips of a sequence."""
        return cls(len(clips), lambda first: clips[first:])


@dataclasses.dataclass
class Written:
    """What a shard, or several, hold.

    Attributes:
        count: The number of clips of the source, with those that were skipped.
        lengths: The length of each clip that was stored, in samples.
        labels: The label of each, as in `Clip`.
        groups: The group of each.
        hashes: The hash of each record, in hexadecimal digits.
        full_scales: The values of `flac.Encoded.full_scale` that occur.
        bits: The values of `flac.Encoded.bits` that occur.
        skipped: The reason for each clip that was skipped, by its name.
        remarked: The names of the clips with a remark.
        silent: The names of the clips without a remark whose samples all have
            the same value.
        shards: The shards that hold the clips.
    """

    count: int = 0
    lengths: list[int] = dataclasses.field(default_factory=list)
    labels: list[int | list[int]] = dataclasses.field(default_factory=list)
    groups: list[int | None] = dataclasses.field(default_factory=list)
    hashes: list[str] = dataclasses.field(default_factory=list)
    full_scales: list[float] = dataclasses.field(default_factory=list)
    bits: list[int] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    remarked: list[str] = dataclasses.field(default_factory=list)
    silent: list[str] = dataclasses.field(default_factory=list)
    shards: list[records.Shard] = dataclasses.field(default_factory=list)

    def extend(self, other: "Written") -> None:
        """Adds what other shards hold."""
        self.count += other.count
        for name in _LISTS:
            getattr(self, name).extend(getattr(other, name))
        self.full_scales = sorted({*self.full_scales, *other.full_scales})
        self.bits = sorted({*self.bits, *other.bits})
        self.skipped.update(other.skipped)
        self.shards.extend(other.shards)


_FIELDS = dataclasses.fields(Written)
_LISTS = ("lengths", "labels", "groups", "hashes", "remarked", "silent")


def write_split(
    directory: pathlib.Path,
    split: str,
    source: Source,
    sample_rate: int | None,
    description: str,
) -> Written:
    """Writes the clips of a split that are not written yet.

    Args:
        directory: The folder for the shards.
        split: "train", "validation" or "test".
        source: The clips.
        sample_rate: Their rate in Hz, or None if it is unknown.
        description: The text in front of the progress bar.

    Returns:
        What all shards of the split hold.

    Raises:
        ValueError: A clip has no samples, or some that are not finite. Readers
            check their clips, and name the file; this holds for every reader to
            come.
    """
    written = Written()
    for number in itertools.count():
        summary = _summary(directory, split, number)
        if summary is None:
            break
        written.extend(summary)
    if written.count == source.count:
        return written

    def encoded(clip: Clip) -> Iterator[flac.Encoded]:
        return _encoded(clip, split, sample_rate)

    records.import_libraries()
    shard = None
    # Unfinished generators that are left to the garbage collector would join
    # their threads at an arbitrary point of the program, for instance while
    # another thread starts. Both are therefore closed here.
    with (
        contextlib.closing(
            in_parallel(source.clips(written.count), encoded)
        ) as results,
        progress(results, source.count, description, written.count) as bar,
    ):
        try:
            for clip, parts in bar:
                if shard is None:
                    shard = _ShardWriter(directory, split, len(written.shards))
                shard.add(clip, parts)
                if shard.nbytes >= SHARD_BYTES:
                    written.extend(shard.finish())
                    shard = None
            if shard is not None:
                written.extend(shard.finish())
            if written.count != source.count:
                raise ValueError(
                    "A source must give as many clips as its `count`. "
                    f"Received: {written.count} instead of {source.count} for "
                    f"{split!r}."
                )
        except BaseException:
            if shard is not None:
                shard.abandon()
            raise
    return written


def remove_summaries(directory: pathlib.Path) -> None:
    """Removes what only an interrupted preparation needs."""
    for path in directory.glob(f"{records.DATASET}-*.json"):
        path.unlink()


def remove_leftovers(directory: pathlib.Path) -> None:
    """Removes the shards that a process was writing when it was killed."""
    for path in directory.glob("*.partial"):
        path.unlink()


def _summary_path(
    directory: pathlib.Path, split: str, number: int
) -> pathlib.Path:
    return directory / f"{records.shard_name(split, number)}.json"


def _summary(
    directory: pathlib.Path, split: str, number: int
) -> Written | None:
    """Returns what a shard holds; None unless it is complete."""
    path = _summary_path(directory, split, number)
    try:
        content = json.loads(path.read_text("utf-8"))
        shards = [records.Shard(**shard) for shard in content["shards"]]
        values = {field.name: content[field.name] for field in _FIELDS}
        found = Written(**values | {"shards": shards})
        hashes = [bytes.fromhex(one) for one in found.hashes]
        is_whole = (
            records.hold(directory, found.shards[0], hashes)
            if found.shards
            else not hashes
        )
    except (KeyError, OSError, TypeError, ValueError):
        return None
    return found if is_whole else None


def _encoded(
    clip: Clip, split: str, sample_rate: int | None
) -> Iterator[flac.Encoded]:
    blocks: Iterable[np.ndarray] = (
        clip.samples() if callable(clip.samples) else [clip.samples]
    )
    bits = None
    for part in _regrouped(blocks):
        if not np.isfinite(part).all():
            raise ValueError(
                "The samples of a clip must be finite. Received: NaN or "
                f"infinity in {clip.name or 'a clip'!r} of {split!r}."
            )
        if bits is None:
            bits = clip.bits() if callable(clip.bits) else clip.bits
        yield flac.encode(part, bits, sample_rate)
    if bits is None:
        raise ValueError(
            "A clip must have samples. Received: none in "
            f"{clip.name or 'a clip'!r} of {split!r}."
        )


def _regrouped(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the samples of blocks in parts of `PART_SAMPLES`.

    Only the last part may be shorter. No part is empty.
    """
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        while len(block):
            some = block[: PART_SAMPLES - count]
            block = block[len(some) :]
            waiting.append(some)
            count += len(some)
            if count == PART_SAMPLES:
                yield np.concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


class _ShardWriter:
    """Writes a shard, which gets its name when it is complete."""

    def __init__(self, directory: pathlib.Path, split: str, number: int):
        self._directory = directory
        self._name = records.shard_name(split, number)
        self._summary = _summary_path(directory, split, number)
        self._partial = directory / f"{self._name}.partial"
        self._writer = records.ShardWriter(self._partial)
        self._written = Written()

    @property
    def nbytes(self) -> int:
        return self._writer.nbytes

    def add(
        self, clip: Clip, parts: list[flac.Encoded] | UnusableFileError
    ) -> None:
        """Adds a clip, or the reason why there is none."""
        if isinstance(parts, UnusableFileError):
            self._written.extend(
                Written(count=1, skipped={clip.name: str(parts)})
            )
            return
        label = np.asarray(clip.label).tolist()
        group = None if clip.group is None else int(clip.group)
        start = 0
        for part in parts:
            self._writer.write(
                records.serialized(
                    {
                        records.AUDIO: part.flac,
                        records.SCALE: 2.0 ** (part.bits - 1) / part.full_scale,
                        records.FULL_SCALE: part.full_scale,
                        records.SHA256: part.sha256,
                        records.FILE: clip.name,
                        records.START: start,
                        records.GROUP: -1 if group is None else group,
                        (
                            records.LABELS
                            if isinstance(label, list)
                            else records.LABEL
                        ): label,
                    }
                )
            )
            start += part.length
        is_remarked = clip.remark()
        values = {part.constant for part in parts}
        is_silent = len(values) == 1 and None not in values
        self._written.extend(
            Written(
                count=1,
                lengths=[start],
                labels=[label],
                groups=[group],
                hashes=[part.sha256.hex() for part in parts],
                full_scales=[part.full_scale for part in parts],
                bits=[part.bits for part in parts],
                remarked=[clip.name] if is_remarked else [],
                silent=[clip.name] if is_silent and not is_remarked else [],
            )
        )

    def finish(self) -> Written:
        """Completes the shard, and returns what it holds."""
        written = self._written
        self._writer.close()
        if written.lengths:
            nbytes = self._partial.stat().st_size
            files.move(self._partial, self._directory / self._name)
            written.shards.append(
                records.Shard(self._name, self._writer.records, nbytes)
            )
        else:
            self._partial.unlink()
        self._partial.write_text(json.dumps(dataclasses.asdict(written)))
        files.move(self._partial, self._summary)
        return written

    def abandon(self) -> None:
        """Removes what was written of the shard."""
        with contextlib.suppress(Exception):
            self._writer.close()
        self._partial.unlink(missing_ok=True)
