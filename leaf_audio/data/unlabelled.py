"""Lists recordings that have no labels."""

import os
import pathlib
from typing import Any

from leaf_audio.common.checks import check_path
from leaf_audio.data.recordings import audio_files


def unlabelled_index(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Lists all recordings below a folder, without labels.

    It is an `index` of `data.audio_folder`, which needs `allow_unlabelled=True`
    with it. Names of folders have no meaning.

    Args:
        folder: str or path. The folder.

    Returns:
        Rows with the columns file and labels. The labels are empty.
    """
    folder = pathlib.Path(check_path("folder", folder))
    return [{"file": file, "labels": []} for file in audio_files(folder)]
