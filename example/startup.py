"""What commands do before they import TensorFlow."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def without_startup_messages() -> Iterator[None]:
    """Holds back what libraries write to stderr, unless they fail."""
    # TensorFlow's C++ parts write there before any setting reaches them, and
    # would bury what a run tells.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
