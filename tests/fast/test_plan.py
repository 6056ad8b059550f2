"""What a plan consists of, and what the search may choose from."""

import importlib
import itertools

import numpy as np
import threadpoolctl
from leaf_pairs import leaf_and_exact

from leaf_audio import fast
from leaf_audio.fast import error_model


def test_hops_cover_strides_that_few_divide():
    assert fast.candidate_hops(160, 60)[-4:] == [16, 20, 32, 40]
    hops = fast.candidate_hops(163, 60)
    assert all(b <= 2 * a for a, b in itertools.pairwise(hops))


def test_centre_frequencies_beyond_half_the_rate_are_those_below():
    leaf, _ = leaf_and_exact(n_filters=64, sample_rate=8000)
    before = leaf.plan.groups
    leaf.planned_for = leaf.planned_for * [1, 1, -1] + [0, 0, 4 * np.pi]
    for group, same in zip(leaf.plan.groups, before, strict=True):
        if isinstance(group, fast.SpectralGroup):
            assert (group.filters, group.bands) == (same.filters, same.bands)


def test_no_pair_of_bins_is_planned_twice():
    few = fast.SpectralGroup((0, 1), ((2, (-9, 99)), (6, (5, 40))))
    many = fast.SpectralGroup((2,), ((2, (-9, 99)), (12, (1, 20))))
    found = [
        (tier.offsets, tier.bins, tier.num_filters)
        for tier in fast.tiers([few, many])
    ]
    assert found == [
        (range(0, 3), (-9, 99), 3),
        (range(3, 7), (1, 40), 3),
        (range(7, 13), (1, 20), 1),
    ]


def test_the_old_name_of_the_module_still_works():
    assert importlib.import_module("leaf_audio.planning") is fast


def test_a_plan_is_searched_with_one_thread_of_numpy(monkeypatch):
    """Small systems of equations would wait for each other's threads."""

    def threads():
        found = threadpoolctl.threadpool_info()
        return {
            one["num_threads"] for one in found if one["user_api"] == "blas"
        }

    seen = []
    original = error_model.truncation_error

    def watched(*args):
        seen.append(threads())
        return original(*args)

    monkeypatch.setattr(error_model, "truncation_error", watched)
    with threadpoolctl.threadpool_limits(2, "blas"):
        leaf_and_exact(n_filters=8)
        assert threads() == {2}
    assert seen and all(one == {1} for one in seen)
