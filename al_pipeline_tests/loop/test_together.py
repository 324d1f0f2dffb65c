"""Images that look alike are asked about once; who says that they are not all the same is asked about each."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.labels.annotation import MIXED
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.core.rounds import RoundPolicy, round_key
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.labelstudio.config import Interface
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.members import MOST_SHOWN
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.again import MIXED as NOT_THE_SAME
from al_pipeline.loop.again import withdraw_unusable
from al_pipeline.loop.answers import planned_before
from al_pipeline.loop.choose import choose_batch, draw_candidates
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.identity import ensure_owned
from al_pipeline.loop.presence import Files
from al_pipeline.loop.progress import pushed
from al_pipeline.loop.pull import pull
from al_pipeline.loop.push import create_missing, prepare, verify_and_record
from al_pipeline.loop.together import labels_beside, members_for, one_of_each, with_those_beside
from al_pipeline.loop.withdrawals import withdraw_deleted
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio
from al_pipeline_tests.ledger.builders import sample

CLASSES, LOG = ("cat", "dog"), logging.getLogger(__name__)
POLICY = RoundPolicy()


def pool(*groups: str, phash: dict[int, int] | None = None) -> pd.DataFrame:
    """A manifest: sample i is of the i-th group, and of none where that is "-"."""
    known = phash or {}
    return pd.DataFrame(
        {
            "sample_id": [sample(number) for number in range(len(groups))],
            "uri": [f"/images/{number:03}.png" for number in range(len(groups))],
            "split": "pool",
            "reason": None,
            "label": None,
            "group": [None if name == "-" else name for name in groups],
            "phash": [f"{known.get(number, 0):016x}" for number in range(len(groups))],
        }
    )


def queries(*numbers: int) -> list[dict[str, Any]]:
    return [{"sample_id": sample(number), "purpose": "query"} for number in numbers]


def beside(found: pd.DataFrame) -> dict[int, list[int]]:
    """Which numbers are shown beside which, in the order of their places."""
    ordered = found.sort_values("place")
    return {int(str(key), 16): [int(i, 16) for i in rows["member_id"]] for key, rows in ordered.groupby("sample_id")}


def test_what_looks_most_like_the_sample_is_shown_with_it_and_the_rest_stays() -> None:
    images = pool(*["a"] * 12, phash={0: 0} | {number: (1 << 13 - number) - 1 for number in range(1, 12)})
    assert beside(members_for(queries(0), images, ())) == {0: [11, 10, 9, 8, 7, 6, 5, 4]}
    assert members_for(queries(0), images, ())["place"].tolist() == list(range(2, MOST_SHOWN + 1))


def test_only_queries_show_others_and_nobody_is_shown_who_is_asked_about() -> None:
    images = pool("a", "a", "a", "b", "b", "-", "-")
    holdout = [{"sample_id": sample(1), "purpose": "holdout"}, {"sample_id": sample(3), "purpose": "review"}]
    assert beside(members_for([*queries(0, 5), *holdout], images, ())) == {0: [2]}
    # Two of a group, one of them asked again: each image is shown once.
    assert beside(members_for(queries(0, 1), images, ())) == {0: [2]}


def test_who_is_to_be_alone_is_shown_with_nobody_also_where_the_group_has_the_name_of_a_sample() -> None:
    images = pool(*[sample(0)] * 4)
    alone = {sample(0), sample(1)}
    assert beside(members_for(queries(0, 2), images, alone)) == {2: [3]}


def test_a_manifest_of_an_older_version_has_no_groups() -> None:
    images = pool("a", "a").drop(columns=["group", "phash"])
    assert members_for(queries(0), images, ()).empty
    assert len(one_of_each(images, (), seed=0, number=0)) == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abc-"), min_size=1, max_size=30), st.sets(st.integers(0, 29)), st.integers(0, 3))
def test_whatever_the_groups_each_image_is_asked_about_at_most_once(
    names: list[str], alone: set[int], number: int
) -> None:
    images, apart = pool(*names), {sample(each) for each in alone}
    drawn = one_of_each(images, apart, seed=0, number=number)
    groups = {(names[int(i, 16)], i if i in apart or names[int(i, 16)] == "-" else "") for i in images["sample_id"]}
    assert len(drawn) == len(groups)
    rows = [{"sample_id": each, "purpose": "query"} for each in drawn["sample_id"]]
    found = members_for(rows, images, apart)
    asked = [*drawn["sample_id"], *found["member_id"]]
    assert len(set(asked)) == len(asked)
    assert (found.groupby("sample_id").size() < MOST_SHOWN).all()
    assert not apart & set(found["member_id"])
    group = dict(zip(images["sample_id"], images["group"], strict=True))
    assert all(group[row.sample_id] == group[row.member_id] for row in found.itertuples())


class Loop:
    """The rounds of a project in memory, by the loop's own parts; candidates are chosen at random."""

    # What is drawn for the holdout, and its share of each round's tasks.
    holdout_size, holdout_share, together, grid = 0, 0.25, True, 1

    def __init__(self, folder: Path, *groups: str) -> None:
        self.images, self.url = pool(*groups), f"sqlite:///{folder / 'ledger.sqlite3'}"
        for number in range(len(groups)):
            Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(folder / f"{number}.png")
        self.images["uri"] = [str(folder / f"{number}.png") for number in range(len(groups))]
        self.ledger, self.studio = Ledger(self.url), MemoryStudio(Clock())
        self.studio.delete_project()
        self.ledger.register(self.images)
        self.ledger.change_classes("declare", {"declared": list(CLASSES)}, ClassSet(CLASSES))
        self.project = ensure_owned(
            self.ledger, self.studio, "memory", Interface(CLASSES, mixed=self.together, grid=self.grid)
        )
        options = SimpleNamespace(
            published_images=folder / "published",
            published=None,
            shown_px=0,
            predictions=False,
            ask_groups=self.together,
            grid=self.grid,
            holdout_size=self.holdout_size,
            holdout_share=self.holdout_share,
            overlap=1,
            classes=list(CLASSES),
            images=folder,
        )
        parts = {"ledger": self.ledger, "label_studio": self.studio, "settings": options, "counted": None} | {
            "artifacts": Artifacts(folder / "artifacts")
        }
        self.deployment = cast("Deployment", SimpleNamespace(project=lambda: self.project, **parts))
        self.number = 0

    def labels(self) -> pd.DataFrame:
        answers = self.ledger.answers(purpose="query")
        return with_those_beside(self.ledger, consensus(answers, class_names=CLASSES).labels, answers, CLASSES)

    def open(self, batch: int = 10) -> dict[int, list[int]]:
        """Freeze labels, choose a batch and push it; return what is asked, with what is shown beside."""
        key = round_key(self.number)
        if self.number:
            pull(self.ledger, self.studio, PROJECT, source=self.project.source)
            withdraw_unusable(self.ledger, self.number, CLASSES, POLICY, overlap=1)
        frozen = self.ledger.snapshot(key, self.labels())
        config = RoundSettings(batch_size=batch, strategy="random", sample_size=None)
        held, together = self.holdout_size, self.together
        drawn, _ = draw_candidates(self.ledger, self.images, config, self.number, held, together=together)
        scores = pd.DataFrame({"sample_id": list(drawn), "checkpoint": "0" * 16, "trained": False}).assign(
            probabilities=[np.full(2, 0.5)] * len(drawn), certainty=0.0, predicted="cat", predicted_probability=0.5
        )
        files = Files(self.images)
        samples = SimpleNamespace(uris=files.uris, files=files)
        untrained = SimpleNamespace(info=SimpleNamespace(trained=False, weights="none", class_names=CLASSES))
        of_it, by = cast("Any", samples), cast("Any", untrained)
        plan = choose_batch(self.deployment, of_it, self.images, frozen, by, scores, config, POLICY, self.number)
        self.push(key)
        self.number += 1
        found = dict.fromkeys((int(i, 16) for i in plan["sample_id"]), cast("list[int]", []))
        return found | beside(self.ledger.members(key))

    def push(self, key: str) -> pd.DataFrame:
        batch = prepare(self.deployment, PROJECT, key, self.ledger.planned(key), self.images, POLICY)
        batch = create_missing(self.deployment, PROJECT, key, batch, LOG)
        verify_and_record(self.deployment, PROJECT, key, batch)
        return batch

    def answer(self, number: int, value: str) -> None:
        [task] = [each for each in self.studio.tasks(PROJECT, unanswered=True) if each.sample_id == sample(number)]
        self.studio.answer(task.task_id, [value], annotator="ann")


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path, "a", "a", "a", "b", "b", "-")
    yield loop
    assert verify(loop.url).problems == []
    loop.ledger.close()


