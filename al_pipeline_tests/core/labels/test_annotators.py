"""Agreement and the figures of each annotator, against counting by hand and published examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.labels.annotators import agreement, annotators
from al_pipeline.core.labels.consensus import consensus

NAMES = ["a", "b", "c", "d", "e"]


def answers(table: Mapping[str, Sequence[str | None]], *, skips: tuple[tuple[str, int], ...] = ()) -> pd.DataFrame:
    """One answer per annotator and sample; None is nobody's."""
    rows: list[dict[str, Any]] = [
        {"annotator": who, "sample_id": f"s{number:02d}", "value": value, "kind": "answer"}
        for who, values in table.items()
        for number, value in enumerate(values)
        if value is not None
    ]
    rows += [{"annotator": who, "sample_id": f"s{number:02d}", "value": None, "kind": "skip"} for who, number in skips]
    return pd.DataFrame(rows).assign(
        annotation_id=range(len(rows)), round="r0000", updated_at=pd.Timestamp("2026-01-01", tz="UTC"), lead_time=2.0
    )


def coincidence_alpha(events: pd.DataFrame) -> float:
    """Krippendorff's alpha by its definition: 1 − observed / expected disagreement over pairs of votes."""
    pairs: list[tuple[str, str, float]] = []
    for _, votes in events.groupby("sample_id")["value"]:
        values = votes.tolist()
        if len(values) > 1:
            pairs += [
                (x, y, 1 / (len(values) - 1)) for i, x in enumerate(values) for j, y in enumerate(values) if i != j
            ]
    total = sum(weight for *_, weight in pairs)
    observed = sum(weight for x, y, weight in pairs if x != y) / total
    shares = pd.Series([weight for *_, weight in pairs]).groupby([x for x, *_ in pairs]).sum()
    expected = 1 - sum(n * (n - 1) for n in shares) / (total * (total - 1))
    return 1 - observed / expected


def test_alpha_is_that_of_its_definition_also_with_votes_missing() -> None:
    rng = np.random.default_rng(0)
    table = {
        who: [
            None if rng.random() < 0.3 else NAMES[rng.integers(3)] if rng.random() < 0.4 else NAMES[i % 3]
            for i in range(30)
        ]
        for who in ("ann", "bob", "eve")
    }
    events = answers(table)
    assert agreement(events, NAMES).alpha == pytest.approx(coincidence_alpha(events), abs=1e-9)


def test_kappa_is_told_for_two_people_alone() -> None:
    # Cohen's own form: 50 subjects, both yes 20, both no 15, 5 and 10 apart: (0.7 − 0.5) / (1 − 0.5) = 0.4.
    first = ["a"] * 25 + ["b"] * 25
    second = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    assert agreement(answers({"ann": first, "bob": second}), NAMES).kappa == pytest.approx(0.4)
    assert agreement(answers({"ann": first, "bob": second, "eve": first}), NAMES).kappa is None


@pytest.mark.parametrize(
    "table",
    [{"ann": ["a", "b"]}, {"ann": ["a", None], "bob": [None, "b"]}, {"ann": ["a", "a"], "bob": ["a", "a"]}],
    ids=["one person", "never the same sample", "never another class"],
)
def test_where_chance_cannot_be_told_from_agreement_there_is_no_figure(table: dict[str, list[str | None]]) -> None:
    assert agreement(answers(table), NAMES).alpha is None


def test_each_annotator_has_figures_that_can_be_counted_by_hand() -> None:
    events = answers(
        {"ann": ["a", "b", "a", "c"], "bob": ["a", "b", "b", None], "eve": ["b", "b", None, None]}, skips=(("eve", 2),)
    )
    agreed = consensus(events, class_names=NAMES)
    planned = pd.DataFrame(
        {"round": "r0000", "sample_id": ["s00", "s01", "s03"], "predicted": ["b", "b", None]}, dtype=object
    )
    table = annotators(events, agreed.labels, planned, NAMES).set_index("annotator")
    assert table["votes"].to_dict() == {"ann": 4, "bob": 3, "eve": 2}
    assert table["skips"].to_dict() == {"ann": 0, "bob": 0, "eve": 1}
    # s00: a wins 2 to 1; s01: b; s02 is disputed and s03 has one vote.
    assert table["compared"].to_dict() == {"ann": 2, "bob": 2, "eve": 2}
    assert table["agrees"].to_dict() == {"ann": 1.0, "bob": 1.0, "eve": 0.5}
    assert table["guessed"].to_dict() == {"ann": 2, "bob": 2, "eve": 2}
    assert table["as_predicted"].to_dict() == {"ann": 0.5, "bob": 0.5, "eve": 1.0}
    assert table["seconds"].tolist() == [2.0] * 3


def test_a_person_who_only_skipped_has_a_row_without_shares() -> None:
    events = answers({"ann": ["a"]}, skips=(("bob", 0),))
    agreed = consensus(events, class_names=NAMES)
    planned = pd.DataFrame({"round": [], "sample_id": [], "predicted": []}, dtype=object)
    row = annotators(events, agreed.labels, planned, NAMES).set_index("annotator").loc["bob"]
    assert (row["votes"], row["skips"]) == (0, 1)
    assert np.isnan(row["agrees"])
    assert np.isnan(row["as_predicted"])
