"""Which labels go back to people: those that somebody requested are among them, whatever `review` says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.ledger import Ledger
from al_pipeline.loop.presence import Files
from al_pipeline.loop.review import review_rows
from al_pipeline_tests.ledger.builders import manifest, plan_rows, said, sample


def test_requests_come_first_also_without_a_share_and_not_while_people_are_asked(tmp_path: Path) -> None:
    ledger, known = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}"), manifest()
    ledger.register(known)
    ledger.plan("r0000", plan_rows(0, 1, 2, 3))
    ledger.append([said(n, sample(n), "cat", task_id=n) for n in (1, 2)], said(1, None, None).created_at)
    ledger.append([said(9, sample(2), "dog", annotator="bob")], said(1, None, None).created_at)
    samples: Any = SimpleNamespace(files=Files(known))
    labels = pd.DataFrame({"sample_id": [sample(1)], "label": ["cat"]})

    def rows(count: int, *requested: int) -> list[tuple[str, str]]:
        settings = (RoundSettings(), RoundPolicy(), 1, count, [sample(n) for n in requested])
        found = review_rows(ledger, samples, labels, ClassSet(("cat", "dog")), *settings)
        assert [row["rank"] for row in found] == list(range(len(found)))
        return [(row["strategy"], row["sample_id"]) for row in found]

    assert rows(0) == []
    # Nobody has labeled 3 yet, and 5 was never asked about.
    assert rows(0, 1, 3, 5) == [("requested", sample(1))]
    assert rows(1) == [("disputed", sample(2))]
    assert rows(2, 1) == [("requested", sample(1)), ("disputed", sample(2))]
    assert rows(1, 2) == [("requested", sample(2))]
