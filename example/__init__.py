"""Commands that train, use and compare audio classifiers, and their configs.

All other code is in `leaf_audio`. Modules that were here in earlier versions
can still be imported by their old names.
"""

import sys


class _MovedModuleFinder:
    """Finds modules of earlier versions in `leaf_audio`.

    It imports `leaf_audio` only when such a module is asked for, so that the
    commands can parse their flags before they import Keras.
    """

    @staticmethod
    def find_spec(fullname, path, target=None):
        if not fullname.startswith("example."):
            return None
        from leaf_audio.common import moved

        return moved.MovedModuleFinder().find_spec(fullname, path, target)


sys.meta_path.append(_MovedModuleFinder)
