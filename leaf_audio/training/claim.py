"""The lock of the folder of a run, and the mark that it holds a run."""

import contextlib
import os
import pathlib
import platform
from collections.abc import Iterator

import filelock

from leaf_audio.common import files

_CLAIM = "This folder holds a run of leaf_audio.\n"


class Claim:
    """Keeps the folder of a run to one process, and marks it.

    Three files serve this. `.lock` is locked by the operating system, which
    releases it when a process is killed. `.lock_holder` names the process that
    has locked it, and `.run` is the mark. They are not one file, since Windows
    lets nobody read from a file that is locked.

    Args:
        folder: pathlib.Path. The folder of the run.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._lock = folder / ".lock"
        self._holder = folder / ".lock_holder"
        self._mark = folder / ".run"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder, and locks it against other processes.

        If no run begins in the `with` block, all that was created here is
        removed again at its end.

        Raises:
            ValueError: If another process has locked the folder, or it cannot
                be created or written to.
        """
        paths = (self._lock, *self._lock.parents)
        made = [path for path in paths if not path.exists()]
        is_marked = self.is_marked()
        files.make_folder(self._folder, "workdir", str(self._folder))
        lock = filelock.FileLock(self._lock)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(
                "`workdir` must not be in use by another process. Received: "
                f"workdir={str(self._folder)!r}, which {self._read_holder()} "
                "uses."
            ) from None
        except OSError as error:
            raise ValueError(
                "`workdir` must be a folder that can be written to. Received: "
                f"workdir={str(self._folder)!r}, where {error.filename} cannot "
                f"be written: {error.strerror}."
            ) from error
        try:
            with contextlib.suppress(OSError):
                self._holder.write_text(
                    f"process {os.getpid()} on {platform.node()}", "utf-8"
                )
            if is_marked and not self._mark.exists():
                # Some versions of filelock empty a file that they lock, and
                # with it the mark of an earlier version.
                self.mark()
            yield
        finally:
            with contextlib.suppress(OSError):
                self._holder.unlink()
            is_kept = self._lock not in made or self.is_marked()
            if not is_kept:
                # Windows refuses this, and removes it with the lock.
                with contextlib.suppress(OSError):
                    self._lock.unlink()
            lock.release()
            if not is_kept:
                with contextlib.suppress(OSError):
                    for parent in made[1:]:
                        parent.rmdir()

    def mark(self) -> None:
        """Marks the folder as that of a run. Called within `locked`."""
        self._mark.write_text(_CLAIM, "utf-8")

    def is_marked(self) -> bool:
        """Returns whether the folder has the mark.

        Earlier versions wrote it to the file that is locked.
        """
        for file in (self._mark, self._lock):
            with contextlib.suppress(OSError):
                if file.read_text("utf-8") == _CLAIM:
                    return True
        return False

    def _read_holder(self) -> str:
        """Names the process that has locked the folder, if it says so."""
        with contextlib.suppress(OSError):
            return self._holder.read_text("utf-8") or "another process"
        return "another process"
