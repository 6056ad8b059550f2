"""Writes a page that shows a run: curves, labels, filters, examples.

python -m example.report --workdir=runs/leaf
"""

from typing import Any

from leaf_audio.app.report_page import run, write

__all__ = ["write"]


def __getattr__(name: str) -> Any:
    # In earlier versions, what is now `leaf_audio.app.report` was here.
    from leaf_audio.app import report

    return getattr(report, name)


if __name__ == "__main__":
    run()
