"""What happens to the Label Studio project as a whole, on a real server: it moves, is lost, or is another home's."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.identity import Project
from al_pipeline.ledger.verify import verify
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import truth
from al_pipeline_tests.defs.rounds import reason, tick
from al_pipeline_tests.defs.worlds import CLASSES, World
from al_pipeline_tests.labelstudio.servers import answering, forward

pytestmark = pytest.mark.labelstudio


@pytest.fixture
def make_home(make_world: Any, server: LocalLabelStudio) -> Any:
    """A factory of homes with the same title for their project, each with a ledger of its own."""
    title = f"test {uuid4()}"

    def make(ledger: str, **overrides: Any) -> World:
        return make_world(
            home=server.document_root.parent,
            label_studio_token=server.token,
            label_studio_project=title,
            label_studio_timeout=60,
            database_url=f"sqlite:///{Path.cwd() / ledger}",
            **{"label_studio_url": server.url} | overrides,
        )

    return make


@pytest.fixture
def world(make_home: Any) -> World:
    """A home that is set up, with its first batch pushed."""
    world = make_home("ledger.sqlite3")
    world.run("setup")
    world.run("round", "r0000")
    return world


def project_of(world: World) -> Project:
    found = world.deployment.label_studio.find_project(world.settings.label_studio_project)
    assert found is not None
    return found


def answer(world: World, limit: int | None = None) -> int:
    """Let somebody answer open tasks; return how many."""
    deployment = world.deployment
    annotator = SimulatedAnnotator(
        deployment.label_studio, deployment.project_id(), truth(world.value("image_pool")), CLASSES
    )
    return annotator.answer_open_tasks(limit=limit).labeled


def open_samples(world: World) -> list[str]:
    deployment = world.deployment
    return sorted(task.sample_id for task in deployment.label_studio.tasks(deployment.project_id(), unanswered=True))


def test_the_project_says_who_it_is_and_which_round_it_got_last(world: World) -> None:
    project = project_of(world)
    [known] = world.deployment.ledger.projects()
    assert (project.identity, project.newest_round) == (known.identity, "r0000")
    assert (known.project_id, known.created_at) == (project.project_id, project.created_at)
    answer(world)
    world.run("round", "r0001")
    assert project_of(world).newest_round == "r0001"
    assert set(world.deployment.ledger.answers()["source"]) == {project.source}


def test_the_same_server_under_another_address_is_the_same_source(world: World, server: LocalLabelStudio) -> None:
    answer(world, limit=3)
    assert reason(tick(world)) == "r0000: 3 of 4 answered, 1 to go"
    before = world.deployment.ledger.answers()
    with answering(lambda request: forward(request, server.url)) as proxy:
        moved = World(world.settings.model_copy(update={"label_studio_url": proxy.url}), world.defs, world.instance)
        client = moved.deployment.label_studio
        client.connection.sdk.annotations.delete(int(before["annotation_id"].iloc[0]))
        assert reason(tick(moved)) == "r0000: 2 of 4 answered, 2 to go"
        after = moved.deployment.ledger.answers()
        assert after["annotation_id"].tolist() == before["annotation_id"].tolist()[1:]
        assert answer(moved) == 2
        assert reason(tick(moved)) == ""
    assert reason(tick(world)) == ""
    assert world.deployment.ledger.current_labels()["n_votes"].tolist() == [1, 1, 1, 1]
    assert len(world.deployment.ledger.projects()) == 1
    assert verify(world.settings.ledger_url).problems == []


def test_another_home_with_the_same_title_is_refused_before_anything_is_changed(world: World, make_home: Any) -> None:
    other = make_home("other.sqlite3")
    client, before = world.deployment.label_studio, project_of(world)
    raw = client.connection.sdk.projects.get(id=before.project_id)
    with pytest.raises(
        InputError, match=r"belongs to another home.*Nothing was changed in it: set AL_LABEL_STUDIO_PROJ"
    ):
        other.materialize("labeling_project")
    assert client.connection.sdk.projects.get(id=before.project_id) == raw
    assert open_samples(world) == sorted(world.value("query_batch", "r0000")["sample_id"])

    # The remedy: without the line the other home gets it, and the first one is told.
    client.connection.sdk.projects.update(id=before.project_id, description="Ours now.")
    assert other.materialize("labeling_project").success
    taken = project_of(other)
    assert taken.identity not in (None, before.identity)
    assert client.connection.sdk.projects.get(id=taken.project_id).description.startswith("Ours now.\n")
    assert "belongs to another home" in reason(tick(world))


def test_a_deleted_project_is_made_anew_by_setup_and_asks_for_what_is_unanswered(world: World) -> None:
    answer(world, limit=1)
    assert reason(tick(world)) == "r0000: 1 of 4 answered, 3 to go"
    [answered] = world.deployment.ledger.answers()["sample_id"]
    first = project_of(world)
    client = world.deployment.label_studio
    client.connection.sdk.projects.delete(id=first.project_id)
    assert "launch the job `setup`" in reason(tick(world))

    assert world.run("setup").success
    assert project_of(world).identity != first.identity
    planned = set(world.deployment.ledger.planned("r0000")["sample_id"])
    assert open_samples(world) == sorted(planned - {answered})
    assert reason(tick(world)) == "r0000: 1 of 4 answered, 3 to go"
    assert answer(world) == 3
    assert reason(tick(world)) == ""
    world.run("round", "r0001")
    assert len(world.value("labeled_pool", "r0001")) == 4
    assert verify(world.settings.ledger_url).problems == []


def test_a_project_that_is_an_older_state_gets_again_what_it_has_lost_when_the_next_round_opens(world: World) -> None:
    deployment = world.deployment
    client, project = deployment.label_studio, project_of(world)
    answer(world, limit=2)
    world.run("round", "r0001")
    answer(world, limit=2)
    world.instance.add_dynamic_partitions("rounds", ["r0002"])
    tick(world)
    left = open_samples(world)
    # As a backup from before r0001 would have it, but for the answers to r0000, which it had.
    lost = [task.task_id for task in client.tasks(project.project_id, "r0001")]
    client.delete_tasks(lost)
    assert project.identity is not None
    client.sign(project.project_id, project.identity, "r0000")
    world.run("round", "r0002")
    batch = world.value("query_batch", "r0002")["sample_id"].tolist()
    assert open_samples(world) == sorted(left + batch)
    assert deployment.ledger.planned()["withdrawn_at"].isna().all()
    assert project_of(world).newest_round == "r0002"


def test_tasks_that_were_imported_by_hand_are_left_out_and_remarked(world: World) -> None:
    deployment, known = world.deployment, world.value("image_pool")
    client, project = deployment.label_studio, project_of(world).project_id
    free = sorted(set(known["sample_id"]) - set(open_samples(world)))[0]
    image = client.connection.json(f"api/tasks/{client.tasks(project)[0].task_id}/")["data"]["image"]
    data = [{}, {"sample_id": free}, {"sample_id": 17, "round": 0}, {"sample_id": "holiday.png", "round": "r0000"}]
    by_hand = client.import_tasks(project, [{"data": each | {"image": image}} for each in data])
    for task in by_hand:
        client.annotate(task, CLASSES[0], lead_time=2.0)
    assert reason(tick(world)) == "r0000: 0 of 4 answered, 4 to go"
    batch = world.value("query_batch", "r0000")["sample_id"]
    ours = {task.sample_id: task.task_id for task in client.tasks(project, unanswered=True)}
    for sample in batch:
        client.annotate(ours[sample], truth(known)[sample], lead_time=2.0)
    assert world.run("round", "r0001").success
    assert set(world.value("labeled_pool", "r0001")["sample_id"]) == set(batch)
    assert set(by_hand) <= {task.task_id for task in client.tasks(project)}
    report = verify(world.settings.ledger_url)
    assert report.problems == []
    assert [remark.split(" (")[0] for remark in report.remarks] == [
        f"4 annotations of {project_of(world).source} answer tasks that were made by hand"
    ]
