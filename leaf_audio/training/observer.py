"""What training tells, and asks, the program that started it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from leaf_audio import data


class Observer:
    """Follows a run, and describes the settings that training does not know.

    `train` and `evaluate` call these methods. This class knows of no further
    settings and checks nothing. A program that has settings of its own, for
    instance of the model, overrides the methods that it needs.
    """

    def settings(self) -> dict[str, str]:
        """Returns the settings that have been used so far, by name.

        They are recorded in `results.json`. A run in the same folder must
        agree with all of them to go on. They come on top of those of
        `TrainingConfig`, and replace those of the same name.
        """
        return {}

    def defaults(self) -> dict[str, str]:
        """Returns the default of each of `settings` that has one, by name.

        The record of a run that an earlier version began may lack a setting
        that is new. It then had the default.
        """
        return {}

    def settings_of_task(
        self, settings: Mapping[str, str], task: str
    ) -> Mapping[str, str]:
        """Returns what the settings of a run with one of its tasks would be.

        They are recorded in the folder of the task.

        Args:
            settings: The settings of the run, by name.
            task: The name of the task.
        """
        return settings

    def shared_values(self) -> dict[str, str]:
        """Returns the values that several settings share, by name.

        The macros of gin are an example. They are recorded in `results.json`,
        but a run that goes on need not agree with them.
        """
        return {}

    def config_text(self) -> str | None:
        """Returns the text of `config.gin`, or None to write no such file."""
        return None

    def model_checked(self) -> None:
        """Is called after the model was built once, before data is loaded.

        A method that raises an error here stops the run early.
        """

    def data_loaded(
        self,
        audio_data: data.AudioData,
        batches: data.Batches,
        report_file: pathlib.Path,
    ) -> None:
        """Is called when the batches are ready.

        Args:
            audio_data: The data set.
            batches: The batches that were made of it.
            report_file: The file that will list all skipped files.
        """

    def tell(self, line: str) -> None:
        """Prints a line to the person who started the run."""
        print(line, flush=True)
