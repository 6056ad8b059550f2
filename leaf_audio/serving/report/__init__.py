"""A page that shows a finished run: one HTML file that needs nothing else.

`page` puts it together, `curves` draws how the training went, and `examples`
chooses clips to look at and listen to. The page needs matplotlib and Jinja,
which come with the extra `plot`.
"""

from leaf_audio.serving.report.examples import Examples, choose
from leaf_audio.serving.report.page import make_page

__all__ = ["Examples", "choose", "make_page"]
