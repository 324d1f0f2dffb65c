"""Pictures as Dagster's metadata."""

import dagster as dg

from al_pipeline.core.study.page import data_address


def png_markdown(png: bytes, alt: str) -> str:
    """Return an image as markdown that carries it along."""
    return f"![{alt}]({data_address(png)})"


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """Return an image as metadata that Dagster's UI shows."""
    return dg.MetadataValue.md(png_markdown(png, alt))
