"""Reads HTML pages, for the tests of the page of a run."""

import base64
import html.parser


class Page(html.parser.HTMLParser):
    """The tags of a page, its text, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.source = [], [], [], text
        self.cells, self.is_cell = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")
            self.is_cell = True

    def handle_endtag(self, tag):
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.words.append(data)
        if self.is_cell:
            self.cells[-1] += data

    @property
    def text(self):
        return "".join(self.words)

    def sources(self, tag):
        return [attrs["src"] for name, attrs in self.tags if name == tag]


def decoded(uri):
    kind, _, content = uri.partition(";base64,")
    return kind.removeprefix("data:"), base64.b64decode(content)
