"""Logs for TensorBoard."""

import pathlib
import shutil
from collections.abc import Sequence

import tensorflow as tf


class TensorBoardLog:
    """Logs the metrics of each epoch for TensorBoard.

    Training and validation have a folder each, `train` and `validation`. The
    mean drift of learned filters is logged with the metrics of training.

    Args:
        folder: The folder for the logs. Its folders `train` and `validation`
            are emptied first. Otherwise, an epoch that a killed run logged but
            did not complete would appear twice. Other logs there are kept.
        history: The epochs to log at once, as in `Progress.history`.
    """

    def __init__(
        self, folder: pathlib.Path, history: Sequence[dict[str, float]] = ()
    ):
        self._writers = {}
        for prefix, name in (("", "train"), ("val_", "validation")):
            shutil.rmtree(folder / name, ignore_errors=True)
            writer = tf.summary.create_file_writer(str(folder / name))
            self._writers[prefix] = writer
        for row in history:
            self.add(row)

    def add(self, row: dict[str, float]) -> None:
        """Logs an epoch.

        Args:
            row: Its metrics, as in `Progress.history`.
        """
        for name, value in row.items():
            if name in ("epoch", "seconds"):
                continue
            prefix = "val_" if name.startswith("val_") else ""
            with self._writers[prefix].as_default(step=int(row["epoch"])):
                tf.summary.scalar(name.removeprefix("val_"), value)
        for writer in self._writers.values():
            writer.flush()
