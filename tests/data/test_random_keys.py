"""Keys of different purposes draw different numbers."""

import itertools

import pytest

from leaf_audio.data.random_keys import generator

pytestmark = pytest.mark.any_backend


def test_no_two_keys_draw_the_same():
    keys = [
        (*begin, *(0,) * zeros)
        for length in range(1, 4)
        for begin in itertools.product(range(3), repeat=length)
        for zeros in range(4)
    ]
    keys = sorted(set(keys))
    drawn = {generator(7, *key).integers(2**62) for key in keys}
    assert len(drawn) == len(keys) > 100
    assert generator(7, 1, 2).random() == generator(7, 1, 2).random()
    assert generator(7, 1, 2).random() != generator(8, 1, 2).random()
