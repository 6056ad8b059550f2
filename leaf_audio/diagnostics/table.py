"""A table of the filters of a frontend, for people to read.

Example:

```python
import rich
from leaf_audio import diagnostics

rich.print(diagnostics.table(leaf))
```
"""

from collections.abc import Callable

import numpy as np
import rich.box
import rich.table

from leaf_audio.diagnostics.filters import drift, filters, pcen
from leaf_audio.frontend.base import Frontend


def table(frontend: Frontend) -> rich.table.Table:
    """Returns a table with one row for each filter.

    The columns are the values of `filters` and `pcen`. The columns `Δ` hold the
    drift of the column to their left.

    Args:
      frontend: Frontend with learnable filters. It must be built.

    Returns:
      A table that `rich.print` prints within 80 columns.

    Raises:
      ValueError: If the frontend is not built or has no learnable filters.
    """
    moved = drift(frontend)
    columns: list[tuple[str, Callable[[float], str], np.ndarray]] = []
    for name, values in filters(frontend).items():
        columns.append((name, _digits, values))
        columns.append(("Δ", "{:+.2f}".format, moved[name]))
    for name, values in pcen(frontend).items():
        columns.append((name, _digits, values))
    # Without padding and edges, the table fits into 80 columns.
    made = rich.table.Table(
        "#",
        title=frontend.name,
        box=rich.box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for name, _, _ in columns:
        heading = name.replace("bandwidth", "band-\nwidth").replace("_", "\n")
        made.add_column(heading, justify="right")
    for n in range(frontend.n_filters):
        cells = [write(float(values[n])) for _, write, values in columns]
        made.add_row(str(n), *cells)
    return made


def _digits(value: float) -> str:
    """Formats a number with four digits, or with all digits of its integer."""
    whole = 9999.5 <= abs(value) < 1e6
    return f"{value:.0f}" if whole else f"{value:.4g}"
