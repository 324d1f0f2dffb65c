"""Markdown that says what it is given, and pages from it that stand alone: one HTML file, nothing to load."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it.token import Token

# An underscore inside of a word is one to every reader of Markdown.
MARKUP = re.compile(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])")
# What makes a line a list, a heading or a rule.
LEADING = re.compile(r"^(\d*)([-+=#.)])")
SPACE = re.compile(r"\s+")
STYLE = """
:root { color-scheme: light dark;
  --ink: #22272e; --faint: #5c6670; --line: #d8dee4; --paper: #ffffff; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ec; --faint: #9aa4af; --line: #3b434d; --paper: #16191d; --band: #20252b; }
}
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); padding-bottom: 0.2rem; }
table { display: block; max-width: 100%; overflow-x: auto; border-collapse: collapse; font-size: 0.88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.65rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td[style] { white-space: nowrap; }
th { color: var(--faint); font-weight: 600; }
tbody tr:nth-child(even) { background: var(--band); }
img { display: block; max-width: 100%; height: auto; margin: 1rem 0; background: #ffffff; border-radius: 4px; }
td img { display: inline-block; margin: 0 0.3rem 0 0; vertical-align: top; }
code { font-family: ui-monospace, monospace; font-size: 0.9em; background: var(--band); padding: 0.1rem 0.25rem; }
pre { overflow-x: auto; background: var(--band); padding: 0.6rem; } pre code { padding: 0; }
"""


def escaped(text: str) -> str:
    """Return text for one line of Markdown, in which nothing is markup: names are what people called their folders."""
    line = MARKUP.sub(r"\\\g<0>", SPACE.sub(" ", text).strip())
    return LEADING.sub(r"\1\\\2", line)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """Return a table; cells are Markdown of one line, all columns but the first are of numbers if there are any."""
    lines = [header, ["---", *["--:" if numbers else "---"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def data_address(png: bytes) -> str:
    """Return an address that is the image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def page(markdown: str, title: str, images: Mapping[str, bytes] | None = None) -> str:
    """Return Markdown as one HTML page without scripts that loads nothing.

    Parameters
    ----------
    markdown : str
        HTML in it is shown, not followed.
    title : str
    images : dict of str to bytes, optional
        PNG files by the addresses that the Markdown has for them. Of an image whose address is not among them there are
        only its words, as the page would have to load it.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                _embed(child, images or {})
    body = parser.renderer.render(tokens, parser.options, {})
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Whatever a name holds: no browser loads or runs anything for this page.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _embed(token: "Token", images: Mapping[str, bytes]) -> None:
    address: Any = token.attrs.get("src", "")
    if address in images:
        token.attrs["src"] = data_address(images[address])
    else:
        token.type, token.tag, token.attrs, token.children = "text", "", {}, None
