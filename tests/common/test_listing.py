"""Names in messages: the first of them, and how many more there are."""

import pytest

from leaf_audio.common.listing import as_item, listed

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "names, most, expected",
    [
        ([], 3, ""),
        (["a"], 1, "a"),
        (["a", "b", "c"], 3, "a, b, c"),
        (["a", "b", "c"], 2, "a, b and 1 more"),
        (map(repr, "abcdef"), 2, "'a', 'b' and 4 more"),
    ],
)
def test_the_first_names_are_listed(names, most, expected):
    assert listed(names, most) == expected


def test_the_separator_may_be_another():
    assert listed("abcd", 2, separator="; ") == "a; b and 2 more"


def test_an_item_with_a_comma_is_quoted():
    names = ["rain", "speech, far", "bird"]
    assert ", ".join(map(as_item, names)) == "rain, 'speech, far', bird"
