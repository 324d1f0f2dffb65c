"""What is written once stays; what people did is kept; nobody is asked twice. On SQLite and on PostgreSQL."""

from datetime import datetime, timedelta, timezone

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.labels.consensus import consensus, labels_hash
from al_pipeline.ledger import Ledger, LedgerError, Watermark
from al_pipeline.ledger.database import transaction
from al_pipeline.ledger.schema import label_snapshots
from al_pipeline_tests.ledger.builders import START, asked, manifest, moment, plan_rows, said, sample


@pytest.fixture
def ledger(url: str):
    ledger = Ledger(url)
    ledger.register(manifest())
    yield ledger
    ledger.close()


def test_a_plan_comes_back_exactly_as_it_was_given(ledger: Ledger) -> None:
    rows = plan_rows(5, 3, 4)
    pd.testing.assert_frame_equal(ledger.plan("r0000", rows), rows)


def test_a_round_is_planned_once_and_then_keeps_its_batch(ledger: Ledger) -> None:
    first = ledger.plan("r0000", plan_rows(5, 3, 4))
    again = ledger.plan("r0000", plan_rows(7, 8))
    pd.testing.assert_frame_equal(again, first)
    assert set(ledger.planned()["sample_id"]) == {sample(5), sample(3), sample(4)}


def test_an_empty_plan_is_a_plan(ledger: Ledger) -> None:
    assert not ledger.is_planned("r0000")
    empty = ledger.plan("r0000", plan_rows())
    assert empty.empty
    assert empty.dtypes.equals(plan_rows(1).dtypes)
    assert ledger.is_planned("r0000")
    assert ledger.plan("r0000", plan_rows(1)).empty


def test_a_plan_lists_the_query_batch_before_the_holdout_by_rank(ledger: Ledger) -> None:
    rows = pd.concat([plan_rows(9, 1, purpose="holdout"), plan_rows(6, 2)], ignore_index=True)
    stored = ledger.plan("r0000", rows.iloc[[1, 3, 0, 2]])
    assert stored["sample_id"].tolist() == [sample(6), sample(2), sample(9), sample(1)]


def test_columns_that_a_plan_may_leave_out_are_empty(ledger: Ledger) -> None:
    rows = plan_rows(1)[["sample_id", "purpose", "rank", "strategy", "seed"]]
    stored = ledger.plan("r0000", rows).iloc[0]
    assert stored[["score", "propensity", "certainty", "predicted", "checkpoint"]].isna().all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (plan_rows(1).drop(columns="strategy"), "lack the columns \\['strategy'\\]"),
        (plan_rows(1, 2).assign(rank=[0, None]), "column rank has no value in 1 of 2"),
        (plan_rows(1, 1), f"twice, the first is {sample(1)}"),
    ],
)
def test_rows_that_are_no_plan_are_refused_and_nothing_is_stored(
    ledger: Ledger, rows: pd.DataFrame, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ledger.plan("r0000", rows)
    assert not ledger.is_planned("r0000")


@pytest.mark.parametrize("key", ["r1", "0001", "", "r00001", "r0001\n"])
def test_a_key_that_names_no_round_is_refused(ledger: Ledger, key: str) -> None:
    with pytest.raises(InputError, match="four digits"):
        ledger.plan(key, plan_rows(1))
    with pytest.raises(InputError, match="four digits"):
        ledger.snapshot(key, plan_rows(1))


def test_a_sample_is_not_asked_about_by_two_rounds(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2))
    with pytest.raises(LedgerError, match=f"{sample(2)} in r0000"):
        ledger.plan("r0001", plan_rows(3, 2))
    assert not ledger.is_planned("r0001")
    assert set(ledger.planned()["sample_id"]) == {sample(1), sample(2)}


def test_a_withdrawn_sample_may_be_asked_about_again(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2))
    ledger.withdraw("r0000", [sample(2)], moment(1))
    assert asked(ledger) == {sample(1)}
    ledger.plan("r0001", plan_rows(2, 3))
    assert asked(ledger) == {sample(1), sample(2), sample(3)}
    withdrawn = ledger.planned("r0000").set_index("sample_id")["withdrawn_at"]
    assert withdrawn[sample(2)] == moment(1)
    assert pd.isna(withdrawn[sample(1)])


