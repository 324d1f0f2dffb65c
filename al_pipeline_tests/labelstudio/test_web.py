"""The webhook receiver and the ML backend, as a real Label Studio speaks to them."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from al_pipeline.labelstudio.callbacks import ACTIONS, SECRET_HEADER, register_backend, register_webhook
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import guess as shown
from al_pipeline.labelstudio.connection import LabelStudioAuthError, LabelStudioError
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.servers.dagster_api import DagsterApi
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import Loop
from al_pipeline.settings import load_settings
from al_pipeline.web.guesses import Guesses
from al_pipeline.web.ml_backend import backend
from al_pipeline.web.opening import Opener
from al_pipeline.web.serve import serving
from al_pipeline.web.webhook import Waker, receiver
from al_pipeline_tests.labelstudio.projects import CLASSES, Project
from al_pipeline_tests.labelstudio.servers import Answer, Request, answering
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample
from al_pipeline_tests.web.checkpoints import HOLDOUT, QUERY, checkpoint, open_ledger, publish_images, save
from al_pipeline_tests.web.dagster_double import dagster_double

pytestmark = pytest.mark.labelstudio
SECRET, PASSWORD = "s3cret-s3cret-s3cret", "swordfish"
BOUND = 60.0


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class CountingWaker(Waker):
    """A waker that counts its wakes."""

    wakes = 0

    def wake(self) -> None:
        self.wakes += 1
        super().wake()


@contextmanager
def receiving(project: Project, work: Callable[[], object] = lambda: None) -> Iterator[CountingWaker]:
    """Run a receiver that the project tells."""
    waker = CountingWaker(work)
    with serving(receiver(SECRET, waker), "127.0.0.1", 0) as port:
        register_webhook(project.client, project.id, f"http://127.0.0.1:{port}/webhook", SECRET)
        yield waker


def webhooks(project: Project) -> list[Any]:
    return project.client.connection.sdk.webhooks.list(project=str(project.id))


def test_every_answer_reaches_the_receiver_once(project: Project) -> None:
    tasks = list(project.add(3).values())
    with receiving(project) as waker:
        assert waker.wakes == 0
        for count, (task, name) in enumerate(zip(tasks, (CLASSES[0], CLASSES[1], None), strict=True), start=1):
            project.client.annotate(task, name)
            # Label Studio's answer comes after that of the receiver.
            assert waker.wakes == count
        project.client.delete_tasks(tasks[:1])
        assert waker.wakes == 4
        project.client.import_tasks(project.id, project.payloads(["f" * 32]))
        assert waker.wakes == 4, "a new task is no answer"


def test_a_wrong_secret_wakes_nobody_and_the_annotator_does_not_notice(project: Project) -> None:
    [task] = project.add(1).values()
    with receiving(project) as waker:
        url = webhooks(project)[0].url
        register_webhook(project.client, project.id, url, "another-secret")
        project.client.annotate(task, CLASSES[0])
        assert waker.wakes == 0


def test_registering_again_moves_the_one_webhook_and_leaves_those_of_people(project: Project) -> None:
    sdk, client = project.client.connection.sdk, project.client
    theirs = sdk.webhooks.create(url="http://127.0.0.1:9/theirs", project=project.id)
    first = register_webhook(client, project.id, "http://127.0.0.1:9/webhook", SECRET)
    assert register_webhook(client, project.id, "http://127.0.0.1:9/webhook", SECRET) == first
    assert register_webhook(client, project.id, "http://127.0.0.1:10/webhook", "a-new-secret") == first
    sdk.webhooks.create(url="http://127.0.0.1:10/webhook", project=project.id)
    sdk.webhooks.update(id=first, url="http://127.0.0.1:10/webhook", is_active=False, actions=[])
    assert register_webhook(client, project.id, "http://127.0.0.1:10/webhook", "a-new-secret") == first
    found = {hook.id: hook for hook in webhooks(project)}
    assert set(found) == {theirs.id, first}
    assert found[theirs.id].url == "http://127.0.0.1:9/theirs"
    ours = found[first]
    assert ours.url == "http://127.0.0.1:10/webhook"
    assert ours.headers == {SECRET_HEADER: "a-new-secret"}
    assert set(ours.actions or []) == set(ACTIONS)
    assert ours.is_active
    assert not ours.send_payload
    assert not ours.send_for_all_actions


def test_an_address_that_label_studio_refuses_is_told_with_the_remedy_and_without_the_secret() -> None:
    def refuse(request: Request) -> Answer:
        if request.method == "GET":
            return Answer(body=[])
        return Answer(403, {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"})

    with answering(refuse) as server:
        client = LabelStudio(server.url, "token", timeout=5)
        with pytest.raises(LabelStudioAuthError, match="SSRF_PROTECTION_ENABLED=false") as told:
            register_webhook(client, 1, "http://127.0.0.1:9191/webhook", SECRET)
        assert SECRET not in str(told.value)
        assert server.count("POST") == 1


def test_the_last_answer_launches_the_next_round_once(
    server: LocalLabelStudio, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        home=tmp_path / "home",
        label_studio_url=server.url,
        label_studio_token=server.token,
        label_studio_project=project.title,
        label_studio_timeout=60,
    )
    settings.home.mkdir()
    ledger = Ledger(settings.ledger_url)
    ledger.register(manifest())
    ledger.plan("r0000", plan_rows(0, 1, 2))
    samples = [sample(number) for number in range(3)]
    tasks = project.client.import_tasks(project.id, project.payloads(samples))
    ledger.record_pushed("r0000", dict(zip(samples, tasks, strict=True)), datetime.now(UTC))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("rounds", ["r0000"])
        instance.report_runless_asset_event(dg.AssetMaterialization("labeling_tasks", partition="r0000"))
        loop = Loop(settings, instance)
        with dagster_double(instance) as dagster, receiving(project, Opener(loop, DagsterApi(dagster.url))) as waker:
            for task in tasks[:2]:
                project.client.annotate(task, CLASSES[0])
            assert not dagster.launched
            project.client.annotate(tasks[2], CLASSES[0])
            wait_until(lambda: dagster.launched)
            wakes = waker.wakes
            project.client.connection.sdk.annotations.delete(id=annotation_of(project, tasks[0]))
            assert waker.wakes == wakes + 1
        [run] = dagster.launched
        assert run.tags["dagster/run_key"] == "r0001-attempt-1"
        assert instance.has_dynamic_partition("rounds", "r0001")
    loop.deployment.ledger.close()
    ledger.close()


def annotation_of(project: Project, task: int) -> int:
    return next(event.annotation_id for event in project.client.annotations(project.id) if event.task_id == task)


def test_label_studio_asks_the_ml_backend_and_stores_its_guesses_but_none_of_the_holdout(
    project: Project, tmp_path: Path
) -> None:
    images, ledger = publish_images(tmp_path), open_ledger(tmp_path)
    version = save(checkpoint(3, CLASSES), tmp_path)
    samples = [QUERY[1], HOLDOUT[0], QUERY[0], HOLDOUT[1]]
    tasks = dict(zip(samples, project.client.import_tasks(project.id, project.payloads(samples, "r0003")), strict=True))
    guesses = Guesses(Artifacts(tmp_path / "artifacts"), images, ledger)
    with serving(backend(guesses, PASSWORD), "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(
            LabelStudioError, match=r"does that server have the same AL_ML_BACKEND_PASSWORD.*ML_BLOCK_LOCAL_IP"
        ) as told:
            register_backend(project.client, project.id, url, "another-password")
        assert "another-password" not in str(told.value)
        first = register_backend(project.client, project.id, url, PASSWORD)
        assert register_backend(project.client, project.id, url, PASSWORD) == first
        [connected] = project.client.connection.sdk.ml.list(project=project.id)
        assert (connected.id, connected.state, connected.model_version) == (first, "CO", version)

        retrieve(project)
        expected, _ = guesses.guess(samples)
        for name, guess in zip(samples, expected, strict=True):
            # Opening a task asks anew where there is no guess yet.
            found = predictions(project, tasks[name])
            if name in HOLDOUT:
                assert found == []
                assert guess is None
                continue
            [prediction] = found
            assert guess is not None
            assert prediction["model_version"] == version
            assert prediction["score"] == pytest.approx(guess.probability, abs=1e-6)
            assert prediction["result"][0] == shown(guess.name)

        newer = save(checkpoint(4, CLASSES), tmp_path)
        retrieve(project)
        versions = {prediction["model_version"] for prediction in predictions(project, tasks[QUERY[0]])}
        assert newer in versions
        assert predictions(project, tasks[HOLDOUT[0]]) == []
    ledger.close()


def retrieve(project: Project) -> None:
    """Do what the menu of the task list calls "Retrieve predictions"."""
    post(project, "api/dm/actions/?id=retrieve_tasks_predictions", {"selectedItems": {"all": True, "excluded": []}})


def predictions(project: Project, task: int) -> list[dict[str, Any]]:
    return project.client.connection.read("read a task", lambda: project.client.connection.json(f"api/tasks/{task}/"))[
        "predictions"
    ]


def post(project: Project, path: str, document: dict[str, Any]) -> None:
    client = project.client
    answer = httpx.post(
        f"{client.url}/{path}&project={project.id}",
        content=json.dumps(document),
        headers={"Authorization": f"Token {client.secret}", "Content-Type": "application/json"},
        timeout=60,
    )
    assert answer.is_success, answer.text