def test_a_batch_asks_about_each_group_once_and_the_answers_are_labels_of_all(loop: Loop) -> None:
    asked = loop.open()
    assert sorted(sorted([one, *others]) for one, others in asked.items()) == [[0, 1, 2], [3, 4], [5]]
    assert planned_before(loop.ledger, 1) == planned_before(loop.ledger, 1, purpose="query") == {*map(sample, range(6))}
    facts = pushed(loop.deployment, POLICY, 0).status
    assert (facts.planned, facts.unlabeled_left) == (3, 0)
    for one in asked:
        loop.answer(one, "dog" if one == 5 else "cat")
    facts = pushed(loop.deployment, POLICY, 0).status
    # People have answered three times.
    assert (facts.labeled, facts.labels_total) == (3, 3)
    assert labels_beside(loop.ledger, 1) == 3
    assert loop.open() == {}
    assert loop.ledger.frozen_labels("r0001")["label"].tolist() == ["cat"] * 5 + ["dog"]


def test_a_task_shows_all_of_them_and_one_image_is_shown_as_it_is(loop: Loop) -> None:
    asked = loop.open()
    published = loop.deployment.settings.published_images
    shown = {task["data"]["sample_id"]: task["data"] for task in loop.studio.export()}
    for one, others in asked.items():
        data = shown[sample(one)]
        name = data["image"].rpartition("/")[2]
        assert (published / name).is_file()
        assert name.startswith(f"{sample(one)}-group-" if others else f"{sample(one)}.png")
        assert data.get("shows", 1) == 1 + len(others)
        # What guesses are made from.
        assert (published / f"{sample(one)}.png").is_file()


