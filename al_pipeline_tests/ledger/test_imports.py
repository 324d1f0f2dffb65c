"""Labels that people bring along are labels like others: once each, traced, and all or none."""

from collections.abc import Iterator, Sequence

import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.imports import Imported, import_labels
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample

CLASSES = ["cat", "dog"]


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.register(manifest())
    yield ledger
    ledger.close()


def load(ledger: Ledger, **columns: Sequence[str | None]) -> Imported:
    return import_labels(ledger, pd.DataFrame(columns), CLASSES, origin="labels.csv")


def labels(ledger: Ledger) -> dict[str, str]:
    agreed = consensus(ledger.answers(purpose="query"), class_names=CLASSES).labels
    return dict(zip(agreed["sample_id"], agreed["label"], strict=True))


def test_imported_labels_are_trained_on_though_nobody_was_asked(ledger: Ledger) -> None:
    done = load(ledger, path=["images/3.png", "4.png", "5.png"], label=["cat", "dog", None])
    assert done == Imported(new=2, changed=0, unchanged=0)
    assert labels(ledger) == {sample(3): "cat", sample(4): "dog"}
    assert ledger.imported() == {sample(3), sample(4)}
    exported = ledger.export()
    assert exported["source"].tolist() == ["import"] * 2
    assert exported["annotator"].tolist() == ["import"] * 2


def test_the_same_table_again_changes_nothing_and_another_label_changes_that_one(ledger: Ledger) -> None:
    table = {"sample_id": [sample(3), sample(4)], "label": ["cat", "dog"]}
    load(ledger, **table)
    assert load(ledger, **table) == Imported(new=0, changed=0, unchanged=2)
    assert load(ledger, **table | {"label": ["cat", "cat"]}) == Imported(new=0, changed=1, unchanged=1)
    assert labels(ledger) == {sample(3): "cat", sample(4): "cat"}
    assert load(ledger, **table) == Imported(new=0, changed=1, unchanged=1)
    assert labels(ledger) == {sample(3): "cat", sample(4): "dog"}


def test_several_people_vote_and_those_in_label_studio_with_them(ledger: Ledger) -> None:
    load(ledger, path=["3.png", "3.png", "3.png"], label=["cat", "cat", "dog"], annotator=["ann", "ann", "bob"])
    assert labels(ledger) == {}, "one against one"
    ledger.plan("r0000", plan_rows(3))
    ledger.append([said(1, sample(3), "dog", annotator="eve", updated_at=moment(1))], moment(2))
    assert labels(ledger) == {sample(3): "dog"}


def test_what_is_asked_blind_for_the_holdout_is_never_trained_on(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(3, purpose="holdout"))
    load(ledger, sample_id=[sample(3), sample(20)], label=["cat", "dog"])
    assert labels(ledger) == {}
    assert len(ledger.answers(purpose="holdout")) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["3.png"]}, "labels.csv has the columns path: name one `label`"),
        ({"label": ["cat"]}, "and one `path` or `sample_id`"),
        ({"path": ["3.png", "4.png"], "label": ["cat", "owl"]}, "1 of 2 rows.*nothing was imported.*'owl' is no class"),
        ({"path": ["x/3.png"], "label": ["cat"]}, "path 'x/3.png' is no image of the pool"),
        ({"path": ["3.png", "99.png"], "label": ["cat", "cat"]}, "'99.png' is no image"),
        ({"sample_id": ["f" * 32], "label": ["cat"]}, "is not in the image pool"),
        ({"path": ["3.png", "3.png"], "label": ["cat", "dog"]}, "2 of 2 rows.*by the same person"),
        ({"path": ["images/same.png"], "label": ["cat"]}, "the end of several images' paths: add the folders"),
        ({"path": [""], "label": ["cat"]}, "path '' is no image"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_whole(
    ledger: Ledger, columns: dict[str, list[str | None]], message: str
) -> None:
    twice = manifest(2).head(2).assign(sample_id=["a" * 32, "b" * 32], uri=["/a/images/same.png", "/b/images/same.png"])
    ledger.register(twice)
    with pytest.raises(InputError, match=message):
        load(ledger, **columns)
    assert ledger.answers().empty


def test_a_ledger_with_imported_labels_is_in_order(ledger: Ledger, url: str) -> None:
    load(ledger, path=["3.png", "4.png"], label=["cat", "dog"])
    ledger.snapshot("r0001", consensus(ledger.answers(purpose="query"), class_names=CLASSES).labels)
    report = verify(url)
    assert report.problems == []
    assert report.counts["annotation events"] == report.counts["labels in snapshots"] == 2