def test_withdrawing_twice_keeps_the_first_moment(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    ledger.withdraw("r0000", [sample(1)], moment(1))
    ledger.withdraw("r0000", [sample(1)], moment(2))
    assert ledger.planned("r0000")["withdrawn_at"].tolist() == [moment(1)]


def test_an_unregistered_sample_cannot_be_planned(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="1 samples are not in the ledger"):
        ledger.plan("r0000", plan_rows(1, 999))
    assert not ledger.is_planned("r0000")


def test_registering_again_moves_a_sample_and_keeps_its_first_day(ledger: Ledger) -> None:
    ledger.register(manifest(pool=21).assign(uri="/elsewhere.png"))
    assert ledger.count_samples("pool") == 21
    assert ledger.count_samples("holdout") == 2
    ledger.plan("r0000", plan_rows(1))
    ledger.append([said(1, sample(1), "cat")], moment(1))
    assert ledger.export()["uri"].tolist() == ["/elsewhere.png"]


def test_pushed_tasks_are_recorded_and_a_second_push_keeps_their_time(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2))
    ledger.record_pushed("r0000", {sample(1): 11}, moment(1))
    ledger.record_pushed("r0000", {sample(1): 11, sample(2): 12}, moment(5))
    planned = ledger.planned("r0000")
    assert planned["task_id"].tolist() == [11, 12]
    assert planned["pushed_at"].tolist() == [moment(1), moment(5)]
    ledger.record_pushed("r0000", {sample(1): 99}, moment(9))
    assert ledger.planned("r0000")["pushed_at"].tolist() == [moment(9), moment(5)]


