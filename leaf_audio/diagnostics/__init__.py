"""What the filters of a frontend are, and what they have learned.

`drift` answers whether the filters learn, and `table` shows it to a person.
`callbacks.LogFilters` logs it during training. Frequencies are in Hz and
durations in ms. `figures` draws filters and outputs; it needs matplotlib and is
imported by itself, as `leaf_audio.figures`.
"""

from leaf_audio.diagnostics.filters import (
    centres_hz,
    drift,
    filters,
    impulse_responses,
    learned_frontends,
    pcen,
    responses,
)
from leaf_audio.diagnostics.table import table

__all__ = [
    "centres_hz",
    "drift",
    "filters",
    "impulse_responses",
    "learned_frontends",
    "pcen",
    "responses",
    "table",
]
