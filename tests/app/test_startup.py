"""What commands do before they import TensorFlow."""

import os
import platform

import pytest
from tones import python

from leaf_audio.app import startup

pytestmark = pytest.mark.any_backend

# Prints how many pages the system had to provide for arrays that are freed.
COUNT_FAULTS = """
import resource, sys, threading
import numpy as np
from leaf_audio.app import startup

if sys.argv[1] == "keep":
    startup.keep_freed_memory()

def use_and_free():
    for _ in range(60):
        # More than what glibc learns to keep by itself.
        np.ones(10 * 2**20, "float32")

use_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use_and_free()
thread = threading.Thread(target=use_and_free)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc"
)
@pytest.mark.slow
def test_memory_that_is_freed_is_used_again():
    kept, returned = (
        int(python("-c", COUNT_FAULTS, mode).stdout)
        for mode in ("keep", "default")
    )
    assert kept < returned / 2


@pytest.mark.parametrize("chosen, used", [(None, "1"), ("0", "0")])
def test_onednn_is_used_unless_the_user_decides(monkeypatch, chosen, used):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", chosen)
    startup.prefer_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == used