def test_a_task_that_is_back_is_not_withdrawn_any_more(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    ledger.withdraw("r0000", [sample(1)], moment(1))
    ledger.record_pushed("r0000", {sample(1): 11}, moment(2))
    assert asked(ledger) == {sample(1)}


def test_a_task_that_is_back_too_late_is_refused(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    ledger.withdraw("r0000", [sample(1)], moment(1))
    ledger.plan("r0001", plan_rows(1))
    with pytest.raises(LedgerError, match="another round asks about its sample by now"):
        ledger.record_pushed("r0000", {sample(1): 11}, moment(2))
    assert ledger.planned("r0000")["task_id"].isna().all()


def test_only_planned_samples_are_pushed_or_withdrawn(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    with pytest.raises(LedgerError, match=f"not in the plan of r0000, the first is {sample(2)}"):
        ledger.record_pushed("r0000", {sample(1): 11, sample(2): 12}, moment(1))
    with pytest.raises(LedgerError, match="not in the plan of r0001"):
        ledger.withdraw("r0001", [sample(1)], moment(1))
    assert ledger.planned("r0000")["task_id"].isna().all()


def test_appending_the_same_events_again_adds_nothing(ledger: Ledger) -> None:
    events = [said(number, sample(number), "cat") for number in range(5)]
    assert ledger.append(events[:3], moment(1)) == 3
    assert ledger.append(events, moment(2)) == 2
    assert ledger.append(reversed(events), moment(3)) == 0
    assert ledger.append([], moment(4)) == 0
    assert len(ledger.answers()) == 5


def test_a_changed_answer_is_a_new_event_and_the_current_answer(ledger: Ledger) -> None:
    ledger.append([said(1, sample(1), "cat")], moment(1))
    ledger.append([said(1, sample(1), "dog", updated_at=moment(30))], moment(31))
    assert ledger.answers()["value"].tolist() == ["dog"]
    assert ledger.answers()["pulled_at"].tolist() == [moment(31)]


def test_a_late_pull_of_an_older_state_changes_no_answer(ledger: Ledger) -> None:
    ledger.append([said(1, sample(1), "dog", updated_at=moment(30))], moment(31))
    ledger.append([said(1, sample(1), "cat", updated_at=moment(10))], moment(32))
    assert ledger.answers()["value"].tolist() == ["dog"]


def test_annotation_ids_of_two_servers_do_not_collide(ledger: Ledger) -> None:
    ledger.append([said(1, sample(1), "cat")], moment(1), source="old")
    ledger.append([said(1, sample(2), "dog")], moment(2), source="new")
    assert ledger.answers()["value"].tolist() == ["cat", "dog"]


def test_an_answer_to_a_task_that_is_not_ours_is_kept_but_is_no_answer(ledger: Ledger) -> None:
    assert ledger.append([said(1, None, "cat", round=None)], moment(1)) == 1
    assert ledger.answers().empty
    assert ledger.answers().dtypes["updated_at"] == "datetime64[ns, UTC]"


def test_moments_come_back_as_the_same_moments_whatever_their_zone(ledger: Ledger) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    at = datetime(2025, 3, 1, 1, 2, 3, 456789, tzinfo=zone)
    ledger.append([said(1, sample(1), "cat", updated_at=at)], at)
    assert ledger.answers()["updated_at"].tolist() == [at]
    ledger.set_watermark("pull", Watermark(at))
    assert ledger.watermark("pull") == Watermark(at)


def test_a_moment_without_a_zone_is_refused(ledger: Ledger) -> None:
    naive = datetime(2025, 3, 1)  # noqa: DTZ001
    with pytest.raises(InputError, match="aware datetimes only"):
        ledger.append([said(1, sample(1), "cat", updated_at=naive)], moment(1))
    with pytest.raises(InputError, match="aware datetimes only"):
        ledger.set_watermark("pull", Watermark(naive))


def test_a_watermark_is_none_until_it_is_set_and_then_the_last_value(ledger: Ledger) -> None:
    assert ledger.watermark("pull") is None
    ledger.set_watermark("pull", Watermark(moment(1)))
    ledger.set_watermark("pull", Watermark(moment(2), moment(5), -1, 2))
    ledger.set_watermark("other", Watermark(moment(3)))
    assert ledger.watermark("pull") == Watermark(moment(2), moment(5), -1, 2)


def test_the_purpose_of_an_answer_is_that_of_its_sample(ledger: Ledger) -> None:
    test_sample = sample(20)  # the images' own test split
    ledger.plan("r0000", pd.concat([plan_rows(1), plan_rows(2, purpose="holdout")]))
    events = [said(number, sample(number), "cat") for number in (1, 2, 3)]
    # A holdout sample stays holdout; a task of a round that never asked about it was made by hand, and asks nothing.
    events += [said(4, test_sample, "cat", round="r0000"), said(5, sample(2), "cat", round="r0009", annotator="bob")]
    ledger.append(events, moment(1))
    answers = ledger.answers()
    purposes = dict(zip(answers["annotation_id"], answers["purpose"], strict=True))
    assert purposes == {1: "query", 2: "holdout", 3: None, 4: "holdout", 5: None}
    assert ledger.answers(purpose="query")["annotation_id"].tolist() == [1]


def test_answers_to_a_withdrawn_task_are_kept(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    ledger.append([said(1, sample(1), "cat")], moment(1))
    ledger.withdraw("r0000", [sample(1)], moment(2))
    assert ledger.answers(purpose="query")["value"].tolist() == ["cat"]


def test_in_flight_means_asked_and_not_answered(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2, 3, 4, 5))
    ledger.withdraw("r0000", [sample(5)], moment(1))
    ledger.append(
        [said(1, sample(1), "cat"), said(2, sample(2), None, cancelled=True), said(3, sample(3), None)], moment(1)
    )
    assert {asked for _, asked in ledger.open_tasks()} == {sample(3), sample(4)}
    assert asked(ledger) == {sample(1), sample(2), sample(3), sample(4)}
    assert set(ledger.planned()["sample_id"]) == {sample(number) for number in (1, 2, 3, 4, 5)}


def hashes(ledger: Ledger) -> list[str]:
    """What the frozen labeled pools hash to, as it is stored."""
    with transaction(ledger._engine, write=False) as connection:
        query = sa.select(label_snapshots.c.labels_hash).order_by(label_snapshots.c.round)
        return list(connection.execute(query).scalars())


def agreed(ledger: Ledger) -> pd.DataFrame:
    return consensus(ledger.answers(), class_names=["cat", "dog"]).labels


def test_a_snapshot_comes_back_as_it_was_given_and_is_never_changed(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2))
    ledger.append([said(1, sample(1), "cat"), said(2, sample(2), "dog")], moment(1))
    assert not ledger.has_snapshot("r0001")
    first = agreed(ledger)
    pd.testing.assert_frame_equal(ledger.snapshot("r0001", first), first)

    ledger.append([said(1, sample(1), "dog", updated_at=moment(9))], moment(10))
    late = agreed(ledger)
    assert not late.equals(first)
    pd.testing.assert_frame_equal(ledger.snapshot("r0001", late), first)
    pd.testing.assert_frame_equal(ledger.snapshot("r0002", late), late)
    pd.testing.assert_frame_equal(ledger.frozen_labels("r0001"), first)
    assert hashes(ledger) == [labels_hash(first), labels_hash(late)]


def test_an_empty_snapshot_is_a_snapshot(ledger: Ledger) -> None:
    empty = agreed(ledger)
    assert ledger.snapshot("r0000", empty).empty
    assert ledger.has_snapshot("r0000")
    ledger.append([said(1, sample(1), "cat")], moment(1))
    assert ledger.snapshot("r0000", agreed(ledger)).empty
    assert ledger.frozen_labels("r0000").empty
    assert hashes(ledger) == [labels_hash(empty)]


def test_a_round_is_begun_by_its_plan_or_its_snapshot(ledger: Ledger) -> None:
    assert ledger.rounds() == set()
    ledger.plan("r0000", plan_rows(1))
    ledger.snapshot("r0001", agreed(ledger))
    assert ledger.rounds() == {"r0000", "r0001"}


def test_the_export_traces_each_label_to_its_annotation_and_its_plan(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2, 3))
    ledger.append(
        [
            said(1, sample(1), "cat"),
            said(2, sample(1), "dog", updated_at=moment(5)),
            said(3, sample(1), "cat", annotator="bob", task_id=77, lead_time=None),
            said(4, sample(2), None, cancelled=True),
            said(5, sample(9), "cat", round="r0005"),
        ],
        moment(6),
    )
    exported = ledger.export()
    assert exported[["sample_id", "annotator", "label", "annotation_id"]].to_numpy().tolist() == [
        [sample(1), "ann", "dog", 2],
        [sample(1), "bob", "cat", 3],
        [sample(9), "ann", "cat", 5],
    ]
    bob = exported.iloc[1]
    assert (bob["uri"], bob["purpose"], bob["round"], bob["task_id"]) == ("/images/1.png", "query", "r0000", 77)
    assert (bob["strategy"], bob["seed"], bob["checkpoint"]) == ("low_certainty", 7, "0123456789abcdef")
    assert bob["certainty"] == plan_rows(1)["certainty"].iloc[0]
    assert bob["pulled_at"] == moment(6)
    assert pd.isna(exported.iloc[2]["strategy"])


def test_raw_answers_are_kept_whole(ledger: Ledger) -> None:
    import sqlalchemy as sa

    raw = {"id": 1, "result": [{"value": {"choices": ["猫"]}}], "seen": moment(1)}
    ledger.append([said(1, sample(1), "猫", raw=raw)], moment(1))
    with ledger._engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT raw FROM annotation_events")).scalar_one()
    import json

    stored = json.loads(stored) if isinstance(stored, str) else stored
    assert stored == {**raw, "seen": str(moment(1))}


events_ = st.builds(
    lambda annotation, minutes, value: said(
        annotation,
        sample(annotation % 3),
        value,
        annotator=f"u{annotation % 2}",
        updated_at=moment(minutes),
        cancelled=value is None,
    ),
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from(["cat", "dog", None]),
)


@given(
    events=st.lists(events_, max_size=15, unique_by=lambda event: (event.annotation_id, event.updated_at)),
    cuts=st.lists(st.integers(0, 15), max_size=3),
    data=st.data(),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_do_not_depend_on_how_events_were_pulled(
    tmp_path_factory: pytest.TempPathFactory, events: list[Annotation], cuts: list[int], data: st.DataObject
) -> None:
    """Pulls overlap, repeat and come in any order; the view of what people say is always the same."""
    folder = tmp_path_factory.mktemp("ledgers")
    whole, pieces = Ledger(f"sqlite:///{folder}/whole"), Ledger(f"sqlite:///{folder}/pieces")
    whole.append(events, START)
    shuffled = data.draw(st.permutations(events))
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(events)], strict=True):
        pieces.append(shuffled[max(0, start - 2) : stop], START)
    pd.testing.assert_frame_equal(pieces.answers(), whole.answers())
    newest = {event.annotation_id: event for event in sorted(events, key=lambda event: event.updated_at)}
    assert dict(zip(whole.answers()["annotation_id"], whole.answers()["value"], strict=True)) == {
        number: event.value for number, event in newest.items()
    }
    whole.close()
    pieces.close()
