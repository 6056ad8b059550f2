"""What the results of a run tell about its model and its software."""

import importlib.metadata
import importlib.util
import math
import platform
import sys
from collections.abc import Sequence

import keras

from leaf_audio.models.student import kept_part
from leaf_audio.version import __version__


def parameters(model: keras.Model) -> dict[str, int]:
    """Counts the weights of a model that is trained: those that are kept."""
    model = kept_part(model)
    frontend = getattr(model, "frontend", None)
    return {
        "total": model.count_params(),
        "trainable": _count(model.trainable_variables),
        "frontend": _count(frontend.trainable_variables if frontend else []),
    }


def versions() -> dict[str, str]:
    """Returns the versions of what has an effect on the numbers of a run."""
    packages: tuple[str, ...] = ("keras", "tensorflow", "numpy")
    # Training works without it.
    if importlib.util.find_spec("gin") is not None:
        packages += ("gin-config",)
    backend = keras.backend.backend()
    if backend not in packages:
        packages += (backend,)
    return {
        "python": platform.python_version(),
        "backend": backend,
        "platform": platform.platform(),
        "leaf_audio": __version__,
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # It has another name here, as tensorflow-cpu has.
        return getattr(sys.modules.get(package), "__version__", "unknown")


def _count(variables: Sequence[keras.Variable]) -> int:
    return sum(math.prod(v.shape) for v in variables)
