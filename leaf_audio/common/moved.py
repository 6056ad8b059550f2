"""Keeps imports working under the names that modules had before they moved.

`install` adds a finder to Python's import system. When a module of the old
layout is imported, the finder imports the module that took its place and also
registers it under the old name. Existing files always have priority.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

# Old names and the modules or packages that took their place.
MOVED = {
    "example.audio_folder": "leaf_audio.data",
    "example.clips": "leaf_audio.data.clips",
    "example.configuration": "leaf_audio.app.configuration",
    "example.data": "leaf_audio.data",
    "example.run": "leaf_audio.app.run",
    "example.startup": "leaf_audio.app.startup",
    "example.strategies": "leaf_audio.training.strategies",
    "example.synthetic_vowels": "leaf_audio.data.synthetic_vowels",
    "example.tfds_audio": "leaf_audio.data.tfds_audio",
    "example.train": "leaf_audio.app.train",
    "example.workdir": "leaf_audio.training.workdir",
    "leaf_audio.augmentation": "leaf_audio.postprocessing.spec_augment",
    "leaf_audio.base_frontend": "leaf_audio.frontend.base",
    "leaf_audio.compression": "leaf_audio.postprocessing",
    "leaf_audio.constraints": "leaf_audio.convolution",
    "leaf_audio.conv1d": "leaf_audio.common.conv1d",
    "leaf_audio.efficient_leaf": "leaf_audio.frontend",
    "leaf_audio.fft": "leaf_audio.convolution",
    "leaf_audio.figures": "leaf_audio.diagnostics.figures",
    "leaf_audio.grouped_filterbank": "leaf_audio.frontend.grouped_filterbank",
    "leaf_audio.lean_ops": "leaf_audio.common.lean_ops",
    "leaf_audio.lingvo_augmentation": "leaf_audio.postprocessing.lingvo",
    "leaf_audio.logtbn": "leaf_audio.postprocessing",
    "leaf_audio.mel": "leaf_audio.initializers.mel",
    "leaf_audio.normalization": "leaf_audio.postprocessing.normalization",
    "leaf_audio.planning": "leaf_audio.fast",
    "leaf_audio.spacing": "leaf_audio.initializers.spacing",
    "leaf_audio.spectrogram": "leaf_audio.frontend",
}


class MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module of the old layout from its new place."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns a spec for an old name in `MOVED`, otherwise None.

        Args:
          fullname: Name of the module that is being imported.
          path: Search path of its package. Not used.
          target: Module that is being reloaded, if any. Not used.
        """
        if fullname not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Imports the module that took the place of the old one.

        Args:
          spec: Spec from `find_spec`.

        Returns:
          The module itself, not a copy.
        """
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leaves the module as it is, since it was executed on its import.

        Python has replaced the module's spec by that of the old name. This
        method puts the right one back.

        Args:
          module: Module from `create_module`.
        """
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Makes the old names importable. Another call has no effect."""
    if not any(isinstance(f, MovedModuleFinder) for f in sys.meta_path):
        sys.meta_path.append(MovedModuleFinder())
