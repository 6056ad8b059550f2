"""Errors name the scope, the file or the macros that are to be changed."""

import gin
import pytest

from leaf_audio.app import configuration

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@gin.configurable(module="notebook")
def thing(value=1, inner=None):
    if isinstance(value, int):
        raise ValueError(inner or f"`value` must be a text. Received: {value}.")


@pytest.mark.parametrize(
    "raised, told",
    [
        (None, "`s/t/thing.value` must be a text. Received: 3."),
        ("`thing.value` must be a text.", "`s/t/thing.value` must be a text."),
        (
            "`others` must be a text.",
            "`others` must be a text. (In s/t/thing.)",
        ),
        ("too few.\nMore:", "too few.\nMore: (In s/t/thing.)"),
    ],
)
def test_an_error_in_a_scope_names_the_scope(raised, told):
    configuration.parse(
        [], ["s/t/thing.value = 3", f"s/t/thing.inner = {raised!r}"]
    )
    with gin.config_scope("s"), gin.config_scope("t"):
        with pytest.raises(ValueError) as error:
            thing()
    assert configuration.message(error.value) == told
    with pytest.raises(ValueError) as error:
        thing(3, raised)
    assert configuration.message(error.value) == told.replace("s/t/", "")
