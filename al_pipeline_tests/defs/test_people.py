"""What people do to a loop: they disagree, skip, change their minds, lose a server, and wait for the next batch."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import httpx
import pytest

from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.labels.formats.tables import table_rows
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.ledger.exports import agreed
from al_pipeline.ledger.imports import Imported, import_labels
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.pull import pull
from al_pipeline.loop.requests import Requests
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.web.page.app import pages
from al_pipeline.web.serve import serving
from al_pipeline_tests.defs.rounds import metadata_of, reason, tick
from al_pipeline_tests.defs.worlds import CLASSES, World
from al_pipeline_tests.ledger.builders import START, said
from al_pipeline_tests.web.test_page import pressed, whole

pytestmark = pytest.mark.labelstudio

MakeWorld = Callable[..., World]


@pytest.fixture
def make(make_world: Any, server: LocalLabelStudio) -> MakeWorld:
    """A factory of worlds with a Label Studio project of their own, set up."""

    def made(**overrides: Any) -> World:
        world = make_world(
            home=server.document_root.parent,
            label_studio_url=server.url,
            label_studio_token=server.token,
            label_studio_project=f"people {uuid4()}",
            label_studio_timeout=60,
            database_url=f"sqlite:///{Path.cwd() / 'ledger.sqlite3'}",
            **overrides,
        )
        assert world.run("setup").success
        return world

    return made


def client_of(world: World) -> tuple[LabelStudio, int]:
    return world.deployment.label_studio, world.deployment.project_id()


def answer(world: World, key: str, *values: str | None, by: LabelStudio | None = None) -> dict[str, int]:
    """Answer the tasks of a round in their order, with the values in turn; return sample_id → annotation id."""
    client, project = client_of(world)
    return {
        task.sample_id: (by or client).annotate(task.task_id, values[number % len(values)])
        for number, task in enumerate(client.tasks(project, key))
    }


def pull_now(world: World) -> None:
    """Read what people have done, as the sensor does."""
    client, project = world.deployment.label_studio, world.deployment.project()
    pull(world.deployment.ledger, client, project.project_id, source=project.source)


def change(world: World, annotation_id: int, *values: str) -> None:
    """Change an answer, to nothing if there is no value."""
    from al_pipeline.labelstudio.config import choice

    connection, result = client_of(world)[0].connection, [choice(value) for value in values]
    connection.send("change", lambda: connection.sdk.annotations.update(annotation_id, result=result))


def test_a_dispute_is_shown_trained_on_by_nobody_and_comes_back_as_a_review(make: MakeWorld) -> None:
    world = make(
        overlap=2,
        policy={"min_votes": 1},
        round={"strategy": "low_certainty", "batch_size": 4, "sample_size": None, "review": 0.25},
    )
    client, project = client_of(world)
    world.run("round", "r0000")
    answer(world, "r0000", *CLASSES)
    second = sign_up(client, 1)
    # The second person says the same but for the first sample.
    disputed = client.tasks(project, "r0000")[0].sample_id
    answer(world, "r0000", CLASSES[1], CLASSES[1], CLASSES[0], CLASSES[1], by=second)
    result = world.run("round", "r0001")
    shown = metadata_of(result, "labeled_pool")
    assert shown["disputed"] == 1
    assert shown["krippendorff_alpha"] == round(8 / 15, 4)
    assert shown["cohen_kappa"] == pytest.approx(0.5)
    people = {record.data["annotator"]: record.data for record in shown["annotators"].records}
    assert [row["votes"] for row in people.values()] == [4, 4]
    assert disputed not in set(world.value("labeled_pool", "r0001")["sample_id"])

    batch = world.value("query_batch", "r0001")
    assert metadata_of(result, "query_batch")["reviews"] == 1
    assert batch.loc[batch["purpose"] == "review", "sample_id"].tolist() == [disputed]
    assert len(batch) == 4
    # A third vote settles it; nobody is shown what was said before.
    [review] = [task for task in client.tasks(project, "r0001") if task.sample_id == disputed]
    sign_up(client, 2).annotate(review.task_id, CLASSES[0])
    answer(world, "r0001", CLASSES[0], by=second)
    result = world.run("round", "r0002")
    labels = world.value("labeled_pool", "r0002").set_index("sample_id")
    # The second person was asked again and has changed their mind: three agree.
    assert labels.loc[disputed, ["label", "votes", "n_votes"]].tolist() == [CLASSES[0], 3, 3]
    assert metadata_of(result, "labeled_pool")["n_changed"] == 0


def test_a_click_on_ask_again_brings_a_task_without_the_old_label_and_the_new_answer_settles_it(
    make: MakeWorld,
) -> None:
    world = make(round={"strategy": "random", "batch_size": 4, "sample_size": None, "review": 0})
    (client, project), ledger = client_of(world), world.deployment.ledger
    world.run("round", "r0000")
    answer(world, "r0000", *CLASSES)
    first, *_ = client.tasks(project, "r0000")
    sign_up(client, 1).annotate(first.task_id, CLASSES[1])
    pull_now(world)
    with (
        serving(pages(world.deployment, "token"), "127.0.0.1", 0) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60) as visitor,
    ):
        visitor.get("/health", params={"token": "token"})
        clicked = visitor.post("/again", data=pressed(whole(visitor, "/labels"), first.sample_id))
        assert "asked again in the next batch" in clicked.text
        world.run("round", "r0001")
        [review] = [task for task in client.tasks(project, "r0001") if task.sample_id == first.sample_id]
        shown = client.connection.json(f"api/tasks/{review.task_id}/")
        assert (shown["annotations"], shown["predictions"]) == ([], [])
        assert not set(CLASSES) & {str(value) for value in shown["data"].values()}
        assert "people are asked again now" in whole(visitor, "/labels")
        client.annotate(review.task_id, CLASSES[1])
        pull_now(world)
        assert "Nobody disagrees with anybody" in whole(visitor, "/labels")
        assert CLASSES[1] in visitor.get("/rounds/r0001").text
    labels = ledger.current_labels().set_index("sample_id")
    assert labels.loc[first.sample_id, ["label", "votes"]].tolist() == [CLASSES[1], 2]
    said = ledger.states([first.sample_id])
    assert [annotation.value for annotation, _ in said] == [CLASSES[0], CLASSES[1], CLASSES[1]]
    assert Requests(world.deployment).open() == []


def test_labels_that_people_change_are_told(make: MakeWorld) -> None:
    world = make()
    world.run("round", "r0000")
    given = answer(world, "r0000", *CLASSES)
    world.run("round", "r0001")
    first = min(given.values())
    [before] = [sample for sample, annotation in given.items() if annotation == first]
    change(world, first, CLASSES[1])
    answer(world, "r0001", *CLASSES)
    result = world.run("round", "r0002")
    assert metadata_of(result, "labeled_pool")["n_changed"] == 1
    labels = world.value("labeled_pool", "r0002").set_index("sample_id")["label"]
    assert labels[before] == CLASSES[1]
    assert world.value("labeled_pool", "r0001").set_index("sample_id")["label"][before] == CLASSES[0]


def test_a_skipped_sample_is_asked_about_again_up_to_the_limit(make: MakeWorld) -> None:
    world = make(policy={"max_skips": 2}, round={"strategy": "random", "batch_size": 24, "sample_size": None})
    world.run("round", "r0000")
    everything = set(answer(world, "r0000", None))
    assert len(everything) == 24
    world.run("round", "r0001")
    again = set(world.value("query_batch", "r0001")["sample_id"])
    assert again == everything
    assert set(answer(world, "r0001", None)) == everything
    world.run("round", "r0002")
    assert world.value("query_batch", "r0002").empty


def test_what_is_answered_with_nothing_or_an_unknown_class_is_reported_and_asked_again(make: MakeWorld) -> None:
    # Nothing said is asked again at once, a class that is none as often as a skip.
    world = make(round={"strategy": "random", "batch_size": 24, "sample_size": None}, policy={"max_skips": 2})
    world.run("round", "r0000")
    given = answer(world, "r0000", *CLASSES)
    empty, unknown = sorted(given)[:2]
    change(world, given[empty])
    change(world, given[unknown], "zebra")
    result = world.run("round", "r0001")
    shown = metadata_of(result, "labeled_pool")
    left_out = [(record.data["sample_id"], record.data["value"]) for record in shown["answers_left_out"].records]
    assert left_out == [(empty, None), (unknown, "zebra")]
    assert set(world.value("labeled_pool", "r0001")["sample_id"]) == set(given) - {empty, unknown}
    assert set(world.value("query_batch", "r0001")["sample_id"]) == {empty, unknown}
    # The new tasks count; and whoever mends the old answer instead is heard too.
    answered = answer(world, "r0001", CLASSES[0])
    assert set(answered) == {empty, unknown}
    connection = client_of(world)[0].connection
    connection.sdk.annotations.delete(answered[unknown])
    change(world, given[unknown], CLASSES[1])
    world.run("round", "r0002")
    labels = world.value("labeled_pool", "r0002").set_index("sample_id")["label"]
    assert len(labels) == 24
    assert (labels[empty], labels[unknown]) == (CLASSES[0], CLASSES[1])


def test_what_does_not_count_is_told_where_people_look_and_what_is_stuck_is_asked_again(make: MakeWorld) -> None:
    world = make(overlap=2, policy={"min_votes": 2})
    client, project = client_of(world)
    world.run("round", "r0000")
    guessed, twice, *others = client.tasks(project, "r0000")
    connection, second = client.connection, sign_up(client, 1)
    part = {"from_name": "guess", "to_name": "image", "type": "textarea", "value": {"text": [CLASSES[0]]}}
    connection.send("guess", lambda: connection.sdk.predictions.create(task=guessed.task_id, result=[part]))
    connection.send(
        "make answers of predictions",
        lambda: connection.sdk.actions.create(
            project=project,
            id="predictions_to_annotations",
            selected_items={"all": False, "included": [guessed.task_id]},
        ),
    )
    for person, task in (
        (client, twice),
        (client, twice),
        *((who, task) for task in others for who in (client, second)),
    ):
        person.annotate(task.task_id, CLASSES[task.task_id % 2])
    looked = tick(world)
    told = "1 answer was made from predictions by annotator@example.com and does not count: delete them"
    assert reason(looked).startswith("r0000: 2 of 4 answered, 1 to be asked again, 1 to go. " + told)
    assert isinstance(looked, dg.SensorResult)
    pages = {event.asset_key.to_user_string(): event for event in looked.asset_events}
    assert pages.keys() == {"annotations", "labeling_tasks"}
    assert pages["labeling_tasks"].partition == "r0000"
    assert all(told in str(event.metadata["remarks"].value) for event in pages.values())
    for person in (client, second):
        person.annotate(guessed.task_id, CLASSES[0])

    assert world.run("round", "r0001").success
    plan = world.deployment.ledger.planned("r0001").set_index("sample_id")
    assert plan.loc[twice.sample_id, "strategy"].startswith("asked again: one person has answered twice")
    (again,) = [task for task in client.tasks(project, "r0001") if task.sample_id == twice.sample_id]
    second.annotate(again.task_id, CLASSES[twice.task_id % 2])
    assert world.run("round", "r0002").success
    labels = world.value("labeled_pool", "r0002").set_index("sample_id")
    assert labels.loc[[guessed.sample_id, twice.sample_id], "n_votes"].tolist() == [2, 2]
    assert verify(world.settings.ledger_url).problems == []


def test_with_prefetch_people_never_wait(make: MakeWorld) -> None:
    world = make(policy={"prefetch": True})

    def asked_for(result: dg.SensorResult | dg.SkipReason) -> list[str | None]:
        assert isinstance(result, dg.SensorResult)
        return [request.partition_key for request in result.run_requests or []]

    world.run("round", "r0000")
    assert asked_for(tick(world)) == ["r0001"]
    result = world.run("round", "r0001")
    assert metadata_of(result, "query_batch")["prefetched"] is True
    assert reason(tick(world)) == "r0000: 0 of 4 answered, 4 to go"
    answer(world, "r0001", *CLASSES)
    assert asked_for(tick(world)) == []
    answer(world, "r0000", *CLASSES)
    assert asked_for(tick(world)) == ["r0002"]
    result = world.run("round", "r0002")
    assert len(world.value("labeled_pool", "r0002")) == 8
    assert metadata_of(result, "query_batch")["prefetched"] is False
    assert asked_for(tick(world)) == ["r0003"]

    # In a hurry: two a second, far sooner than a round is made. Five at once, as a program gives them, tell nothing.
    world.run("round", "r0003")
    ledger, client = world.deployment.ledger, world.deployment.label_studio
    tasks = [task for key in ("r0002", "r0003") for task in ledger.planned(key)["task_id"]]
    for task in tasks[:5]:
        client.annotate(int(task), CLASSES[0], lead_time=1.0)
    known, pace = ledger.planned("r0000")["sample_id"].iloc[0], [START + timedelta(seconds=n / 2) for n in range(6)]
    skips = [said(n, known, None, cancelled=True, lead_time=0.5, created_at=at) for n, at in enumerate(pace)]
    ledger.append(skips, START, source="elsewhere")
    assert asked_for(tick(world)) == ["r0004"]
    world.run("round", "r0004")
    # All that are left of the pool, and not 4; and one answer to r0003 is enough for the next round.
    assert ledger.count_planned("r0004") == 8
    assert asked_for(tick(world)) == ["r0005"]


def test_when_label_studio_lost_everything_only_what_is_unanswered_is_asked_again(make: MakeWorld) -> None:
    world = make(policy={"min_fraction": 0.5})
    client, project = client_of(world)
    world.run("round", "r0000")
    tasks = client.tasks(project, "r0000")
    for task in tasks[:2]:
        client.annotate(task.task_id, CLASSES[0])
    world.run("round", "r0001")
    client.delete_tasks([task.task_id for task in client.tasks(project)])
    assert "all of its 4 tasks are missing" in reason(tick(world))
    world.run("round", "r0000")
    world.run("round", "r0001")
    again = {task.sample_id for task in client.tasks(project, "r0000")}
    assert again == {task.sample_id for task in tasks[2:]}
    assert len(client.tasks(project, "r0001")) == 4
    answer(world, "r0000", CLASSES[1])
    answer(world, "r0001", CLASSES[1])
    world.run("round", "r0002")
    assert len(world.value("labeled_pool", "r0002")) == 8


def test_crowdlab_weighs_annotators_and_tells_their_quality(make: MakeWorld, tmp_path: Path) -> None:
    world = make(
        overlap=3, policy={"consensus": "crowdlab"}, round={"strategy": "random", "batch_size": 24, "sample_size": None}
    )
    client, _ = client_of(world)
    truth = world.value("image_pool").set_index("sample_id")["label"]
    world.run("round", "r0000")
    tasks = client.tasks(client_of(world)[1], "r0000")
    careful, careless = sign_up(client, 1), sign_up(client, 2)
    for number, task in enumerate(tasks):
        right = truth[task.sample_id]
        wrong = CLASSES[1 - CLASSES.index(right)]
        client.annotate(task.task_id, right)
        careful.annotate(task.task_id, right)
        careless.annotate(task.task_id, wrong if number % 2 else right)
    result = world.run("round", "r0001")
    labels = world.value("labeled_pool", "r0001")
    assert (labels["label"] == truth.loc[labels["sample_id"]].to_numpy()).all()
    people = [record.data for record in metadata_of(result, "labeled_pool")["annotators"].records]
    quality = sorted((row["crowdlab_quality"], row["agrees"]) for row in people)
    assert quality[0][1] == 0.5
    assert quality[1][0] > quality[0][0] + 0.2


def test_a_label_that_is_corrected_in_an_export_wins_over_people_and_is_asked_by_nobody(make: MakeWorld) -> None:
    world = make(overlap=2, policy={"min_votes": 2})
    client, project = client_of(world)
    world.run("round", "r0000")
    second = sign_up(client, 1)
    answer(world, "r0000", CLASSES[0])
    # They disagree about the last of the four.
    answer(world, "r0000", CLASSES[0], CLASSES[0], CLASSES[0], CLASSES[1], by=second)
    asked = [task.sample_id for task in client.tasks(project, "r0000")]
    world.run("round", "r0001")
    ledger = world.deployment.ledger
    exported = agreed(ledger, CLASSES, 2)
    assert set(exported.labels["sample_id"]) == set(asked[:3])
    assert exported.disputed == 1

    # In the table one label is corrected, and the disputed one decided.
    table = exported.labels[["sample_id", "label"]].copy()
    table.loc[table["sample_id"] == asked[0], "label"] = CLASSES[1]
    table.loc[len(table)] = [asked[3], CLASSES[1]]
    rows = Brought("agreed.csv", table_rows(table, "agreed.csv"))
    done = import_labels(ledger, rows, CLASSES, min_votes=2)
    assert (done.corrected, done.unchanged) == (2, 2)
    expected = dict(zip(asked, (CLASSES[1], CLASSES[0], CLASSES[0], CLASSES[1]), strict=True))
    for key in ("r0002", "r0003"):
        # Also after Label Studio was pulled again, where the votes are what they were.
        result = world.run("round", key)
        labels = world.value("labeled_pool", key)
        assert dict(zip(labels["sample_id"], labels["label"], strict=True)) == expected
        assert metadata_of(result, "labeled_pool")["disputed"] == 0
        assert not set(world.value("query_batch", key)["sample_id"]) & set(asked)
        assert import_labels(ledger, rows, CLASSES, min_votes=2) == Imported(unchanged=4)
    report = verify(world.settings.ledger_url)
    assert report.problems == []
