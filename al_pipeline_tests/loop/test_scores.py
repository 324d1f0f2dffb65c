"""Scores of candidates are stored without a text for each, and read the same by us and by everybody."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.data.known_pool import KnownPool, Subset
from al_pipeline.loop.choose import covers, read_scores, score_candidates, stored_probabilities, write_scores

IDS = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}{i:016x}" for i in range(50)]
CLASSES = ("cat", "größer, dog")
OLDER = {"predicted": object, "checkpoint": object}


def scored(ids: Any) -> pd.DataFrame:
    first = np.linspace(0, 1, len(ids))
    info = SimpleNamespace(class_names=CLASSES, thresholds=(), trained=True)
    checkpoint = cast("Any", SimpleNamespace(info=info, hash="0123456789abcdef"))
    return score_candidates(ids, np.column_stack([first, 1 - first]), checkpoint)


@pytest.fixture
def drawn() -> Subset:
    pool = KnownPool(pd.DataFrame({"sample_id": IDS, "split": "pool"}))
    return Subset(pool, np.random.default_rng(0).permutation(len(IDS)))


def test_what_is_read_is_what_was_scored(drawn: Subset, tmp_path: Path) -> None:
    scores, file = scored(drawn), tmp_path / "r0001.parquet"
    pd.testing.assert_frame_equal(scores, scored(list(drawn)))
    write_scores(scores, file)
    found, plain = read_scores(file), pd.read_parquet(file)
    pd.testing.assert_frame_equal(found, scores)
    assert plain["sample_id"].tolist() == list(drawn)
    assert set(plain["predicted"]) == set(CLASSES)
    assert not [name for name in plain if isinstance(plain[name].dtype, pd.CategoricalDtype)]
    np.testing.assert_array_equal(stored_probabilities(found, CLASSES), plain[["p_cat", "p_größer, dog"]])


def test_tables_of_earlier_versions_are_read(drawn: Subset, tmp_path: Path) -> None:
    file = tmp_path / "r0000.parquet"
    scores = scored(drawn).astype({"sample_id": object} | OLDER)
    scores.to_parquet(file, index=False)
    pd.testing.assert_frame_equal(read_scores(file).astype({"sample_id": object} | OLDER), scores)
    # Of one still earlier.
    vectors = list(stored_probabilities(scores, CLASSES))
    scores.drop(columns=["p_cat", "p_größer, dog"]).assign(probabilities=vectors).to_parquet(file, index=False)
    np.testing.assert_array_equal(stored_probabilities(read_scores(file), CLASSES), np.array(vectors))


def test_scores_cover_the_draw_or_do_not(drawn: Subset) -> None:
    scores = scored(drawn)
    assert covers(scores, (), drawn)
    assert covers(scores.tail(49), {drawn[0]}, drawn)
    assert not covers(scores.tail(49), (), drawn)
    assert not covers(scores, {drawn[0]}, drawn), "it is both"
    assert not covers(pd.concat([scores.head(1), scores.tail(49).iloc[:-1], scores.head(1)]), (), drawn)
    assert not covers(scores.assign(sample_id=scores["sample_id"].iloc[::-1].array), (), drawn), "in another order"
