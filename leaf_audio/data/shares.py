"""The parts of batches that several processes train on."""

from typing import Any

from leaf_audio.data.quiet_grain import grain


class Share:
    """A part of each batch of a data set of examples, as a source of Grain.

    Args:
        data: The examples of all batches.
        batch_size: The number of examples in a whole batch.
        first: The position in the batch where the part begins.
        part_size: The number of examples in a part.
    """

    def __init__(
        self,
        data: grain.MapDataset,
        batch_size: int,
        first: int,
        part_size: int,
    ):
        self._data = data
        self._batch_size = batch_size
        self._first = first
        self._part_size = part_size

    def __len__(self) -> int:
        return len(self._data) // self._batch_size * self._part_size

    def __getitem__(self, position: int) -> Any:
        step, offset = divmod(position, self._part_size)
        return self._data[step * self._batch_size + self._first + offset]