def test_not_all_the_same_asks_about_each_by_itself_next_and_never_together_again(loop: Loop) -> None:
    asked = loop.open()
    [group] = [[one, *others] for one, others in asked.items() if len(others) == 2]
    for one in asked:
        loop.answer(one, MIXED if one == group[0] else "cat")
    facts = pushed(loop.deployment, POLICY, 0)
    assert facts.status.skipped == 1
    assert any("not all the same: each is asked about by itself" in remark for remark in facts.remarks)
    # A batch that is too small for all of them goes on in the next.
    first = loop.open(batch=2)
    assert len(first) == 2
    assert all(others == [] for others in first.values())
    assert set(loop.ledger.planned("r0001")["strategy"]) == {f"asked again: {NOT_THE_SAME}"}
    assert set(loop.ledger.frozen_labels("r0001")["label"]) == {"cat"}
    assert not set(loop.ledger.frozen_labels("r0001")["sample_id"]) & {*map(sample, group)}
    for one in first:
        loop.answer(one, "dog")
    second = loop.open(batch=2)
    assert sorted([*first, *second]) == sorted(group)
    [last] = second
    loop.answer(last, "cat")
    assert loop.open() == {}
    found = loop.labels().set_index("sample_id")
    assert found.loc[[*map(sample, group)], "asked_with"].isna().all()
    assert found.loc[sample(last), "label"] == "cat"
    # The old round is looked at once more: its task is not made again.
    assert sample(group[0]) not in set(loop.push("r0000")["sample_id"])


def test_a_group_whose_task_was_deleted_is_asked_about_again_all_of_it(loop: Loop) -> None:
    asked = loop.open()
    group = next([one, *others] for one, others in asked.items() if len(others) == 2)
    for one in set(asked) - {group[0]}:
        loop.answer(one, "cat")
    [task] = loop.studio.tasks(PROJECT, unanswered=True)
    loop.studio.remove(task.task_id)
    pull(loop.ledger, loop.studio, PROJECT, source=loop.project.source)
    assert withdraw_deleted(loop.ledger, loop.studio, PROJECT, 1, []) == [sample(group[0])]
    [(one, others)] = loop.open().items()
    assert sorted([one, *others]) == sorted(group)


def test_a_member_whose_image_is_gone_leaves_the_task_before_it_is_shown(loop: Loop) -> None:
    config = RoundSettings(batch_size=10, strategy="random")
    drawn, _ = draw_candidates(loop.ledger, loop.images, config, 0, 0, together=True)
    rows = [
        {"sample_id": each, "purpose": "query", "rank": rank, "strategy": "random", "seed": 0}
        for rank, each in enumerate(drawn)
    ]
    members = members_for(rows, loop.images, ())
    loop.ledger.plan("r0000", pd.DataFrame(rows), members)
    gone = members.loc[members["place"] == 3, "member_id"].item()
    [pair] = [i for i, rest in members.groupby("sample_id") if len(rest) == 1]
    [unreadable] = members.loc[members["sample_id"] == pair, "member_id"]
    loop.images = loop.images[loop.images["sample_id"] != gone]
    broken = Path(loop.images.set_index("sample_id").loc[unreadable, "uri"])
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    batch = loop.push("r0000").set_index("sample_id")
    assert sorted(batch["shown"]) == [1, 1, 2]
    assert batch.loc[pair, "image"] == f"{pair}.png"
    assert not {gone, unreadable} & (set(loop.ledger.members()["member_id"]) | planned_before(loop.ledger, 1))
    broken.write_bytes(whole)


def test_what_was_shown_is_shown_again_though_an_image_is_gone(loop: Loop) -> None:
    asked = loop.open()
    before = loop.push("r0000").set_index("sample_id")["image"]
    for others in asked.values():
        for other in others:
            Path(loop.images.set_index("sample_id").loc[sample(other), "uri"]).unlink()
    assert loop.push("r0000").set_index("sample_id")["image"].to_dict() == before.to_dict()
    assert len(loop.ledger.members()) == 3
