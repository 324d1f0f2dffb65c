"""Which cells of a comparison are compared, and what is said of the others."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.study.cells import Cell, comparable, complete, differences, settings_of, with_settings

SETTINGS = {"plan": {"batch_size": 8, "options": {"weights": "none"}}, "samples": "a" * 64}


def cell(strategy: str, seed: int, settings: dict[str, object] = SETTINGS) -> pd.DataFrame:
    """Return a cell of two rounds."""
    frame = pd.DataFrame({"strategy": strategy, "seed": seed, "n_labels": [0, 8], "roc_auc": [0.5, 0.5 + seed / 100]})
    return with_settings(frame, settings)


def table(*cells: Cell) -> dict[Cell, pd.DataFrame]:
    return {(strategy, seed): cell(strategy, seed) for strategy, seed in cells}


def test_settings_stay_with_a_cell_in_its_file(tmp_path: Path) -> None:
    cell("random", 3).to_parquet(tmp_path / "cell.parquet", index=False)
    read = pd.read_parquet(tmp_path / "cell.parquet")
    assert settings_of(read) == SETTINGS
    pd.testing.assert_frame_equal(read, cell("random", 3))
    assert settings_of(pd.DataFrame({"strategy": []})) == {}


def test_every_strategy_is_compared_with_every_seed() -> None:
    found = comparable(table(("random", 1), ("margin", 0), ("random", 0), ("margin", 1)), SETTINGS)
    assert (found.strategies, found.seeds) == (("margin", "random"), (0, 1))
    runs = found.results[["seed", "strategy"]].drop_duplicates()
    assert list(runs.itertuples(index=False, name=None)) == [(0, "margin"), (0, "random"), (1, "margin"), (1, "random")]
    assert len(found.results) == 8
    assert found.unpaired == ()
    assert found.other_settings == {}


def test_a_cell_without_a_partner_is_left_out_and_named() -> None:
    found = comparable(
        table(*(("random", i) for i in range(4)), *(("margin", i) for i in (1, 2)), ("auto", 3)), SETTINGS
    )
    assert (found.strategies, found.seeds) == (("margin", "random"), (1, 2))
    assert found.unpaired == (("auto", 3), ("random", 0), ("random", 3))


def test_cells_of_other_settings_are_left_out_with_what_differs() -> None:
    cells = table(("random", 0), ("margin", 0))
    other = {"plan": {"batch_size": 4, "options": {"weights": "none"}}, "samples": "b" * 64}
    found = comparable(cells | {("margin", 1): cell("margin", 1, other)}, SETTINGS)
    assert found.seeds == (0,)
    assert found.other_settings == {("margin", 1): ("plan.batch_size 4 instead of 8", "other samples")}
    assert found.unpaired == ()
    with pytest.raises(InputError, match="no cell has these settings"):
        comparable(cells, other)


def test_differences_name_what_is_new_and_what_is_gone() -> None:
    assert differences({"a": 1}, {"a": 1}) == ()
    assert differences({"a": {"b": 1}}, {"a": {}, "c": "x"}) == ("a.b None instead of 1", "c 'x' instead of None")


@given(st.sets(st.tuples(st.sampled_from(["auto", "badge", "margin", "random"]), st.integers(0, 5)), min_size=1))
def test_the_block_has_no_gap_and_leaves_the_baseline_out_only_where_nothing_pairs_with_it(cells: set[Cell]) -> None:
    strategies, seeds = complete(cells)
    assert strategies
    assert seeds
    assert {(strategy, seed) for strategy in strategies for seed in seeds} <= cells
    shared = [
        {seed for name, seed in cells if name == "random"} & {seed for name, seed in cells if name == other}
        for other in {name for name, _ in cells} - {"random"}
    ]
    if any(shared):
        assert "random" in strategies
        assert len(strategies) > 1


@given(
    st.lists(st.sampled_from(["auto", "badge", "margin", "random"]), min_size=1, unique=True),
    st.lists(st.integers(0, 19), min_size=1, unique=True),
)
def test_a_whole_block_is_taken_whole(strategies: list[str], seeds: list[int]) -> None:
    found = complete([(strategy, seed) for strategy in strategies for seed in seeds])
    assert found == (tuple(sorted(strategies)), tuple(sorted(seeds)))
