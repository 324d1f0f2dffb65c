"""The half of a round that talks to people: push, pull and the sensor, against a real Label Studio."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from al_pipeline.cli.telling import news
from al_pipeline.defs.observe import observe
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.config import Interface, differences, payload
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.asked import Batch
from al_pipeline.loop.push import BatchError
from al_pipeline.loop.withdrawals import withdraw_deleted
from al_pipeline.servers import watcher
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import Loop, truth
from al_pipeline.servers.watcher import Watcher
from al_pipeline_tests.defs.rounds import metadata_of, reason, tick
from al_pipeline_tests.defs.worlds import CLASSES, World, write_images

pytestmark = pytest.mark.labelstudio
STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def world(make_world: Any, server: LocalLabelStudio) -> World:
    """A world with a Label Studio project of its own, set up."""
    return set_up(make_world, server)


def set_up(make_world: Any, server: LocalLabelStudio, **more: Any) -> World:
    """Return a world with a Label Studio project of its own, and with further settings."""
    world = make_world(
        home=server.document_root.parent,
        label_studio_url=server.url,
        label_studio_token=server.token,
        label_studio_project=f"test {uuid4()}",
        label_studio_timeout=60,
        database_url=f"sqlite:///{Path.cwd() / 'ledger.sqlite3'}",
        **more,
    )
    assert world.run("setup").success
    return world


def annotator(world: World, **options: Any) -> SimulatedAnnotator:
    deployment = world.deployment
    return SimulatedAnnotator(
        deployment.label_studio, deployment.project_id(), truth(world.value("image_pool")), CLASSES, **options
    )


def test_the_project_has_the_guideline_the_examples_and_the_button(
    make_world: Any, server: LocalLabelStudio, tmp_path: Path
) -> None:
    write_images(tmp_path / "examples", 1, seed=7, split=None)
    settings = {"instructions": "*Look* first.", "examples": tmp_path / "examples", "unsure_class": True}
    deployment = set_up(make_world, server, **settings).deployment
    path = f"api/projects/{deployment.project_id()}/"
    project = deployment.label_studio.connection.json(path)
    assert "<em>Look</em> first." in project["expert_instruction"]
    shown = re.findall(r'src="(/data/local-files/[^"]+)"', project["expert_instruction"])
    assert len(shown) == len(CLASSES)
    for image in shown:
        answer = deployment.label_studio.connection.get(server.url + image)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert project["show_instruction"]
    assert differences(project["label_config"], Interface(CLASSES, unsure=True)) == []


def test_the_loop_turns_and_who_watches_it_sees_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every look is to see everything.
    monkeypatch.setattr(watcher, "EVERY", 0)
    watching, seldom, asleep = (Watcher(Loop(world.settings, world.instance)) for _ in range(3))
    assert (watching.look().batches, watching.look().result) == ((), None)
    assert "`al open` begins, or launch the jobs `setup` and, for r0000, `round`" in reason(tick(world))
    pushed = world.run("round", "r0000")
    waiting = reason(tick(world))
    assert waiting == metadata_of(pushed, "labeling_tasks")["state"] == "r0000: 0 of 4 answered, 4 to go"
    # In the same words as the terminal and the status; whoever opens the first task has it before any look.
    said = "r0000 asks about 4 images: all to learn from; then comes the first model"
    assert metadata_of(pushed, "labeling_tasks")["asked"] == said
    project = world.deployment.label_studio.connection.json(f"api/projects/{world.deployment.project_id()}/")
    assert project["expert_instruction"].startswith(f'<p class="notice"><b>{said}.</b></p>')
    first, of_old, before_sleep = watching.look(), seldom.look(), asleep.look()
    assert first.batches == (Batch("r0000", test=(0, 0), training=(0, 4)),)
    assert first.result is not None
    assert (first.result.key, first.result.labels, first.result.trained) == ("r0000", 0, False)

    assert annotator(world).answer_open_tasks().labeled == 4
    opened = tick(world)
    assert watching.look().batches == (Batch("r0000", test=(0, 0), training=(4, 4)),)
    assert isinstance(opened, dg.SensorResult)
    [request] = opened.run_requests or []
    assert (request.partition_key, request.run_key) == ("r0001", "r0001-attempt-1")
    assert [list(change.partition_keys) for change in opened.dynamic_partitions_requests or []] == [["r0001"]]

    assert world.run("round", "r0001").success
    # Who has not looked since sees the end of what was open, too, and is told of it once.
    assert [(batch.key, batch.left) for batch in seldom.look().batches] == [("r0000", 0), ("r0001", 4)]
    assert ["r0000", "answered"] in [[each.about, each.what] for each in news(of_old, seldom.look(), "")]
    labels = world.value("labeled_pool", "r0001")
    known = truth(world.value("image_pool"))
    assert len(labels) == 4
    assert all(known[row.sample_id] == row.label for row in labels.itertuples())
    assert labels["annotation_ids"].str.fullmatch(r"\d+").all()
    curve = world.value("learning_curve")
    assert curve["round"].tolist() == ["r0000", "r0001"]
    assert curve["n_labels"].tolist() == [0, 4]
    second = watching.look()
    assert second.batches == (Batch("r0001", test=(0, 0), training=(0, 4)),)
    assert second.result is not None
    assert (second.result.key, second.result.labels) == ("r0001", 4)
    assert set(second.result.changes) == {"accuracy", "roc_auc"}
    assert [bool(said) for said in (second.result.saved, second.result.advice)] == [True, True]
    assert second.usual is not None
    assert second.usual > 0
    assert second.running is None
    assert second.failures == ()

    # Whoever looks after two rounds misses nothing of them, although one began and ended between two looks.
    assert annotator(world).answer_open_tasks().labeled == 4
    tick(world)
    assert world.run("round", "r0002").success
    told = [f"{each.about} {each.what}" for each in news(before_sleep, asleep.look(), "")]
    assert [told.count(f"r0001 {what}") for what in ("asked", "answered", "measured", "advice")] == [1] * 4
    assert [told.count(f"r0002 {what}") for what in ("asked", "answered", "measured", "advice")] == [1, 0, 1, 1]
    assert told.count("r0000 answered") == 1


def test_an_observation_is_recorded_when_the_counts_change_and_never_otherwise(world: World) -> None:
    world.run("round", "r0000")
    first = tick(world)
    assert isinstance(first, dg.SensorResult)
    assert len(first.asset_events) == 1
    second = tick(world, cursor=first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert second.asset_events == []
    annotator(world).answer_open_tasks(limit=1)
    third = tick(world, cursor=second.cursor)
    assert isinstance(third, dg.SensorResult)
    assert third.asset_events[0].metadata["labeled"].value == 1
    # While a round is made, what people do is pulled too: whoever looks is not a round behind.
    world.instance.add_dynamic_partitions("rounds", ["r0001"])
    world.instance.add_run(dg.DagsterRun(job_name="round", status=STARTED, tags={"dagster/partition": "r0001"}))
    annotator(world).answer_open_tasks(limit=1)
    assert "its run is in progress" in reason(tick(world, cursor=third.cursor))
    assert len(world.deployment.ledger.answers(round_key="r0000")) == 2


def test_next_round_closes_a_partly_answered_round_and_only_that_one(world: World) -> None:
    world.run("round", "r0000")
    with pytest.raises(dg.Failure, match=r"No round can be opened now.*none of 4 is answered"):
        world.run("next_round")
    annotator(world).answer_open_tasks(limit=1)
    assert reason(tick(world)) == "r0000: 1 of 4 answered, 3 to go"

    world.run("next_round")
    opened = tick(world)
    assert isinstance(opened, dg.SensorResult)
    [request] = opened.run_requests or []
    assert request.run_key == "r0001-attempt-1"

    world.run("round", "r0001")
    assert len(world.value("labeled_pool", "r0001")) == 1
    assert reason(tick(world)) == "r0001: 0 of 4 answered, 4 to go"


def test_running_a_round_again_doubles_no_task_and_freezes_the_labels(world: World) -> None:
    world.run("round", "r0000")
    annotator(world).answer_open_tasks()
    world.run("round", "r0001")
    before = world.value("labeled_pool", "r0001")
    annotator(world).answer_open_tasks()
    world.run("round", "r0001")
    assert world.value("labeled_pool", "r0001").equals(before)
    deployment = world.deployment
    tasks = deployment.label_studio.tasks(deployment.project_id())
    assert len(tasks) == len({task.sample_id for task in tasks}) == 8


def test_tasks_that_got_lost_are_created_again_and_only_those(world: World) -> None:
    world.run("round", "r0000")
    deployment = world.deployment
    project = deployment.project_id()
    before = {task.sample_id: task.task_id for task in deployment.label_studio.tasks(project, "r0000")}
    lost = sorted(before)[:2]
    deployment.label_studio.delete_tasks([before[sample] for sample in lost])
    world.run("round", "r0000")
    after = {task.sample_id: task.task_id for task in deployment.label_studio.tasks(project, "r0000")}
    assert after.keys() == before.keys()
    assert {sample for sample in before if before[sample] != after[sample]} == set(lost)


def test_skips_count_as_answered_but_not_as_labels(world: World) -> None:
    world.run("round", "r0000")
    assert annotator(world, skip_rate=1.0).answer_open_tasks().skipped == 4
    opened = tick(world)
    assert isinstance(opened, dg.SensorResult)
    assert opened.run_requests
    world.run("round", "r0001")
    assert world.value("labeled_pool", "r0001").empty
    assert set(world.value("query_batch", "r0001")["strategy"]) == {"random"}


def withdrawn_by_hand(world: World) -> list[str]:
    """Look for deleted tasks as round 1 does."""
    client, project = world.deployment.label_studio, world.deployment.project_id()
    return withdraw_deleted(world.deployment.ledger, client, project, 1, client.tasks(project, unanswered=True))


def test_tasks_that_arrive_a_second_time_after_the_push_are_asked_once(world: World) -> None:
    world.run("round", "r0000")
    client, project = world.deployment.label_studio, world.deployment.project_id()
    first = client.tasks(project, "r0000")
    # As when an import that was given up is finished in the end; some are answered before anybody notices.
    images = {name: f"{name}.png" for name in (task.sample_id for task in first)}
    rows = [
        payload({"sample_id": i, "purpose": "query"}, round_key="r0000", image_name=image, prediction=False)
        for i, image in images.items()
    ]
    late = dict(zip(images, client.import_tasks(project, rows), strict=True))
    by_copy, by_both, by_first = (task.sample_id for task in first[:3])
    ids = {task.sample_id: task.task_id for task in first}
    for sample, task in [(by_copy, late), (by_both, late), (by_both, ids), (by_first, ids)]:
        client.annotate(task[sample], CLASSES[0])
    world.run("round", "r0001")
    left = [(task.sample_id, task.task_id) for task in client.tasks(project, "r0000")]
    waiting = first[3].sample_id
    once = [(i, ids[i]) for i in (by_both, by_first, waiting)] + [(i, late[i]) for i in (by_copy, by_both)]
    assert sorted(left) == sorted(once)
    assert sorted(world.value("labeled_pool", "r0001")["sample_id"]) == sorted([by_copy, by_both, by_first])
    planned = world.deployment.ledger.planned("r0000").set_index("sample_id")["task_id"]
    assert planned.to_dict() == ids | {by_copy: late[by_copy]}
    assert verify(world.settings.ledger_url).problems == []


def test_a_task_deleted_by_people_is_withdrawn_and_its_image_returns_to_the_pool(world: World) -> None:
    world.run("round", "r0000")
    deployment = world.deployment
    tasks = deployment.label_studio.tasks(deployment.project_id(), "r0000")
    deployment.label_studio.delete_tasks([tasks[0].task_id])
    assert reason(tick(world)) == "r0000: 0 of 3 answered, 1 withdrawn, 3 to go"
    annotator(world).answer_open_tasks()
    before = observe(world.instance, deployment, world.settings.policy).status.unlabeled_left
    world.run("round", "r0001")
    planned = deployment.ledger.planned("r0000")
    withdrawn = planned[planned["withdrawn_at"].notna()]
    assert withdrawn["sample_id"].tolist() == [tasks[0].sample_id]
    assert withdrawn_by_hand(world) == []
    assert observe(world.instance, deployment, world.settings.policy).status.unlabeled_left == before - 4 + 1


def test_what_is_counted_again_is_what_a_first_look_counts(world: World) -> None:
    world.run("round", "r0000", round_config={"batch_size": 6})
    deployment, policy = world.deployment, world.settings.policy
    tasks = deployment.label_studio.tasks(deployment.project_id(), "r0000")

    def both() -> None:
        assert observe(world.instance, deployment, policy) == observe(world.instance, world.deployment, policy)

    both()
    for task, answer in zip(tasks, [CLASSES[0], CLASSES[1], None], strict=False):
        deployment.label_studio.annotate(task.task_id, answer)
        both()
    deployment.label_studio.delete_tasks([tasks[0].task_id, tasks[4].task_id])
    both()
    # What was answered is known, whatever became of its task.
    assert observe(world.instance, deployment, policy).counts == {
        "round": "r0000",
        "planned": 6,
        "labeled": 2,
        "skipped": 1,
        "missing": 1,
    }


def test_a_round_whose_tasks_are_all_gone_is_stalled_and_nothing_is_withdrawn(world: World) -> None:
    world.run("round", "r0000")
    deployment = world.deployment
    tasks = deployment.label_studio.tasks(deployment.project_id(), "r0000")
    deployment.label_studio.delete_tasks([task.task_id for task in tasks])
    assert "all of its 4 tasks are missing" in reason(tick(world))
    assert withdrawn_by_hand(world) == []
    # Annotators are told too.
    path = f"api/projects/{deployment.project_id()}/"
    assert "all of its 4 tasks are missing" in deployment.label_studio.connection.json(path)["expert_instruction"]


def test_a_batch_that_was_asked_about_before_is_not_pushed_even_by_a_run_of_its_own(world: World) -> None:
    world.run("round", "r0000")
    batch = world.value("query_batch", "r0000")
    target = world.settings.artifact_folder / "query_batch" / "r0001.parquet"
    batch.to_parquet(target, index=False)
    world.instance.add_dynamic_partitions("rounds", ["r0001"])
    result = world.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=world.instance,
        partition_key="r0001",
        asset_selection=[dg.AssetKey("labeling_tasks")],
        raise_on_error=False,
    )
    assert not result.success
    failures = [event.event_specific_data for event in result.all_events if event.is_step_failure]
    assert BatchError.__name__ in str(failures)
    deployment = world.deployment
    assert deployment.label_studio.tasks(deployment.project_id(), "r0001") == []


def test_when_label_studio_is_down_the_sensor_waits_and_says_so(world: World) -> None:
    world.run("round", "r0000")
    away = World(
        world.settings.model_copy(update={"label_studio_url": "http://127.0.0.1:9"}), world.defs, world.instance
    )
    told = reason(tick(away))
    assert "could not be read, nothing is decided" in told
    assert "http://127.0.0.1:9" in told


def test_a_failing_round_is_tried_again_and_then_stalled_naming_the_run(world: World) -> None:
    world.run("round", "r0000")
    annotator(world).answer_open_tasks()
    job = world.defs.resolve_job_def("round")
    world.instance.add_dynamic_partitions("rounds", ["r0001"])
    runs: list[str] = []
    told = ""
    for attempt in range(1, 4):
        failed = job.execute_in_process(
            instance=world.instance,
            partition_key="r0001",
            run_config={"resources": {"training": {"config": {"weights": "/nowhere.safetensors"}}}},
            raise_on_error=False,
        )
        assert not failed.success
        runs.append(failed.run_id)
        if attempt == 1:
            # A share that is not mounted uses no attempt up.
            images = world.settings.images
            assert isinstance(images, Path)
            away = images.rename(images.parent / "away")
            waiting = tick(world)
            away.rename(images)
            assert isinstance(waiting, dg.SensorResult)
            assert not waiting.run_requests
            assert "is a share not mounted?" in reason(waiting)
        result = tick(world)
        told = reason(result)
        if attempt < 3:
            assert isinstance(result, dg.SensorResult)
            assert [r.run_key for r in result.run_requests or []] == [f"r0001-attempt-{attempt + 1}"]
    assert runs[-1] in told
    assert "re-execute that run" in told


def test_a_round_of_grids_labels_each_image_and_asks_again_about_what_was_left_open(
    make_world: Any, server: LocalLabelStudio
) -> None:
    world = set_up(make_world, server, grid=4)
    assert world.run("round", "r0000").success
    client, known = world.deployment.label_studio, truth(world.value("image_pool"))
    [task] = client.tasks(world.deployment.project_id(), "r0000")
    *answered, open_one = task.samples
    assert len(answered) == 3
    client.annotate(task.task_id, [*(known[sample] for sample in answered), None])
    looked = tick(world)
    assert isinstance(looked, dg.SensorResult)
    assert [request.partition_key for request in looked.run_requests or []] == ["r0001"]
    assert world.run("round", "r0001").success
    labels = world.value("labeled_pool", "r0001").set_index("sample_id")["label"]
    assert labels.to_dict() == {sample: known[sample] for sample in answered}
    plan = world.deployment.ledger.planned("r0001").set_index("sample_id")
    assert plan.loc[open_one, "strategy"] == "asked again: it was left open"
    assert verify(world.settings.ledger_url).problems == []
