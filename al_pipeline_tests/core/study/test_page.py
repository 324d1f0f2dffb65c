"""Names are text, whatever they hold, and a page loads nothing."""

from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from al_pipeline.core.study.page import data_address, escaped, page, table

# Elements that have no end.
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """What a page holds; it fails where elements are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "title"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@settings(max_examples=60, deadline=None)
@example("1. one")
@example("# no heading")
@example("- no list")
@example("a_b_c _d_ *e* `f` | g & &amp; <b> [h](http://i) ![j](k) ~~l~~ \\ $m$")
@example("===")
@example("---")
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_a_name_is_shown_as_it_is(name: str) -> None:
    shown = " ".join(name.split())
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(escaped(name))
    expected = f"<p>{MarkdownIt().utils.escapeHtml(shown)}</p>\n" if shown else ""
    assert rendered == expected
    cell = Page(page(table(["a", "b"], [[escaped(name), "1"]]), name))
    assert cell.tags.count("td") == 2
    assert cell.text.split() == ["a", "b", *shown.split(), "1"]


def test_a_page_holds_its_pictures_and_loads_nothing() -> None:
    markdown = "# One\n\n![ours](a.png)\n\n![theirs](http://example.org/b.png)\n\n<script>alert(1)</script>\n"
    found = Page(page(markdown, "</title><script>", {"a.png": b"png"}))
    assert found.addresses == [data_address(b"png")]
    assert "script" not in found.tags
    assert "theirs" in found.text
    assert "<script>alert(1)</script>" in found.text


@pytest.mark.parametrize(("numbers", "right"), [(True, 2), (False, 0)])
def test_numbers_stand_on_the_right(numbers: bool, right: int) -> None:
    assert page(table(["a", "b"], [["c", "1"]], numbers=numbers), "t").count('style="text-align:right"') == right
