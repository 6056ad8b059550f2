"""Keeps imports working by the names that modules had before they moved."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "leaf_audio.augmentation": "leaf_audio.postprocessing.spec_augment",
    "leaf_audio.base_frontend": "leaf_audio.frontend.base",
    "leaf_audio.compression": "leaf_audio.postprocessing",
    "leaf_audio.conv1d": "leaf_audio.common.conv1d",
    "leaf_audio.figures": "leaf_audio.diagnostics.figures",
    "leaf_audio.grouped_filterbank": "leaf_audio.frontend.grouped_filterbank",
    "leaf_audio.lean_ops": "leaf_audio.common.lean_ops",
    "leaf_audio.lingvo_augmentation": "leaf_audio.postprocessing.lingvo",
    "leaf_audio.mel": "leaf_audio.initializers.mel",
    "leaf_audio.normalization": "leaf_audio.postprocessing.normalization",
    "leaf_audio.planning": "leaf_audio.fast",
    "leaf_audio.spacing": "leaf_audio.initializers.spacing",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module under its old name, and gives the one that took over."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return importlib.import_module(MOVED[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: the module has been executed under its new name."""


def install() -> None:
    """Makes the old names importable; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
