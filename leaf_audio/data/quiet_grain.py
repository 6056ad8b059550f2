"""Imports Grain, for all modules that use it.

Grain warns where JAX is not installed, whose profiler it looks for.
"""

import logging

from leaf_audio.data import quiet

with quiet.only_from(logging.ERROR, "absl"):
    import grain

__all__ = ["grain"]
