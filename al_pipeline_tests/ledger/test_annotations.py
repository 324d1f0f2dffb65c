"""The latest state of every annotation is what its events say: after a migration, and however they are appended."""

from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.database import connect, transaction
from al_pipeline.ledger.schema import annotation_events
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.builders import START, manifest, moment, plan_rows, said, sample

EVENTS = [
    said(1, sample(1), "cat"),
    said(1, sample(1), "dog", updated_at=moment(30), raw={"id": 1, "seen": "late"}),
    # An older state, pulled late.
    said(1, sample(1), "cow", updated_at=moment(10)),
    said(2, sample(2), "cat"),
    said(2, sample(2), "cat", updated_at=moment(5), deleted=True),
    # A server set back to an older state gives the same id out again.
    said(3, sample(3), "cat", updated_at=moment(40)),
    said(3, sample(4), "dog", created_at=moment(20), updated_at=moment(20), task_id=2),
    said(4, sample(5), None, cancelled=True, task_id=3),
    said(5, None, "cat", round=None, task_id=4),
]


def rows(events: list[Annotation]) -> list[dict[str, Any]]:
    return [asdict(event) | {"source": "label_studio", "pulled_at": moment(60)} for event in events]


def latest(events: list[Annotation]) -> dict[tuple[int, str], Annotation]:
    """The newest of each annotation, in plain Python."""
    found: dict[tuple[int, str], Annotation] = {}
    for event in events:
        key = event.annotation_id, str(event.created_at)
        if key not in found or event.updated_at > found[key].updated_at:
            found[key] = event
    return found


def seen(ledger: Ledger) -> list[tuple[Any, ...]]:
    answers = ledger.answers().sort_values(["annotation_id", "created_at"])
    answers["value"] = answers["value"].astype(object).where(answers["value"].notna(), None)
    columns = ["annotation_id", "sample_id", "value", "cancelled", "updated_at", "created_at", "task_id"]
    return list(answers[columns].itertuples(index=False, name=None))


def expected(events: list[Annotation]) -> list[tuple[Any, ...]]:
    found = [event for event in latest(events).values() if event.sample_id is not None and not event.deleted]
    found.sort(key=lambda event: (event.annotation_id, event.created_at))
    return [(e.annotation_id, e.sample_id, e.value, e.cancelled, e.updated_at, e.created_at, e.task_id) for e in found]


# Columns that came later.
ADDED = {"kind", "origin", "parent_prediction", "import_id", "cell"}


def test_a_ledger_of_revision_0002_has_the_same_answers_after_its_migration(url: str) -> None:
    engine = connect(url)
    config = Config()
    config.set_main_option("script_location", "al_pipeline.ledger:migrations")
    with transaction(engine, write=True) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        old = [{name: value for name, value in row.items() if name not in ADDED} for row in rows(EVENTS)]
        connection.execute(sa.insert(annotation_events), old)
    engine.dispose()

    ledger = Ledger(url)
    ledger.register(manifest())
    assert seen(ledger) == expected(EVENTS)
    assert ledger.count_annotations("label_studio") == (4, 1)
    known = ledger.known_annotations("label_studio", [1, 3])
    by_key = {(state.annotation_id, state.created_at): state for state in known}
    assert len(by_key) == len(known) == 4
    assert by_key[1, START].value == "dog"
    assert by_key[1, START].raw == {"id": 1, "seen": "late"}
    assert by_key[2, START].deleted
    assert verify(url).problems == []
    # And it goes on: a newer state wins, a known one changes nothing.
    assert ledger.append([replace(EVENTS[1], value="cow", updated_at=moment(50)), EVENTS[0]], moment(70)) == 1
    assert ledger.answers().set_index("sample_id").loc[sample(1), "value"] == "cow"
    assert verify(url).problems == []
    ledger.close()


