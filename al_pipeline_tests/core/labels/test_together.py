"""One answer about several images is the label of each, and still one answer."""

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.labels.annotation import Kind
from al_pipeline.core.labels.consensus import LABEL_COLUMNS, consensus, labels_hash
from al_pipeline.core.labels.together import with_members


def answers(**of_sample: str) -> pd.DataFrame:
    kind: Kind = "answer"
    rows = [
        {"sample_id": sample, "round": "r0000", "annotation_id": number, "annotator": "ann", "value": value}
        for number, (sample, value) in enumerate(of_sample.items())
    ]
    columns = ["sample_id", "round", "annotation_id", "annotator", "value"]
    return pd.DataFrame(rows, columns=columns).assign(kind=kind, updated_at=pd.Timestamp(0, tz="UTC"))


def shown(**beside: str) -> pd.DataFrame:
    pairs = [(sample, other) for sample, others in beside.items() for other in others]
    return pd.DataFrame(pairs, columns=["sample_id", "member_id"])


def labels(**of_sample: str) -> pd.DataFrame:
    return consensus(answers(**of_sample), class_names=["cat", "dog"]).labels


def test_the_answer_goes_to_those_that_were_shown_with_its_provenance() -> None:
    found = with_members(labels(a="cat", e="dog"), shown(a="bc", e="d"), own=()).set_index("sample_id")
    assert found["label"].to_dict() == {"a": "cat", "b": "cat", "c": "cat", "d": "dog", "e": "dog"}
    assert found["asked_with"].to_dict() == {"a": None, "b": "a", "c": "a", "d": "e", "e": None}
    provenance = ["votes", "n_votes", "weight", "annotation_ids", "first_round"]
    assert found.loc["b", provenance].to_dict() == found.loc["a", provenance].to_dict()


def test_what_people_said_of_an_image_by_itself_wins_and_so_does_that_they_disagree() -> None:
    assert with_members(labels(a="cat", b="dog"), shown(a="bc"), own=("b",))["label"].tolist() == ["cat", "dog", "cat"]
    # c has votes of its own, and no label.
    assert with_members(labels(a="cat"), shown(a="bc"), own=("c",))["sample_id"].tolist() == ["a", "b"]


def test_without_an_answer_there_is_no_label_for_anybody() -> None:
    assert with_members(labels(), shown(a="bc"), own=()).empty
    one = labels(a="cat")
    pd.testing.assert_frame_equal(with_members(one, shown(x="yz"), own=()), one)
    pd.testing.assert_frame_equal(with_members(one, shown(), own=()), one)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["cat", "dog"])),
    st.dictionaries(st.sampled_from("ghijklmn"), st.sampled_from("abcdef")),
    st.sets(st.sampled_from("ghijklmn")),
)
def test_every_image_has_one_label_and_what_was_there_before_stays(
    said: dict[str, str], asked_with: dict[str, str], own: set[str]
) -> None:
    before = labels(**said)
    members = pd.DataFrame(list(asked_with.items()), columns=["member_id", "sample_id"])
    found = with_members(before, members, own)
    assert found["sample_id"].is_unique
    assert found["sample_id"].is_monotonic_increasing
    assert labels_hash(found[found["asked_with"].isna()]) == labels_hash(before)
    expected = {other for other, sample in asked_with.items() if sample in said and other not in own}
    assert set(found.loc[found["asked_with"].notna(), "sample_id"]) == expected
    assert list(found.columns) == list(LABEL_COLUMNS)
    assert found.dtypes.equals(before.dtypes)
