"""Recognizes the package's own commands.

`import leaf_audio` imports all layers at once, so that Keras can load saved
models. The commands import them later, after they have parsed their flags.
"""

import pathlib
import sys

_SCRIPT = "leaf-audio"
_PACKAGES = ("example.", "leaf_audio.")


def is_running() -> bool:
    """Returns whether this process runs one of the package's own commands.

    These are the installed script `leaf-audio`, and modules run by
    `python -m example.<name>` or `python -m leaf_audio.<name>`.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name.startswith(_PACKAGES)
    return bool(sys.argv) and pathlib.Path(sys.argv[0]).stem == _SCRIPT
