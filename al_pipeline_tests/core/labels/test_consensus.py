"""Votes become labels only when people agree; what they say otherwise is reported, never trained on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.consensus import consensus, labels_hash

CLASSES = ["cat", "dog", "émeu"]
START = datetime(2025, 3, 1, tzinfo=UTC)
COLUMNS = ["sample_id", "annotator", "value", "kind", "annotation_id", "round", "updated_at"]


def _kind(value: str | None) -> str:
    return "empty" if value is None else "skip" if value == "skip" else "answer"


def events(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of (sample, annotator, value or "skip" or None, minute); annotation ids count up."""
    return pd.DataFrame(
        [
            (sample, annotator, None if value in (None, "skip") else value, _kind(value), number, "r0000", minute)
            for number, (sample, annotator, value, minute) in enumerate(rows, start=1)
        ],
        columns=COLUMNS,
    ).assign(updated_at=lambda frame: [START + timedelta(minutes=int(minute)) for minute in frame["updated_at"]])


def test_one_vote_is_a_label_that_names_its_annotation() -> None:
    agreed = consensus(events(("a", "ann", "cat", 0)), class_names=CLASSES)
    assert agreed.labels.to_dict("records") == [
        {
            "sample_id": "a",
            "label": "cat",
            "votes": 1,
            "n_votes": 1,
            "weight": 1.0,
            "annotation_ids": "1",
            "first_round": "r0000",
            "asked_with": None,
        }
    ]
    assert agreed.disputed.empty
    assert agreed.outside.empty
    assert agreed.skipped == agreed.open == []


def test_the_majority_decides_and_its_share_is_the_weight() -> None:
    votes = events(("a", "ann", "cat", 0), ("a", "bob", "dog", 1), ("a", "eve", "cat", 2))
    label = consensus(votes, class_names=CLASSES).labels.iloc[0]
    assert (label["label"], label["votes"], label["n_votes"]) == ("cat", 2, 3)
    assert label["weight"] == pytest.approx(2 / 3)
    assert label["annotation_ids"] == "1,3"


@pytest.mark.parametrize(
    "values", [["cat", "dog"], ["cat", "dog", "émeu"], ["cat", "cat", "dog", "dog"], ["cat", "cat", "dog", "émeu"]]
)
def test_without_a_strict_majority_the_sample_is_disputed_and_has_no_label(values: list[str]) -> None:
    votes = events(*(("a", f"u{number}", value, 0) for number, value in enumerate(values)))
    agreed = consensus(votes, class_names=CLASSES)
    assert agreed.labels.empty
    assert agreed.disputed["sample_id"].tolist() == ["a"]
    assert agreed.disputed["n_votes"].tolist() == [len(values)]


def test_a_dispute_lists_its_answers_most_frequent_first() -> None:
    votes = events(("a", "u1", "dog", 0), ("a", "u2", "cat", 0), ("a", "u3", "cat", 0), ("a", "u4", "dog", 0))
    assert consensus(votes, class_names=CLASSES).disputed["answers"].tolist() == ["cat: 2, dog: 2"]


def test_the_latest_answer_of_a_person_counts_whatever_order_the_events_come_in() -> None:
    votes = events(("a", "ann", "dog", 5), ("a", "ann", "cat", 9), ("a", "ann", "émeu", 7))
    for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
        agreed = consensus(votes.iloc[order], class_names=CLASSES).labels
        assert agreed[["label", "n_votes", "annotation_ids"]].to_numpy().tolist() == [["cat", 1, "2"]]


def test_a_person_who_changes_a_vote_to_a_skip_has_no_vote() -> None:
    agreed = consensus(events(("a", "ann", "cat", 0), ("a", "ann", "skip", 1)), class_names=CLASSES)
    assert agreed.labels.empty
    assert agreed.skipped == ["a"]


def test_a_label_needs_min_votes() -> None:
    votes = events(("a", "ann", "cat", 0), ("b", "ann", "cat", 0), ("b", "bob", "cat", 0))
    agreed = consensus(votes, class_names=CLASSES, min_votes=2)
    assert agreed.labels["sample_id"].tolist() == ["b"]
    assert agreed.open == ["a"]


def test_skips_make_up_for_missing_votes_but_never_make_a_label() -> None:
    votes = events(("a", "ann", "cat", 0), ("a", "bob", "skip", 0), ("b", "ann", "skip", 0))
    agreed = consensus(votes, class_names=CLASSES, min_votes=2)
    assert agreed.labels.empty
    assert agreed.skipped == ["a"]
    assert agreed.open == ["b"]


@pytest.mark.parametrize("value", ["fish", "Cat", "", None])
def test_answers_outside_the_class_set_and_empty_ones_are_reported_and_count_as_not_given(value: str | None) -> None:
    agreed = consensus(events(("a", "ann", value, 0), ("b", "ann", "cat", 0)), class_names=CLASSES)
    assert agreed.labels["sample_id"].tolist() == ["b"]
    assert agreed.outside.to_dict("records") == [
        {"sample_id": "a", "annotation_id": 1, "annotator": "ann", "value": value}
    ]
    assert agreed.open == ["a"]


