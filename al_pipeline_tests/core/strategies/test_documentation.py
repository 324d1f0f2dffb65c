"""What docs/strategies.md says is true: its examples run and its table is complete."""

import re
from pathlib import Path

import numpy as np
import pytest

from al_pipeline.core.strategies import available, registry, select
from al_pipeline.core.strategies.certainty import certain
from al_pipeline.core.strategies.query import Picks, Query
from al_pipeline.core.strategies.registry import strategy
from al_pipeline_tests.core.strategies.pools import cloud

TEXT = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text()
USE, NEW = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_example_runs() -> None:
    rng = np.random.default_rng(0)
    names = {
        "probabilities": rng.dirichlet(np.ones(3), 400),
        "embeddings": cloud(400, 8, 1),
        "labeled": cloud(20, 8, 2),
    }
    exec(USE, names)
    assert len(names["selection"]) == 100  # type: ignore[arg-type]


def test_a_strategy_written_as_described_is_chosen_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    exec(NEW, {"strategy": strategy, "Query": Query, "Picks": Picks, "certain": certain, "np": np})
    x = cloud(50, 4, seed=1)
    found = select("shortest", embeddings=x, batch_size=5, rng=np.random.default_rng(0), power=1.0)
    assert found.indices.tolist() == np.argsort(np.linalg.norm(x, axis=1))[:5].tolist()


def test_the_table_names_every_strategy_what_it_needs_and_whether_it_can_balance() -> None:
    rows = {
        name: (needs, balanced.strip() == "yes")
        for name, needs, balanced in re.findall(
            r"^\| `(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|[^|]*\|$", TEXT, flags=re.MULTILINE
        )
    }
    assert sorted(rows) == sorted(available())
    words = {
        frozenset(): "nothing",
        frozenset({"probabilities"}): "probabilities",
        frozenset({"probabilities", "passes"}): "(T, n, K)",
        frozenset({"embeddings"}): "embeddings",
        frozenset({"probabilities", "embeddings"}): "both",
    }
    for name, info in available().items():
        needs, balanced = rows[name]
        assert needs.strip().startswith(words[info.needs]), name
        assert ("uses" in needs) == (info.uses > info.needs), name
        assert balanced == info.balanced, name


def test_every_option_is_described() -> None:
    for name in available():
        for option in registry.find(name, {}).options:
            assert re.search(rf"`[^`]*{name}\([^`]*{option}", TEXT), (name, option)
