"""Gives files the names under which they lie on the disk.

A table may write a name in another way: by another path, with the accents in
another form of Unicode, as one that was written on a Mac, or with the
backslashes of Windows. A file could have several names otherwise, and be in
several splits.
"""

import os
import pathlib
import posixpath
from collections.abc import Iterable

from leaf_audio.data.folder_layout import normalized


class FileNames:
    """The names of the files of a folder.

    Args:
        folder: pathlib.Path. The folder.
        files: Iterable of str. The audio files below it, relative to it.
    """

    def __init__(self, folder: pathlib.Path, files: Iterable[str]):
        self._folder = folder.absolute()
        self._on_disk = {normalized(file): file for file in files}
        self._exact = set(self._on_disk.values())

    def of(self, file: str) -> str:
        """Returns the one name of a file, whichever way a table writes it.

        Args:
            file: str. A path, which may be relative to the folder.

        Returns:
            The path relative to the folder for a file below it, otherwise the
            absolute path, with "/" as separator. The file need not be there.
        """
        name = self._located(file)
        if name in self._exact:
            return name
        slashes = posixpath.normpath(file.replace("\\", "/"))
        for one in (name, slashes, slashes.strip()):
            found = self._on_disk.get(normalized(one))
            if found is not None:
                return found
        return name

    def _located(self, file: str) -> str:
        path = os.path.normpath(self._folder / file)
        inside = os.path.relpath(path, self._folder)
        is_inside = inside != os.pardir and not inside.startswith(
            os.pardir + os.sep
        )
        return pathlib.Path(inside if is_inside else path).as_posix()
