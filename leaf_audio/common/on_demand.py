"""Packages whose public names are imported when they are first used.

`import leaf_audio.data` alone would otherwise take as long as all libraries
that one of its modules needs.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attributes(
    package: str, modules: Mapping[str, str], names: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the functions that Python asks for the names of a package.

    Args:
        package: The name of the package.
        modules: For each name that is imported on demand, the module of the
            package that has it.
        names: All public names of the package.

    Returns:
        The package's `__getattr__` and `__dir__`.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}"
            )
        module = importlib.import_module(f"{package}.{modules[name]}")
        return getattr(module, name)

    return get, lambda: sorted(names)
