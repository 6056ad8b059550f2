"""What filters are and what they have learned, in Hz and ms."""

from leaf_audio.diagnostics.filters import (
    drift,
    filters,
    impulse_responses,
    learned_frontends,
    pcen,
    responses,
    table,
)

__all__ = [
    "drift",
    "filters",
    "impulse_responses",
    "learned_frontends",
    "pcen",
    "responses",
    "table",
]
