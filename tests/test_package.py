"""The names that `import leaf_audio` offers."""

import pytest

import leaf_audio
from leaf_audio import frontend
from leaf_audio.frontend.base import Frontend


@pytest.mark.any_backend
def test_each_frontend_is_an_attribute_of_the_package():
    for name in frontend.__all__:
        value = getattr(frontend, name)
        if isinstance(value, type) and issubclass(value, Frontend):
            assert getattr(leaf_audio, name) is value
            assert name in dir(leaf_audio)


@pytest.mark.any_backend
def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Leave'"):
        leaf_audio.Leave  # noqa: B018