@pytest.mark.parametrize("order", [1, -1])
def test_the_latest_event_wins_in_one_append_and_in_many(url: str, order: int) -> None:
    ledger = Ledger(url)
    ledger.register(manifest())
    for event in EVENTS[::order]:
        assert ledger.append([event], moment(60)) == 1
    assert seen(ledger) == expected(EVENTS)
    ledger.append(EVENTS, moment(61))
    assert seen(ledger) == expected(EVENTS)
    assert verify(url).problems == []
    ledger.append(EVENTS[::order], moment(62), source="another")
    assert ledger.count_annotations("another") == ledger.count_annotations("label_studio") == (4, 1)
    ledger.close()


def test_a_state_that_is_known_changes_nothing_whatever_else_it_says(url: str) -> None:
    ledger = Ledger(url)
    ledger.register(manifest())
    ledger.append([said(1, sample(1), "cat")], moment(1))
    assert ledger.append([said(1, sample(1), "dog"), said(1, sample(1), "dog", created_at=moment(-5))], moment(2)) == 0
    assert ledger.answers()[["value", "pulled_at"]].to_numpy().tolist() == [["cat", moment(1)]]
    assert verify(url).problems == []
    ledger.close()


votes = st.builds(
    lambda annotation, number, minutes, value, who, round_, deleted, kind: said(
        annotation,
        sample(number),
        None if value == "skip" else value,
        kind=None if value in ("skip", None) else kind,
        annotator=who,
        updated_at=moment(minutes),
        cancelled=value == "skip",
        round=round_,
        deleted=deleted,
    ),
    st.integers(1, 40),
    st.sampled_from([0, 1, 2, 3, 4, 5, 20]),
    st.integers(0, 3),
    st.sampled_from(["cat", "dog", "cow", "skip", None]),
    st.sampled_from(["ann", "bob", "eve"]),
    st.sampled_from(["r0000", "r0001", None]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from(["answer"] * 5 + ["guess", "copy", "hasty", "unsure", "correction"]),
)
TWO = ClassSet(("cat", "dog"))
# Nothing said of the classes; as they are; cow means cat today; cow was split into what nobody has answered yet.
CLASS_SETS = [
    None,
    TWO.add("cow"),
    TWO.add("cow").merge(["cow", "cat"], "cat"),
    TWO.add("cow").split("cow", ["ox", "yak"]),
]


@given(
    events=st.lists(votes, max_size=40, unique_by=lambda event: event.annotation_id),
    brought=st.lists(votes, max_size=4, unique_by=lambda event: event.annotation_id),
    min_votes=st.integers(1, 3),
    withdrawn=st.booleans(),
    names=st.sampled_from([["cat", "dog", "cow"], ["cat", "dog"]]),
    class_set=st.sampled_from(CLASS_SETS),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_current_labels_are_those_of_the_consensus(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[Annotation],
    brought: list[Annotation],
    min_votes: int,
    withdrawn: bool,
    names: list[str],
    class_set: ClassSet | None,
) -> None:
    """Queries, a holdout task, the images' own holdout, a review, labels brought along, unplanned samples."""
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledgers')}/ledger")
    ledger.register(manifest())
    ledger.plan("r0000", pd.concat([plan_rows(0, 1, 2), plan_rows(3, purpose="holdout")]))
    ledger.plan("r0001", plan_rows(1, 4, purpose="review"))
    if withdrawn:
        ledger.withdraw("r0000", [sample(2), sample(3)], moment(1))
    if class_set is not None:
        ledger.change_classes("set", {}, class_set)
    ledger.append(events, START)
    # Ids of their own: nobody's two answers share a moment and an id.
    ledger.append([replace(each, annotation_id=each.annotation_id + 100) for each in brought], START, source="import")
    whole = consensus(ledger.answers(purpose="query"), class_names=names, min_votes=min_votes)
    agreed = whole.labels
    columns = ["sample_id", "label", "votes", "n_votes"]
    found = ledger.current_labels(min_votes, class_names=names)
    pd.testing.assert_frame_equal(found, agreed[columns])
    everything = ledger.current_labels(min_votes)
    if len(names) == 3:
        pd.testing.assert_frame_equal(everything, found)
        assert ledger.count_labels(min_votes) == len(agreed) + len(whole.disputed)
    ledger.close()
