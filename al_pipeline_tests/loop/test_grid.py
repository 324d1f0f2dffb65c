"""Several images in one task: each is a sample with its own answer, and one that is left open is asked about again."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.labelstudio.config import Interface, choice
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.again import LEFT_OPEN
from al_pipeline.loop.identity import ensure_owned
from al_pipeline.loop.progress import pushed
from al_pipeline.loop.pull import pull
from al_pipeline.loop.restore import push_again
from al_pipeline.loop.unseen import changed_unseen
from al_pipeline.loop.withdrawals import withdraw_answered, withdraw_copies, withdraw_deleted
from al_pipeline_tests.faults.memory_studio import PROJECT
from al_pipeline_tests.ledger.builders import sample
from al_pipeline_tests.loop.test_together import CLASSES, LOG, POLICY, Loop

CAT, DOG = CLASSES


class Grids(Loop):
    """Rounds of tasks that show four images."""

    together, grid = False, 4

    def pull(self, seconds: float | None = None) -> pd.DataFrame:
        """Pull, and return the answers by sample."""
        pull(self.ledger, self.studio, PROJECT, source=self.project.source, min_seconds=seconds)
        return self.ledger.answers().set_index("sample_id")

    def waiting(self) -> list[TaskStatus]:
        return self.studio.tasks(PROJECT, unanswered=True)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Grids]:
    loop = Grids(tmp_path, *["-"] * 9)
    yield loop
    assert verify(loop.url).problems == []
    loop.ledger.close()


def test_a_batch_comes_in_grids_and_every_image_has_an_answer_of_its_own(loop: Grids) -> None:
    asked = loop.open(batch=6)
    first, rest = loop.waiting()
    assert (len(first.samples), len(rest.samples)) == (4, 2)
    assert {*first.samples, *rest.samples} == {*map(sample, asked)}
    planned = loop.ledger.planned("r0000").set_index("sample_id")
    assert planned.loc[[*first.samples], "cell"].tolist() == [1, 2, 3, 4]
    assert set(planned.loc[[*rest.samples], "task_id"]) == {rest.task_id}
    # What is there is not made again.
    loop.push("r0000")
    assert len(loop.waiting()) == 2

    loop.studio.annotate(first.task_id, [CAT, DOG, DOG, CAT], lead_time=6)
    loop.studio.annotate(rest.task_id, None)
    answers = loop.pull(seconds=1)
    assert answers.loc[[*first.samples], "value"].tolist() == [CAT, DOG, DOG, CAT]
    assert answers.loc[[*first.samples], "lead_time"].tolist() == [1.5] * 4
    assert answers.loc[[*rest.samples], "kind"].tolist() == ["skip"] * 2
    assert answers["annotation_id"].nunique() == 2
    # As many as Label Studio counts: nothing is read twice for it.
    assert loop.ledger.count_annotations(loop.project.source) == (1, 1)
    assert pull(loop.ledger, loop.studio, PROJECT, source=loop.project.source) == 0
    facts = pushed(loop.deployment, POLICY, 0).status
    assert (facts.labeled, facts.skipped, facts.planned) == (4, 2, 6)
    labels = loop.labels().set_index("sample_id")["label"]
    assert labels[[*first.samples]].tolist() == [CAT, DOG, DOG, CAT]


def test_what_is_left_open_is_asked_about_by_the_next_round_and_no_longer_than_skips_are(loop: Grids) -> None:
    loop.open(batch=4)
    [task] = loop.waiting()
    open_one, other = task.samples[1], task.samples[3]
    loop.studio.answer(task.task_id, [choice(CAT, 1), choice(CAT, 3), choice("__open__", 4)])
    answers = loop.pull()
    assert answers.loc[[open_one, other], "kind"].tolist() == ["left_open"] * 2
    facts = pushed(loop.deployment, POLICY, 0)
    assert (facts.status.labeled, facts.status.skipped) == (2, 2)
    assert any("2 images were left open by ann: asked again" in remark for remark in facts.remarks)
    for number in range(1, POLICY.max_skips + 1):
        asked = loop.open(batch=2)
        assert {*map(sample, asked)} == {open_one, other}, number
        assert set(loop.ledger.planned(f"r{number:04d}")["strategy"]) == {f"asked again: {LEFT_OPEN}"}
        [task] = loop.waiting()
        loop.studio.annotate(task.task_id, [None if one == open_one else DOG for one in task.samples])
        if number == 1:
            assert loop.pull().loc[open_one, "kind"].tolist()[-1] == "left_open"
            assert set(loop.labels()["sample_id"]) & {open_one, other} == {other}
            break
    # Whoever leaves a grid wholly open is asked about all of it.
    loop.open(batch=3)


def test_answers_within_a_glance_and_changes_by_blind_keys_are_told_by_the_whole_grid_s_time(loop: Grids) -> None:
    loop.open(batch=4)
    [task] = loop.waiting()
    made = loop.studio.annotate(task.task_id, [CAT] * 4, lead_time=1.0)
    # A quarter of a second for each.
    assert set(loop.pull(seconds=0.3)["kind"]) == {"hasty"}
    assert set(loop.pull(seconds=0.2)["kind"]) == {"hasty"}
    loop.studio.retract(made)
    assert loop.pull().empty
    loop.studio.annotate(task.task_id, [CAT] * 4, lead_time=8.0)
    before = loop.studio.annotations(PROJECT)
    loop.studio._clock.advance(1)
    changed = loop.studio.find(before[0].annotation_id)[1]["id"]
    loop.studio.change(changed, [choice(name, cell) for cell, name in enumerate([CAT, DOG, CAT, CAT], 1)], lead_time=68)
    judged = changed_unseen(loop.ledger, loop.studio.annotations(PROJECT), before)
    assert [event.kind for event in judged] == ["answer", "hasty", "answer", "answer"]


def test_a_grid_that_is_deleted_doubled_or_lost_asks_about_its_images_once(loop: Grids) -> None:
    loop.open(batch=8)
    one, two = loop.waiting()
    loop.studio.double(one.task_id)
    assert len(withdraw_copies(loop.ledger, loop.studio, PROJECT, 1, loop.waiting())) == 1
    backup = loop.studio.backup()
    loop.studio.annotate(one.task_id, [CAT] * 4)
    loop.pull()
    loop.studio.restore(backup)
    # The ledger has the answers that the server has lost.
    assert withdraw_answered(loop.ledger, loop.studio, loop.project.source, loop.waiting(), 1) == [one.task_id]
    loop.studio.remove(two.task_id)
    loop.studio.lose_all_tasks()
    loop.studio.make_anew()
    loop.project = ensure_owned(loop.ledger, loop.studio, "memory", Interface(CLASSES, grid=4))
    assert push_again(loop.deployment, loop.project, loop.images, POLICY, [], LOG) == ["r0000"]
    [again] = loop.waiting()
    assert set(again.samples) == set(two.samples)
    loop.studio.remove(again.task_id)
    loop.studio.double(loop.studio.import_tasks(PROJECT, [{"data": {"round": "r0000", "sample_id": "by hand"}}])[0])
    loop.pull()
    assert sorted(withdraw_deleted(loop.ledger, loop.studio, PROJECT, 1, [])) == sorted(again.samples)


def test_of_two_grids_that_share_an_image_the_unanswered_one_goes_whole(loop: Grids) -> None:
    loop.open(batch=8)
    one, two = loop.waiting()
    data = dict(loop.studio.state.tasks[two.task_id].data)
    mixed = [one.samples[0], *two.samples[1:]]
    loop.studio.remove(two.task_id)
    [made] = loop.studio.import_tasks(PROJECT, [{"data": data | {"samples": mixed}}])
    loop.push("r0000")
    tasks = {task.task_id: task.samples for task in loop.waiting()}
    assert made not in tasks or tasks[made] != tuple(mixed)
    asked = Counter(each for samples in tasks.values() for each in samples)
    assert asked == Counter([*one.samples, *two.samples])


def test_two_people_are_asked_about_each_image_and_a_change_of_one_changes_that_alone(tmp_path: Path) -> None:
    loop = Grids(tmp_path, *["-"] * 4)
    loop.studio.state.overlap = loop.deployment.settings.overlap = 2
    policy = RoundPolicy(min_votes=2)
    loop.open(batch=4)
    [task] = loop.waiting()
    made = loop.studio.annotate(task.task_id, [CAT, CAT, DOG, None], annotator="ann")
    loop.studio.annotate(task.task_id, [CAT, DOG, DOG, DOG], annotator="bob")
    loop.pull()
    facts = pushed(loop.deployment, policy, 0).status
    assert (facts.labeled, facts.skipped) == (3, 1)
    # Two agree on the first and the third, differ on the second, and one has left the fourth open.
    assert loop.ledger.current_labels(2).set_index("sample_id")["label"].to_dict() == {
        task.samples[0]: CAT,
        task.samples[2]: DOG,
    }
    loop.studio.change(made, [choice(name, cell) for cell, name in enumerate([CAT, DOG, DOG, DOG], 1)])
    loop.pull()
    assert len(loop.ledger.current_labels(2)) == 4
    assert verify(loop.url).problems == []
    loop.ledger.close()


def test_a_setting_that_changes_leaves_what_is_there_readable(loop: Grids) -> None:
    loop.deployment.settings.grid = 1
    loop.open(batch=2)
    alone = loop.waiting()
    assert [task.grid for task in alone] == [(), ()]
    # Label Studio takes no task that leaves out a key of its interface.
    assert loop.studio.state.tasks[alone[0].task_id].data["image4"] == ""
    for task in alone:
        loop.studio.annotate(task.task_id, CAT)
    loop.deployment.settings.grid = 4
    loop.open(batch=3)
    [task] = loop.waiting()
    loop.studio.annotate(task.task_id, [DOG] * 3)
    loop.pull()
    assert Counter(loop.labels()["label"]) == {CAT: 2, DOG: 3}


@pytest.mark.parametrize("seed", [2])
def test_whatever_people_and_the_server_do_in_the_end_every_image_has_its_label(tmp_path: Path, seed: int) -> None:
    r, loop = random.Random(seed), Grids(tmp_path, *["-"] * 9)
    truth = {sample(number): CLASSES[number % 2] for number in range(9)}
    backup = loop.studio.backup()
    for _ in range(40):
        tasks = loop.waiting()
        act = r.choice(["answer", "answer", "open", "skip", "double", "remove", "backup", "restore", "round"])
        if act == "round" or not tasks:
            loop.pull()
            unanswered = loop.waiting()
            if push_again(loop.deployment, loop.project, loop.images, POLICY, unanswered, LOG, before=loop.number):
                unanswered = loop.waiting()
            withdraw_copies(loop.ledger, loop.studio, PROJECT, loop.number, unanswered)
            withdraw_answered(loop.ledger, loop.studio, loop.project.source, unanswered, 1)
            withdraw_deleted(loop.ledger, loop.studio, PROJECT, loop.number, loop.waiting())
            loop.open(batch=4)
        elif act == "restore" and backup.tasks:
            loop.studio.restore(backup)
        elif act == "backup":
            backup = loop.studio.backup()
        else:
            task = r.choice(tasks)
            names = [truth[each] for each in task.samples]
            if act == "open":
                names = [name if r.random() < 0.5 else None for name in names]
            done = {"double": loop.studio.double, "remove": loop.studio.remove}.get(act)
            if done is not None:
                done(task.task_id)
            elif act == "skip":
                loop.studio.annotate(task.task_id, None)
            else:
                loop.studio.annotate(task.task_id, names if task.grid else names[0])
        live = loop.ledger.planned()
        assert live.loc[live["withdrawn_at"].isna(), "sample_id"].is_unique
    assert verify(loop.url).problems == []
    loop.pull()
    labels = loop.labels().set_index("sample_id")["label"].to_dict()
    assert labels.items() <= truth.items()
    loop.ledger.close()
