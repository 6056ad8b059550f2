"""Lets errors in the making of batches be seen."""

from collections.abc import Callable
from typing import Any

from leaf_audio.data.quiet_grain import grain


class Watched(grain.IterDataset):
    """The batches of a dataset. It calls a function if one cannot be made.

    Args:
        batches: grain.IterDataset.
        on_error: A function of the error. If it raises no other one, the error
            is raised.
    """

    def __init__(
        self, batches: grain.IterDataset, on_error: Callable[[Exception], None]
    ):
        super().__init__()
        self._batches = batches
        self._on_error = on_error

    def __iter__(self) -> grain.DatasetIterator:
        return _WatchedIterator(iter(self._batches), self._on_error)


class _WatchedIterator(grain.DatasetIterator):
    def __init__(
        self,
        batches: grain.DatasetIterator,
        on_error: Callable[[Exception], None],
    ):
        super().__init__(batches)
        self._batches = batches
        self._on_error = on_error

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except StopIteration:
            raise
        except Exception as error:
            self._on_error(error)
            raise

    def get_state(self) -> dict[str, Any]:
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._batches.set_state(state)
