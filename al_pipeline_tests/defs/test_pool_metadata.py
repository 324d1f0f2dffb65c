"""What Dagster shows of a scan has a bounded size, however many files are set aside."""

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.report import describe
from al_pipeline.defs.assets.evaluation import why_untrained
from al_pipeline.defs.pool_metadata import pool_metadata
from al_pipeline_tests.core.data.pictures import draw


@pytest.mark.parametrize("classes", [["black", "white"], []], ids=["class folders", "flat"])
def test_a_scan_is_shown_in_counts_and_pictures(tmp_path: Path, classes: list[str]) -> None:
    for seed, name in enumerate(classes or [""]):
        draw(tmp_path / name, ["black"] * 6, seed=seed)
    manifest = scan(tmp_path)
    broken = manifest.iloc[:1].assign(split="excluded", sample_id=None)
    manifest = pd.concat([manifest, *(broken.assign(reason=f"empty file ({i} bytes)") for i in range(300))])
    found = pool_metadata(describe(manifest, tmp_path), manifest, ["black", "white"])
    assert (found["samples"], found["holdout"], found["excluded"]) == (6 * len(classes or [""]), 0, 300)
    assert [record.data["files"] for record in found["set_aside"].records] == [300]
    assert [record.data["class"] for record in found["images_by_class"].records] == (classes or ["no class"])
    assert ("class_sizes" in found) is bool(classes)
    assert "left_out" not in found
    pictures = [value.value for value in found.values() if isinstance(value, dg.MarkdownMetadataValue)]
    assert all(text.startswith("![") and len(text) < 140_000 for text in pictures)
    dg.MaterializeResult(metadata=found)


def test_a_network_that_could_not_learn_is_called_so_with_the_class_of_all_labels() -> None:
    assert why_untrained(pd.Series([], dtype=object)) is None
    assert str(why_untrained(pd.Series(["circle"] * 12))).startswith("untrained: all labels so far are 'circle'")
    assert "of one class" in str(why_untrained(pd.Series(["circle", "square"])))