def test_the_first_round_is_that_of_the_earliest_agreeing_vote() -> None:
    votes = events(("a", "ann", "dog", 0), ("a", "bob", "cat", 1), ("a", "eve", "cat", 2))
    votes["round"] = ["r0000", "r0007", "r0003"]
    assert consensus(votes, class_names=CLASSES).labels["first_round"].tolist() == ["r0003"]


def test_no_events_give_empty_frames_with_the_same_columns_and_types() -> None:
    full, empty = (consensus(frame, class_names=CLASSES) for frame in (events(("a", "ann", "cat", 0)), events()))
    assert empty.labels.empty
    assert empty.labels.dtypes.equals(full.labels.dtypes)
    assert list(empty.disputed.columns) == ["sample_id", "n_votes", "answers"]


def test_min_votes_below_one_and_missing_columns_are_refused() -> None:
    with pytest.raises(InputError, match="min_votes must be at least 1, not 0"):
        consensus(events(), class_names=CLASSES, min_votes=0)
    with pytest.raises(InputError, match="lack the columns \\['value'\\]"):
        consensus(events().drop(columns="value"), class_names=CLASSES)


answers = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["ann", "bob", "eve", "joe"]),
    st.sampled_from(["cat", "dog", "émeu", "fish", None, "skip"]),
    st.integers(0, 3),
)


@given(rows=st.lists(answers, max_size=25), min_votes=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_it_agrees_with_counting_by_hand(rows: list[tuple], min_votes: int) -> None:
    agreed = consensus(events(*rows), class_names=CLASSES, min_votes=min_votes)
    latest: dict[tuple[str, str], tuple[int, int, str | None]] = {}
    # An answer with nothing chosen takes nothing back.
    slips_first = sorted(enumerate(rows, start=1), key=lambda each: (each[1][2] is not None, each[1][3], each[0]))
    for number, (sample, annotator, value, minute) in slips_first:
        latest[sample, annotator] = (minute, number, value)

    labels, disputed, skipped, still_open = {}, set(), [], []
    for sample in sorted({sample for sample, _ in latest}):
        given_ = [(number, value) for (of, _), (_, number, value) in latest.items() if of == sample]
        votes = [value for _, value in given_ if value in CLASSES]
        skips = sum(value == "skip" for _, value in given_)
        winners = [value for value in set(votes) if 2 * votes.count(value) > len(votes)]
        if len(votes) >= min_votes and winners:
            ids = sorted(number for number, value in given_ if value == winners[0])
            labels[sample] = (winners[0], votes.count(winners[0]), len(votes), ",".join(map(str, ids)))
        elif len(votes) >= min_votes:
            disputed.add(sample)
        elif skips and len(votes) + skips >= min_votes:
            skipped.append(sample)
        else:
            still_open.append(sample)

    found = agreed.labels.set_index("sample_id")[["label", "votes", "n_votes", "annotation_ids"]]
    assert {sample: tuple(row) for sample, row in zip(found.index, found.to_numpy().tolist(), strict=True)} == labels
    assert set(agreed.disputed["sample_id"]) == disputed
    assert agreed.skipped == skipped
    assert agreed.open == still_open
    outside = {number for _, number, value in latest.values() if value in ("fish", None)}
    assert set(agreed.outside["annotation_id"]) == outside


def test_the_hash_of_the_labels_does_not_depend_on_their_order_but_on_each_label() -> None:
    labels = pd.DataFrame({"sample_id": ["a", "b", "c"], "label": ["cat", "dog", "cat"]})
    assert labels_hash(labels) == labels_hash(labels.iloc[[2, 0, 1]])
    assert labels_hash(labels) != labels_hash(labels.assign(label=["cat", "cat", "dog"]))
    assert labels_hash(labels) != labels_hash(labels.iloc[:2])
    one, other = (
        pd.DataFrame({"sample_id": ["a"], "label": ["b1:c"]}),
        pd.DataFrame({"sample_id": ["ab"], "label": ["1:c"]}),
    )
    assert labels_hash(one) != labels_hash(other)


@pytest.mark.parametrize("kind", ["empty", "hasty"])
def test_a_slip_of_the_hand_takes_nothing_back(kind: str) -> None:
    votes = events(("a", "ann", "cat", 0), ("a", "ann", "dog", 1), ("b", "ann", "dog", 2))
    votes["kind"] = ["answer", kind, kind]
    agreed = consensus(votes, class_names=CLASSES)
    assert dict(zip(agreed.labels["sample_id"], agreed.labels["label"], strict=True)) == {"a": "cat"}
    assert (agreed.open, agreed.skipped) == ((["b"], []) if kind == "empty" else ([], ["b"]))
