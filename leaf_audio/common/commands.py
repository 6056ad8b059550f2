"""Tells whether this process is one of the package's own commands."""

import pathlib
import sys

# Names of the script, the last two on Windows.
_SCRIPTS = ("leaf-audio", "leaf-audio.exe", "leaf-audio-script.py")
_SISTERS = (
    *("classify_embeddings", "embed", "export", "main", "plot", "predict"),
    *("prepare", "report", "report_page", "stream", "study"),
)
_MODULES = {
    "leaf_audio",
    "leaf_audio.__main__",
    *(
        f"{folder}.{n}"
        for folder in ("example", "leaf_audio.app")
        for n in _SISTERS
    ),
}


def is_running() -> bool:
    """Returns whether the process runs a command of this package.

    These are the script `leaf-audio`, `python -m leaf_audio` and
    `python -m example.main` with its sisters.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name in _MODULES
    if not sys.argv:
        return False
    # While Python looks for the module of `-m`, which imports its package, the
    # module has no name yet, and `sys.argv` starts with "-m".
    if sys.argv[0] == "-m":
        return _module_to_run() in _MODULES
    return pathlib.Path(sys.argv[0]).name in _SCRIPTS


def _module_to_run() -> str:
    arguments = sys.orig_argv
    return arguments[arguments.index("-m") + 1] if "-m" in arguments else ""
