"""The fast path: Leaf's energies at a fraction of the full-rate cost.

`make_plan` chooses for each filter how it is computed, and PlannedFilterbank
computes a filterbank by such a plan. README.md in this folder explains the
mathematics. From bottom to top: `constants`, `plan` (what a plan is),
`error_model` (how its error is predicted), `search` (how it is found);
`frame_grid`, `window_weights`, `decimation` and `spectral` (how it is
computed); `plan_following` (when it is made anew); `filterbank`.
"""

from leaf_audio.fast.constants import CONSTANTS, PlanConstants
from leaf_audio.fast.filterbank import (
    PlannedFilterbank,
    can_be_planned,
    planned_energies,
)
from leaf_audio.fast.plan import (
    Geometry,
    Plan,
    SparseGroup,
    SpectralGroup,
    Tier,
    tiers,
)
from leaf_audio.fast.plan_following import PlanFollower
from leaf_audio.fast.search import candidate_hops, make_plan

__all__ = [
    "CONSTANTS",
    "Geometry",
    "Plan",
    "PlanConstants",
    "PlanFollower",
    "PlannedFilterbank",
    "SparseGroup",
    "SpectralGroup",
    "Tier",
    "can_be_planned",
    "candidate_hops",
    "make_plan",
    "planned_energies",
    "tiers",
]
