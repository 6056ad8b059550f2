"""Adds to the site what lies outside docs/, and pages for the API.

The pages are written for GitHub, where README links to `docs/x.md` and a page
to `../leaf_audio/fast/README.md`. Here each file gets a place on the site, and
links to it are rewritten.
"""

import ast
import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]

# Files outside docs/, and their places on the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CITATION.cff": "CITATION.cff",
    "leaf_audio/fast/README.md": "leaf_audio/fast/README.md",
    "leaf_audio/pretrained/README.md": "leaf_audio/pretrained/README.md",
}

API = {
    "callbacks": "leaf_audio.callbacks",
    "convolution": "leaf_audio.convolution",
    "data": "leaf_audio.data",
    "diagnostics": "leaf_audio.diagnostics",
    "export": "leaf_audio.serving.export",
    "fast": "leaf_audio.fast",
    "few_examples": "leaf_audio.serving.few_examples",
    "figures": "leaf_audio.diagnostics.figures",
    "frontend": "leaf_audio.frontend",
    "hear": "leaf_audio.serving.hear",
    "impulse_responses": "leaf_audio.impulse_responses",
    "initializers": "leaf_audio.initializers",
    "models": "leaf_audio.models",
    "pooling": "leaf_audio.pooling",
    "postprocessing": "leaf_audio.postprocessing",
    "report": "leaf_audio.serving.report",
    "serving": "leaf_audio.serving",
    "training": "leaf_audio.training",
}

# The description of a function that mkdocstrings does not find by itself.
SHADOWED = """
::: {}
    options:
      show_root_heading: true
      show_root_full_path: false
"""


def on_files(files, config):
    """Adds the pages that are not in docs/."""
    for source, place in OUTSIDE.items():
        files.append(
            File.generated(config, place, abs_src_path=str(ROOT / source))
        )
    for name, module in API.items():
        text = f"# {imported_as(module)}\n\n::: {module}\n"
        text += "".join(map(SHADOWED.format, shadowed_functions(module)))
        files.append(File.generated(config, f"api/{name}.md", content=text))
    files.append(
        File.generated(config, "api/index.md", content=index_of_modules())
    )
    return files


def shadowed_functions(module):
    """Returns the public functions that have the name of their file.

    `leaf_audio.data.audio_folder` is a function, and also the name of the file
    that it comes from. mkdocstrings takes it for the file.
    """
    folder = ROOT.joinpath(*module.split("."))
    names = {
        alias.name
        for node in parsed(module).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return [
        f"{module}.{name}.{name}"
        for name in sorted(names)
        if (folder / f"{name}.py").is_file()
    ]


def parsed(module):
    """Returns the syntax tree of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        path = path / "__init__"
    return ast.parse(path.with_suffix(".py").read_text("utf-8"))


def imported_as(module):
    """Returns the name by which a module is imported."""
    return module.replace("diagnostics.figures", "figures")


def index_of_modules():
    """Returns the page that lists the modules, by their first sentences."""
    lines = ["# API", "", "| module | what is in it |", "|---|---|"]
    for name, module in sorted(API.items(), key=lambda item: item[1]):
        first = ast.get_docstring(parsed(module)).splitlines()[0]
        lines.append(
            f"| [`{imported_as(module)}`]({name}.md) | {first.rstrip('.')} |"
        )
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown, page, **_):
    """Rewrites the links of a page from the repository to the site."""
    place = page.file.src_uri
    sources = {there: source for source, there in OUTSIDE.items()}
    source = sources.get(place, f"docs/{place}")

    def rewritten(match):
        text, target = match.groups()
        target, hash_, anchor = target.partition("#")
        if not target or "://" in target:
            return match.group(0)
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(source), target)
        )
        # A page that is named by its file is named by its title instead.
        if text.endswith(".md") and path.endswith(text):
            text = title_of(ROOT / path)
        there = OUTSIDE.get(path, path.removeprefix("docs/"))
        link = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return f"[{text}]({link}{hash_}{anchor})"

    return re.sub(r"\[([^][]*)\]\(([^)\s]+)\)", rewritten, markdown)


def title_of(path):
    """Returns the first heading of a page."""
    return re.search(r"^# (.+)$", path.read_text("utf-8"), re.M).group(1)


def on_page_content(html, page, **_):
    """Mends what Markdown cannot say, and the links of a notebook to pages."""
    # A value stays with its unit, also in a narrow column of a table.
    html = re.sub(r"(?<=\d) (?=[%±])|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", html)
    if page.file.src_uri.endswith(".ipynb"):
        html = re.sub(
            r'href="\.\./([\w-]+)\.md"([^>]*)>[\w-]+\.md<',
            lambda match: (
                f'href="../{match[1]}.html"{match[2]}>'
                f"{title_of(ROOT / 'docs' / f'{match[1]}.md')}<"
            ),
            html,
        )
    return html
