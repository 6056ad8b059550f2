"""Weights of energies as polynomials of the width of a window."""

import numpy as np
import pytest
from keras import ops

from leaf_audio import frontend
from leaf_audio.fast import CONSTANTS, Geometry
from leaf_audio.fast.window_weights import weights_of_energies
from leaf_audio.impulse_responses import gaussian_windows

GEOMETRY = Geometry(401, 401, 160)


@pytest.fixture(scope="module")
def groups():
    leaf = frontend.Leaf()
    leaf.build((None, None))
    return leaf.plan.groups


def masks(first, last):
    """All of a window, a part from a sample on, and a part up to a sample."""
    time = np.arange(401)[:, None]
    return np.concatenate([time >= 0, time >= first, time < last], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_polynomials_give_what_the_matrices_do(groups, seed):
    """Anywhere within the margins, and up to them."""
    rng = np.random.default_rng(seed)
    planned = np.concatenate([group.widths for group in groups])
    factors = CONSTANTS.width_margin ** rng.uniform(-1, 1, len(planned))
    factors[:2] = CONSTANTS.width_margin, 1 / CONSTANTS.width_margin
    inside = masks(*rng.integers(1, 401, 2))
    widths = (planned * factors).astype("float32")
    found = ops.convert_to_numpy(
        weights_of_energies(
            groups, GEOMETRY, ops.convert_to_tensor(widths), inside
        )
    )
    assert found.dtype == np.float32
    by_filter = dict(
        zip([n for g in groups for n in g.filters], widths, strict=True)
    )
    first = 0
    for group in groups:
        per_stride = GEOMETRY.energies_per_stride(group.hop)
        count = len(group.filters)
        own = found[..., first : first + per_stride * count]
        own = own.reshape(3, -1, count)
        first += per_stride * count
        for place, n in enumerate(group.filters):
            window = gaussian_windows(np.array([by_filter[n]], float), 401)
            expected = group.weight_matrices[place] @ (window * inside)
            energies = len(expected)
            error = own[:, :energies, place] - expected.T
            assert np.abs(error).max() < 1e-5 * np.abs(expected).max()
            # There are no energies beyond the window.
            assert not own[:, energies:, place].any()
    assert first == found.shape[-1]


def test_masks_of_a_running_graph_give_the_same_weights(groups):
    inside = masks(200, 330)
    planned = np.concatenate([group.widths for group in groups])
    widths = ops.convert_to_tensor((1.2 * planned).astype("float32"))
    found, expected = (
        ops.convert_to_numpy(
            weights_of_energies(groups, GEOMETRY, widths, some)
        )
        for some in (inside, ops.convert_to_tensor(inside))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
