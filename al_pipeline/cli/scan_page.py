"""What a scan found as one page: the tables of the terminal, and thumbnails of what is odd."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from al_pipeline.cli.tables import shown_counts
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.oddities import oddities
from al_pipeline.core.errors import ImageError
from al_pipeline.core.study.page import escaped, page, table

if TYPE_CHECKING:
    import pandas as pd

    from al_pipeline.core.data.report import Report

# Pixels and colours of a thumbnail: 7 KB at most, 10 KB in the page, which shows fewer than 100.
SIDE, COLORS = 96, 64


def scan_page(report: "Report", manifest: "pd.DataFrame", remarks: Sequence[str] = (), how: HowRead = AS_EVER) -> str:
    """Return the page, HTML that loads nothing.

    Parameters
    ----------
    report : Report
    manifest : DataFrame
        What it is about.
    remarks : sequence of str
        What is to be thought of, in sentences.
    how : HowRead
        How images are read.
    """
    pictures: dict[str, bytes] = {}
    parts = [f"# {escaped(report.title)}", *(f"- {escaped(remark)}" for remark in remarks), ""]
    counts = [(escaped(name), *numbers) for name, *numbers in shown_counts(report)]
    counts.append(("all", f"{report.pool:,}", f"{report.holdout:,}"))
    parts.append(table(["class", "pool", "holdout"], counts))
    facts = [(subject, escaped(text)) for subject, text in report.facts()]
    parts.append(table(["", ""], facts, numbers=False))
    if report.set_aside:
        rows = [(f"{each.files:,}", escaped(each.reason), escaped(each.example)) for each in report.set_aside]
        parts += ["## Set aside\n", table(["files", "why", "for example"], rows, numbers=False)]
    for oddity in oddities(manifest, report.root, how.levels):
        rows = [(_thumbnails(odd.uris, pictures, how), escaped(odd.text)) for odd in oddity.rows]
        parts += [f"## {escaped(oddity.title)}\n", f"{escaped(oddity.why)}\n", table(["", ""], rows, numbers=False)]
    return page("\n".join(parts), report.title, pictures)


def _thumbnails(uris: Sequence[str], pictures: dict[str, bytes], how: HowRead) -> str:
    """Return images in Markdown, and add what they show to the pictures by address."""
    shown = []
    for uri in uris:
        try:
            image = open_rgb(uri, at_least=SIDE, how=how)
        except ImageError:
            continue
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.quantize(COLORS).save(buffer, format="PNG", optimize=True)
        address = f"thumbnail-{len(pictures)}"
        pictures[address] = buffer.getvalue()
        shown.append(f"![thumbnail]({address})")
    return " ".join(shown)
