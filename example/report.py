"""Writes a page that shows a run: curves, labels, filters, examples.

python -m example.report --workdir=runs/leaf
"""

from leaf_audio.app.report_page import run, write

__all__ = ["write"]

if __name__ == "__main__":
    run()
