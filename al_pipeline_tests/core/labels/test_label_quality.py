"""Labels that are wrong on purpose are found, and good annotators outvote bad ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.labels.consensus import consensus
from al_pipeline.core.labels.label_quality import out_of_sample, suspected_errors, weigh_annotators

NAMES = ["cat", "dog", "owl"]
N = 120
RNG = np.random.default_rng(7)
TRUTH = RNG.integers(0, 3, N)
FEATURES = (RNG.normal(size=(N, 8)) + 6 * np.eye(8)[TRUTH]).astype(np.float32)
IDS = [f"s{number:03d}" for number in range(N)]


def features(ids: Sequence[str]) -> np.ndarray:
    return FEATURES[[int(sample[1:]) for sample in ids]]


def votes(error_rates: dict[str, float], *, samples: Sequence[int] = range(N), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in samples:
        for who, rate in error_rates.items():
            said = (TRUTH[number] + rng.integers(1, 3)) % 3 if rng.random() < rate else TRUTH[number]
            rows.append({"sample_id": IDS[number], "annotator": who, "value": NAMES[said]})
    return pd.DataFrame(rows).assign(
        annotation_id=range(1, len(rows) + 1), round="r0000", kind="answer", updated_at=pd.Timestamp(0, tz="UTC")
    )


def right(labels: pd.DataFrame) -> int:
    return sum(NAMES[TRUTH[int(row.sample_id[1:])]] == row.label for row in labels.itertuples())


def test_no_sample_is_predicted_by_a_model_that_saw_its_label() -> None:
    # Labels drawn by lot cannot be predicted by a model that has not seen them; one that has would know them all.
    chance = np.random.default_rng(1).integers(0, 3, N)
    probabilities = out_of_sample(np.eye(N, dtype=np.float32), chance, 3, seed=0)
    assert probabilities is not None
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == chance).mean() < 0.5


def test_one_label_of_a_new_class_is_not_judged_and_the_others_are() -> None:
    given = TRUTH.copy()
    wrong = list(range(0, 60, 10))
    given[wrong] = (given[wrong] + 1) % 3
    given[[5, 6]] = 3
    probabilities = out_of_sample(FEATURES, given, 4, seed=0)
    assert probabilities is not None
    assert np.flatnonzero(np.isnan(probabilities).any(axis=1)).tolist() == [5, 6]
    suspects = suspected_errors(IDS, given, probabilities)
    assert set(suspects) <= {IDS[i] for i in wrong}
    assert len(suspects) >= 4


def test_one_label_of_a_new_class_leaves_the_votes_on_the_others_weighed() -> None:
    events = votes({"ann": 0.02, "bob": 0.55, "eve": 0.55})
    events.loc[events["sample_id"] == IDS[3], "value"] = "elk"
    names = [*NAMES, "elk"]
    majority = consensus(events, class_names=names)
    weighed = weigh_annotators(majority, events, names, features, seed=0)
    assert weighed.labels.set_index("sample_id")["label"][IDS[3]] == "elk"
    assert len(weighed.labels) - right(weighed.labels) <= 3
    assert sorted([*weighed.labels["sample_id"], *weighed.disputed["sample_id"]]) == IDS


@pytest.mark.parametrize("targets", [[0] * 9, [0] * 7 + [1] * 2, []], ids=["one class", "two of a class", "none"])
def test_with_too_few_labels_nothing_is_held_out(targets: list[int]) -> None:
    inputs = np.zeros((len(targets), 4), np.float32)
    assert out_of_sample(inputs, np.array(targets, dtype=np.int64), 3, seed=0) is None


def test_labels_that_are_wrong_on_purpose_are_found() -> None:
    given = TRUTH.copy()
    wrong = list(range(0, 60, 10))
    given[wrong] = (given[wrong] + 1) % 3
    probabilities = out_of_sample(FEATURES, given, 3, seed=0)
    assert probabilities is not None
    suspects = suspected_errors(IDS, given, probabilities)
    # Confident learning would rather miss one than accuse a right one.
    assert set(suspects) <= {IDS[i] for i in wrong}
    assert len(suspects) >= 4


def test_clean_labels_are_hardly_suspected_and_a_class_without_labels_does_no_harm() -> None:
    rows = np.flatnonzero(TRUTH < 2)
    probabilities = out_of_sample(FEATURES[rows], TRUTH[rows], 3, seed=0)
    assert probabilities is not None
    assert suspected_errors([IDS[i] for i in rows], TRUTH[rows], probabilities) == []


def test_good_annotators_outvote_bad_ones() -> None:
    events = votes({"ann": 0.02, "bob": 0.55, "eve": 0.55})
    majority = consensus(events, class_names=NAMES)
    weighed = weigh_annotators(majority, events, NAMES, features, seed=0)
    assert len(majority.labels) - right(majority.labels) > 10
    assert len(weighed.labels) - right(weighed.labels) <= 2
    assert right(weighed.labels) > right(majority.labels) + 10
    assert weighed.quality["ann"] > max(weighed.quality["bob"], weighed.quality["eve"]) + 0.2
    # Each is in exactly one state, and every label names votes for it.
    assert sorted([*weighed.labels["sample_id"], *weighed.disputed["sample_id"]]) == IDS
    said = set(zip(events["sample_id"], events["value"], strict=True))
    assert all((row.sample_id, row.label) in said for row in weighed.labels.itertuples())
    by_id = dict(zip(events["annotation_id"], zip(events["sample_id"], events["value"], strict=True), strict=True))
    for row in weighed.labels.itertuples():
        assert all(by_id[int(part)] == (row.sample_id, row.label) for part in str(row.annotation_ids).split(","))


def test_a_sample_with_one_vote_keeps_its_label() -> None:
    alone = votes({"ann": 1.0}, samples=range(10))
    events = pd.concat([alone, votes({"ann": 0.0, "bob": 0.3}, samples=range(10, N))]).assign(
        annotation_id=lambda frame: range(1, len(frame) + 1)
    )
    majority = consensus(events, class_names=NAMES)
    weighed = weigh_annotators(majority, events, NAMES, features, seed=0)
    first = [frame.labels[frame.labels["sample_id"].isin(IDS[:10])] for frame in (majority, weighed)]
    pd.testing.assert_frame_equal(*first)
    assert len(first[0]) == 10


def test_the_majority_stays_where_there_is_nothing_to_weigh_with() -> None:
    for events in (votes({"ann": 0.1}), votes({"ann": 0.1, "bob": 0.1}, samples=range(4))):
        majority = consensus(events, class_names=NAMES)
        assert weigh_annotators(majority, events, NAMES, features, seed=0) is majority
