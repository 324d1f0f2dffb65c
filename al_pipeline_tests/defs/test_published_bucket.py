"""Rounds on images of one bucket, shown to people from another: a real S3 server, a real Label Studio, a browser."""

import base64
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import dagster as dg
import httpx
import pytest
from playwright.sync_api import Page

from al_pipeline.core.data import object_store
from al_pipeline.core.data.places import Place
from al_pipeline.core.rounds import round_key, round_number
from al_pipeline.defs import build
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.ledger.verify import verify
from al_pipeline.loop import artifact_bucket
from al_pipeline.loop.copies import MARK
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import truth
from al_pipeline.servers.processes import free_port
from al_pipeline.settings import load_settings
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.buckets import READER, READERS_SECRET, SECRETS, SHOWN, BucketServer, bucket_server, put_folder
from al_pipeline_tests.defs.rounds import reason, tick
from al_pipeline_tests.defs.worlds import CLASSES, World, write_images, write_usual_images
from al_pipeline_tests.labelstudio.databases import FreshDatabase

pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]
PICTURES = "[...document.images].filter(i => i.complete && i.naturalWidth === 24)"


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """The server of both buckets."""
    with bucket_server(tmp_path_factory.mktemp("buckets")) as started:
        yield started


@pytest.fixture(scope="module")
def studio(
    buckets: BucketServer,
    server: LocalLabelStudio,
    fresh_database: FreshDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalLabelStudio]:
    """A Label Studio as `al up` starts it for published images in a bucket; `server` has made its database."""
    home = tmp_path_factory.mktemp("studio")
    fresh_database.copy(home / "labelstudio")
    # Enough for it: to list and to read the one bucket.
    own = {"AWS_ACCESS_KEY_ID": READER, "AWS_SECRET_ACCESS_KEY": READERS_SECRET}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(f"LABEL_STUDIO_{name}", value)
        yield from run_studio(home)


def run_studio(home: Path) -> Iterator[LocalLabelStudio]:
    """Run a Label Studio on a home."""
    started = LocalLabelStudio(
        home / "labelstudio", home / "published" / "images", port=free_port(), log=home / "log", bucket=True
    )
    started.start()
    try:
        started.wait_ready(120)
        yield started
    finally:
        started.stop()


@contextmanager
def logged_in(studio: LocalLabelStudio) -> Iterator[Page]:
    """Open a browser of somebody who is logged in. Dagster runs in no process that has one open."""
    with open_browser(width=1366, height=768) as page:
        page.goto(studio.url)
        page.fill("input[name=email]", studio.username)
        page.fill("input[name=password]", studio.password)
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(f"^{re.escape(studio.url)}/(projects/?.*)?$"))
        yield page


def shown_by(urls: Iterable[str]) -> set[str]:
    """Return the addresses of the images that Label Studio was asked for."""
    asked = (parse_qs(urlsplit(url).query) for url in urls if "/resolve/" in url)
    return {base64.urlsafe_b64decode(each["fileuri"][0]).decode() for each in asked}


def test_two_rounds_whose_images_lie_in_one_bucket_and_are_shown_from_another(
    make_world: Any, studio: LocalLabelStudio, tmp_path: Path
) -> None:
    write_usual_images(tmp_path / "photos")
    write_images(tmp_path / "examples", 1, seed=7, split=None)
    images, shown = Place("s3://photos/all"), Place(f"s3://{SHOWN}/of-this-home")
    put_folder(tmp_path / "photos", images)
    # As one makes a bucket: this server does so when something is put.
    shown.parent.put("made", b"")
    world: World = make_world(
        str(images),
        published=str(shown),
        examples=tmp_path / "examples",
        label_studio_url=studio.url,
        label_studio_token=studio.token,
        label_studio_timeout=60,
    )
    client = LabelStudio(studio.url, studio.token, timeout=60)
    assert world.run("setup").success
    project_id = world.deployment.project_id()
    people = SimulatedAnnotator(client, project_id, truth(world.value("image_pool")), CLASSES)
    assert world.run("round", "r0000").success
    assert client.image_problem(project_id) is None
    assert people.answer_open_tasks().labeled == 4
    # Another machine has nothing in its folder, and somebody has tidied up in the bucket.
    shutil.rmtree(world.settings.published_images)
    shown.delete(f"{max(client.tasks(project_id), key=lambda task: task.task_id).sample_id}.png")
    assert re.search("424 .*s3://shown/of-this-home/.*S3_ENDPOINT", str(client.image_problem(project_id)))
    assert world.run("setup").success
    assert client.image_problem(project_id) is None
    assert world.run("round", "r0001").success

    samples = [task.sample_id for task in client.tasks(project_id)]
    assert len(samples) == 8
    keys = {entry.key for entry in shown.entries()} - {MARK}
    assert {f"{sample}.png" for sample in samples} < keys
    for key in keys:
        assert hashlib.sha256(shown.read(key).getvalue()).hexdigest()[:32] == key.removesuffix(".png")

    asked = list[str]()
    with logged_in(studio) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(client.project_url(project_id))
        page.wait_for_function(f"{PICTURES}.length === 8")
        page.goto(client.project_url(project_id) + "?labeling=1")
        page.wait_for_function(f"{PICTURES}.some(i => i.clientWidth > 100)")
        page.wait_for_function(
            "[...document.querySelectorAll('td img')].filter(i => i.naturalWidth === 24).length === 2"
        )
    assert shown_by(asked) == {f"{shown}/{name}" for name in keys}
    one = next(url for url in asked if "/resolve/" in url)
    assert httpx.get(one).status_code == 401

    told = [*map(unquote, asked), *keys, *shown_by(asked), studio.log.read_text(errors="replace")]
    assert not [word for word in (*CLASSES, *SECRETS, "photos") for each in told if word in each]


