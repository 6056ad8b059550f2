"""What libraries log is not shown to users."""

import logging

import pytest
from tones import python

from leaf_audio.data.quiet import only_from

pytestmark = pytest.mark.any_backend

# An error is raised where a module of this value is imported. In a command,
# `leaf_audio` does not import Keras, which takes seconds.
_WITHOUT_JAX = (
    "import sys; sys.argv = ['leaf-audio']; sys.modules['jax'] = None; "
)


@pytest.mark.parametrize("module", ["shares", "batches", "reading_ahead"])
def test_grain_does_not_warn_of_a_library_that_it_does_not_need(module):
    process = python(
        "-c",
        f"{_WITHOUT_JAX}import leaf_audio.data.{module}",
        KERAS_BACKEND="tensorflow",
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert "jax" not in process.stderr


@pytest.mark.fast
def test_loggers_log_from_a_level_on_and_then_as_before(caplog):
    logger, other = (logging.getLogger(f"test.{one}") for one in "ab")
    caplog.set_level(logging.INFO)
    logger.setLevel(logging.INFO)
    with only_from(logging.WARNING, "test.a"):
        logging.getLogger("test.a.below").info("not shown")
        logger.setLevel(logging.DEBUG)
        logger.info("not shown")
        logger.warning("shown")
        other.info("of another")
    assert logger.level == logging.INFO
    logger.info("after it")
    assert caplog.messages == ["shown", "of another", "after it"]
