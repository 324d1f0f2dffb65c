"""What a reset of Label Studio has lost: unanswered tasks are asked again, nothing that was answered is."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.labelstudio.config import Interface
from al_pipeline.labelstudio.identity import Project
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.identity import ensure_owned, owned, sign
from al_pipeline.loop.pull import pull
from al_pipeline.loop.push import create_missing, prepare, verify_and_record
from al_pipeline.loop.restore import push_again
from al_pipeline.loop.withdrawals import withdraw_answered, withdraw_deleted
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

CLASSES, TITLE = ("cat", "dog"), "memory"
LOG = logging.getLogger(__name__)


class Home:
    """A ledger, a Label Studio in memory, and the parts of a round that speak to both."""

    def __init__(self, folder: Path, url: str | None = None, studio: MemoryStudio | None = None) -> None:
        self.ledger, self.clock = Ledger(url or f"sqlite:///{folder / 'ledger.sqlite3'}"), Clock()
        self.studio = studio or MemoryStudio(self.clock)
        if studio is None:
            self.studio.delete_project()
        Image.new("RGB", (4, 4)).save(folder / "image.png")
        self.images = manifest(pool=20).assign(uri=str(folder / "image.png"))
        self.ledger.register(self.images)
        own = {"predictions": False, "classes": list(CLASSES), "shown_px": 0, "grid": 1}
        settings = SimpleNamespace(published_images=folder / "published", published=None, **own)
        settings.images = folder
        parts = SimpleNamespace(ledger=self.ledger, label_studio=self.studio, settings=settings)
        parts.artifacts = Artifacts(folder / "artifacts")
        self.deployment = cast("Deployment", parts)
        self.set_up()

    def set_up(self) -> list[str]:
        """Do what the job `setup` does; return the rounds that were pushed again."""
        project = ensure_owned(self.ledger, self.studio, TITLE, Interface(CLASSES))
        return self.push_again(project)

    def push_again(self, project: Project, *, min_votes: int = 1, before: int | None = None) -> list[str]:
        unanswered, policy = self.studio.tasks(PROJECT, unanswered=True), RoundPolicy(min_votes=min_votes)
        return push_again(self.deployment, project, self.images, policy, unanswered, LOG, before=before)

    def push(self, key: str, *numbers: int, min_votes: int = 1) -> None:
        policy = RoundPolicy(min_votes=min_votes)
        batch = self.ledger.plan(key, plan_rows(*numbers))
        batch = prepare(self.deployment, PROJECT, key, batch, self.images, policy)
        verify_and_record(self.deployment, PROJECT, key, create_missing(self.deployment, PROJECT, key, batch, LOG))
        sign(self.ledger, self.studio, owned(self.ledger, self.studio, self.studio.project(PROJECT)))

    def pull(self, before: int, min_votes: int = 1) -> list[str]:
        """Do what a round does before it trains; return what it withdrew."""
        project = owned(self.ledger, self.studio, self.studio.project(PROJECT))
        pull(self.ledger, self.studio, PROJECT, source=project.source)
        self.push_again(project, min_votes=min_votes, before=before)
        unanswered = self.studio.tasks(PROJECT, unanswered=True)
        withdraw_answered(self.ledger, self.studio, project.source, unanswered, min_votes)
        return withdraw_deleted(self.ledger, self.studio, PROJECT, before, unanswered)

    def answer(self, key: str, number: int, value: str = "cat", annotator: str = "ann") -> None:
        [task] = [t.task_id for t in self.studio.tasks(PROJECT, key) if t.sample_id == sample(number)]
        self.studio.answer(task, [value], annotator=annotator)

    def asked(self) -> dict[str, list[int]]:
        """Return which samples of each round somebody is asked about now, by number."""
        found = self.studio.tasks(PROJECT, unanswered=True)
        tasks = pd.DataFrame([vars(task) for task in found if task.round in self.ledger.rounds()])
        if tasks.empty:
            return {}
        numbers = tasks["sample_id"].map(lambda i: int(i, 16))
        return {str(key): sorted(group) for key, group in numbers.groupby(tasks["round"])}

    def remove(self, key: str, *numbers: int) -> None:
        for task in self.studio.tasks(PROJECT, key):
            if int(task.sample_id, 16) in numbers:
                self.studio.remove(task.task_id)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.ledger.close()


def test_a_project_that_was_deleted_gets_what_is_unanswered_in_all_rounds(home: Home) -> None:
    home.push("r0000", 0, 1, 2)
    home.answer("r0000", 0)
    home.pull(before=1)
    home.push("r0001", 3, 4)
    home.answer("r0001", 3)
    home.pull(before=2)
    home.studio.delete_project()
    assert home.set_up() == ["r0000", "r0001"]
    assert home.asked() == {"r0000": [1, 2], "r0001": [4]}
    assert home.ledger.planned()["withdrawn_at"].isna().all()
    # Once is enough, and what is answered now counts.
    assert home.set_up() == []
    home.answer("r0000", 1, "dog")
    home.pull(before=2)
    assert home.ledger.answers().set_index("sample_id")["value"].to_dict() == {
        sample(0): "cat",
        sample(1): "dog",
        sample(3): "cat",
    }


def test_a_server_that_was_set_back_gets_later_rounds_again_and_asks_nothing_that_was_answered(home: Home) -> None:
    home.push("r0000", 0, 1, 2)
    backup = home.studio.backup()
    home.answer("r0000", 0)
    home.pull(before=1)
    home.push("r0001", 3, 4)
    home.answer("r0001", 3)
    home.pull(before=2)
    home.studio.restore(backup)
    assert home.asked() == {"r0000": [0, 1, 2]}
    # The next round finds it: nobody has to do anything.
    assert home.pull(before=2) == []
    assert home.asked() == {"r0000": [1, 2], "r0001": [4]}
    assert home.pull(before=2) == []
    assert home.asked() == {"r0000": [1, 2], "r0001": [4]}
    assert set(home.ledger.answers()["sample_id"]) == {sample(0), sample(3)}


def test_a_task_whose_only_answer_somebody_took_back_is_not_taken_for_lost(home: Home) -> None:
    home.push("r0000", 0, 1)
    home.answer("r0000", 0)
    home.pull(before=1)
    [annotation] = home.ledger.answers()["annotation_id"]
    home.studio.retract(annotation)
    # Between a round's pull and its look at the tasks: the ledger does not know yet.
    unanswered = home.studio.tasks(PROJECT, unanswered=True)
    source = owned(home.ledger, home.studio, home.studio.project(PROJECT)).source
    assert withdraw_answered(home.ledger, home.studio, source, unanswered, 1) == []
    assert home.asked() == {"r0000": [0, 1]}


def test_tidying_up_by_hand_withdraws(home: Home) -> None:
    home.push("r0000", 0, 1, 2)
    home.push("r0001", 3, 4)
    home.remove("r0000", 0, 1)
    assert home.pull(before=2) == [sample(0), sample(1)]
    assert home.asked() == {"r0000": [2], "r0001": [3, 4]}
    assert home.set_up() == []


def test_a_round_of_which_all_tasks_are_gone_is_asked_again(home: Home) -> None:
    home.push("r0000", 0, 1)
    home.push("r0001", 2)
    home.remove("r0000", 0, 1)
    assert home.pull(before=2) == []
    assert home.asked() == {"r0000": [0, 1], "r0001": [2]}


def test_a_sample_with_one_of_two_votes_is_asked_for_the_other(home: Home) -> None:
    home.push("r0000", 0, 1, min_votes=2)
    home.answer("r0000", 0)
    home.answer("r0000", 1)
    home.answer("r0000", 1, annotator="bob")
    home.pull(before=1, min_votes=2)
    home.studio.delete_project()
    project = ensure_owned(home.ledger, home.studio, TITLE, Interface(CLASSES))
    home.push_again(project, min_votes=2)
    assert home.asked() == {"r0000": [0]}


@pytest.mark.parametrize("request_number", range(9))
@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_restoration_that_is_killed_is_finished_by_the_next_and_doubles_nothing(
    home: Home, request_number: int, kind: str
) -> None:
    home.push("r0000", 0, 1)
    home.push("r0001", 2, 3)
    home.studio.delete_project()
    project = ensure_owned(home.ledger, home.studio, TITLE, Interface(CLASSES))
    home.studio.fail_after(request_number, "before" if kind == "before" else "after")
    with pytest.raises(Exception, match="failed"):
        home.push_again(project)
    home.studio.heal()
    home.set_up()
    assert home.asked() == {"r0000": [0, 1], "r0001": [2, 3]}


def test_tasks_made_by_hand_are_neither_counted_nor_deleted_and_block_no_round(home: Home) -> None:
    home.push("r0000", 0, 1)
    data = [
        {"image": "x"},
        {"sample_id": sample(9)},
        {"sample_id": "holiday.png", "round": "r0000"},
        {"round": "r0099"},
    ]
    by_hand = home.studio.import_tasks(PROJECT, [{"data": each} for each in data])
    for task in by_hand:
        home.studio.answer(task, ["cat"])
    home.answer("r0000", 0)
    assert home.pull(before=1) == []
    assert home.ledger.answers(purpose="query")["sample_id"].tolist() == [sample(0)]
    home.push("r0001", 2)
    assert set(by_hand) <= set(home.studio.state.tasks)
    assert home.asked() == {"r0000": [1], "r0001": [2]}
