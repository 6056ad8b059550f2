"""Tells whether this process is one of the package's own commands."""

import pathlib
import sys

_SCRIPT = "leaf-audio"
_PACKAGES = ("example.", "leaf_audio.")


def is_running() -> bool:
    """Returns whether `leaf-audio` or `python -m example.*` is running."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name.startswith(_PACKAGES)
    return bool(sys.argv) and pathlib.Path(sys.argv[0]).stem == _SCRIPT