def test_pods_that_have_no_disk_in_common_turn_the_loop_and_leave_nothing_behind(
    make_world: Any, studio: LocalLabelStudio, buckets: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every look is to see everything.
    monkeypatch.setattr(artifact_bucket, "FRESH", 0.0)
    write_usual_images(tmp_path / "photos")
    images, ours = Place("s3://photos/of-pods"), Place("s3://ours/deployment")
    put_folder(tmp_path / "photos", images)
    for bucket in (f"s3://{SHOWN}", "s3://ours"):
        Place(bucket).put("made", b"")
    where = {
        "published": f"s3://{SHOWN}/of-pods",
        "artifacts": str(ours),
        "label_studio_url": studio.url,
        "label_studio_token": studio.token,
        "label_studio_project": "pods",
        "label_studio_timeout": 60,
        "database_url": f"sqlite:///{tmp_path / 'ledger.sqlite3'}",
    }
    # It lives as long as the loop; whatever runs has a disk of its own that goes with it.
    code_server: World = make_world(str(images), home=tmp_path / "code-server", **where)

    @contextmanager
    def pod() -> Iterator[World]:
        settings = load_settings(**code_server.settings.model_dump(exclude_unset=True) | {"home": tmp_path / "pod"})
        yield World(settings, build(settings), code_server.instance)
        shutil.rmtree(tmp_path / "pod")

    with pod() as world:
        assert world.run("setup").success
    client = LabelStudio(studio.url, studio.token, timeout=60)
    project_id = code_server.deployment.project_id()
    people = SimulatedAnnotator(client, project_id, truth(code_server.value("image_pool")), CLASSES)
    for key in ("r0000", "r0001", "r0002"):
        with pod() as world:
            assert world.run("round", key).success
        assert people.answer_open_tasks().labeled == 4
        looked = tick(code_server)
        assert isinstance(looked, dg.SensorResult)
        assert [run.partition_key for run in looked.run_requests or []] == [round_key(round_number(key) + 1)]
    stored = [code_server.deployment.artifacts.stored_checkpoint(number) for number in range(3)]
    assert [each.info.n_labels for each in stored if each] == [0, 4, 8]
    # Whose disk is gone is told by the bucket; from frozen labels the same weights come.
    with pod() as world:
        assert world.run("retrain", "r0002").success
        again = world.deployment.artifacts.stored_checkpoint(2)
        assert again is not None
        assert again.hash == stored[2].hash  # type: ignore[union-attr]
        assert world.value("learning_curve")["n_labels"].tolist() == [0, 4, 8]
    keys = {entry.key for entry in ours.entries()}
    assert {"image_pool.parquet", "checkpoint/r0002.safetensors", "evaluation/r0001.json"} < keys
    assert [key for key in keys if key.startswith("embedding_store/")]
    assert not [key for key in keys for word in (*CLASSES, *SECRETS) if word in key]
    assert verify(code_server.settings.ledger_url).problems == []

    # A round whose bucket is away fails, and is run again; the sensor says what is wrong, and goes on.
    with buckets.away(), monkeypatch.context() as patch:
        # To be told at once.
        patch.setattr(object_store, "RETRIES", 0)
        object_store.store_of.cache_clear()
        told = tick(code_server)
        assert "s3://ours/deployment cannot be listed: " in reason(told)
        assert not [secret for secret in SECRETS if secret in reason(told)]
    object_store.store_of.cache_clear()
    with pod() as world:
        assert world.run("round", "r0003").success
    assert len(code_server.deployment.ledger.planned("r0003")) == 4
