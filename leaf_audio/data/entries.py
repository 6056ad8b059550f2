"""What is known of each recording of a folder, before and after its split."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Entry:
    """One recording as the folder describes it.

    Attributes:
        file: The path relative to the folder, with "/" as separator.
        labels: The names of its labels: one, or in data with several labels
            any number.
        split: "train", "validation" or "test", or None if the folder does not
            say so.
        fold: The name of its fold, or None if there are no folds.
        speaker: Who or what is recorded, or None if the folder does not say so.
        start: Where the recording begins in the file, in seconds. None is the
            start of the file.
        end: Where it ends, in seconds. None is the end of the file.
    """

    file: str
    labels: tuple[str, ...]
    split: str | None = None
    fold: str | None = None
    speaker: str | None = None
    start: float | None = None
    end: float | None = None


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recording: an audio file of a folder, or a segment of it.

    Attributes:
        file: The path relative to the folder, with "/" as separator.
        labels: The names of its labels: one, or in data with several labels
            any number.
        split: "train", "validation" or "test".
        group: A name that all recordings have which belong together: those of
            one file, and those of one speaker. None if each recording stands
            alone.
        start: Where the recording begins in the file, in seconds. None is the
            start of the file.
        end: Where it ends, in seconds. None is the end of the file.
    """

    file: str
    labels: tuple[str, ...]
    split: str
    group: str | None = None
    start: float | None = None
    end: float | None = None

    @property
    def is_segment(self) -> bool:
        """Whether the recording may be less than the whole file."""
        return self.start is not None or self.end is not None

    @property
    def name(self) -> str:
        """The file, and the segment if there is one, for messages."""
        if not self.is_segment:
            return self.file
        # Ten digits tell milliseconds apart in a recording of a month.
        start = f"{self.start or 0:.10g}"
        end = "its end" if self.end is None else f"{self.end:.10g} s"
        return f"{self.file}, {start} s to {end}"
