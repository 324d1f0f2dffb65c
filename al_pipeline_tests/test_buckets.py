"""Buckets on a real S3 server: what it lists, refuses and loses when it is killed; nothing secret is told of it."""

import hashlib
import io
import itertools
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from al_pipeline.cli.app import app
from al_pipeline.cli.doctor import examine
from al_pipeline.core.data import ahead, embeddings, many_readings, object_store, places
from al_pipeline.core.data.contact_sheet import contact_sheet
from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Loaded, Place, below, entries_of, load
from al_pipeline.core.data.pool import scan, select_split
from al_pipeline.core.data.report import describe
from al_pipeline.core.data.scan_cache import ScanCache
from al_pipeline.core.data.shards import shards_of
from al_pipeline.core.errors import ImageError, InputError, PlaceError
from al_pipeline.core.labels.formats.images import check_images, place_image
from al_pipeline.labelstudio.images import publish
from al_pipeline.loop.artifact_bucket import ArtifactBucket
from al_pipeline.loop.changes import AwayError, look
from al_pipeline.loop.copies import MARK, Copies
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.presence import DELETED, REPLACED, Files, ImagesAwayError, is_away
from al_pipeline.loop.scan import scan_images
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.buckets import READER, READERS_SECRET, SECRETS, SHOWN, BucketServer, bucket_server, put_folder
from al_pipeline_tests.defs.worlds import CLASSES, write_usual_images


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """The server of this file's tests."""
    with bucket_server(tmp_path_factory.mktemp("buckets")) as started:
        # It makes a bucket of what is put first.
        Place("s3://tests").put("made", b"")
        yield started


@pytest.fixture
def place(server: BucketServer, request: pytest.FixtureRequest) -> Place:
    """A place of a test's own in the bucket of them all, because each bucket is another volume of the server."""
    return Place(f"s3://tests/{request.node.name}")


def test_keys_of_any_letters_are_listed_and_read(place: Place) -> None:
    keys = [
        "cat/1.jpg",
        "a b/ü 1.jpg",
        "p%20q.jpg",
        "hash#1.jpg",
        "[x]~{y}.jpg",
        "+&=.jpg",
        "what?.jpg",
        "cafe\u0301.jpg",
    ]
    for key in keys:
        assert place.put(key, key.encode(), create=True)
        assert not place.put(key, b"another", create=True)
    found = {entry.key: entry for entry in place.entries()}
    assert sorted(found) == sorted(keys)
    for key, entry in found.items():
        read = place.read(key)
        assert read.getvalue() == key.encode()
        assert (read.entry.size, read.entry.stamp) == (entry.size, entry.stamp)
    assert len(entries_of(f"{place.url}/{key}" for key in [*keys, "gone"])) == len(keys)
    place.copy(keys[0], "copy.jpg")
    assert place.read("copy.jpg").entry.stamp == found[keys[0]].stamp


def test_parts_are_read_of_one_version_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "AHEAD_BYTES", 1000)
    data = random.Random(1).randbytes(100_000)
    place.put("rows", data)
    with place.open("rows") as file:
        file.seek(-500, io.SEEK_END)
        assert file.read() == data[-500:]
        place.put("rows", data[::-1])
        file.seek(50_000)
        with pytest.raises(FileNotFoundError, match="replaced"):
            file.read(10)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Have stores made anew of another environment; nothing is tried again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "RETRIES", 0)
        for name, value in variables.items():
            patch.setenv(name, value)
        object_store.store_of.cache_clear()
        yield
    object_store.store_of.cache_clear()


AWAY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wr0ngSecret"}, "SignatureDoesNotMatch.*AWS_ENDPOINT_URL"),
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "InvalidAccessKeyId.*AWS_ENDPOINT_URL"),
        (AWAY, "Connection refused.*AWS_ENDPOINT_URL"),
        ({}, "NoSuchBucket.*Make the bucket, or name another one"),
    ],
)
def test_a_bucket_that_cannot_be_listed_is_no_empty_one(server: BucketServer, wrong: dict[str, str], told: str) -> None:
    with environment(**wrong):
        with pytest.raises(PlaceError, match=f"s3://nobody/photos cannot be listed: .*{told}") as error:
            Place("s3://nobody/photos").entries()
        assert not [secret for secret in (*SECRETS, "AKIAWRONG", "wr0ngSecret") if secret in str(error.value)]


def test_features_in_a_bucket_that_is_away_are_neither_lost_nor_computed_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    ids, store = [f"{i:032x}" for i in range(300)], EmbeddingStore(place)

    def vectors(some: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([[int(i, 16), 1] for i in some], dtype=np.float32)

    assert store.get(ids, vectors)[1] == 300
    shards_of.cache_clear()
    with environment(**AWAY):
        for use in (lambda: store.missing(ids), lambda: store.append(ids[:1], vectors(ids[:1]))):
            with pytest.raises(PlaceError, match=f"embeddings cannot be kept in {place}.*Connection refused"):
                use()
    found, computed = store.get(ids[::-1], vectors)
    assert computed == 0
    np.testing.assert_array_equal(found, vectors(ids[::-1]))
    assert not caplog.text


def test_features_in_a_bucket_are_computed_once_by_whoever_is_at_it(place: Place) -> None:
    ids, asked = [hashlib.sha256(bytes([i])).hexdigest()[:32] for i in range(200)], list[str]()

    def vectors(some: Sequence[str]) -> npt.NDArray[np.float32]:
        asked.extend(some)
        return np.array([[int(i[:6], 16), 1] for i in some], dtype=np.float32)

    with ThreadPoolExecutor(3) as pool:
        each = list(pool.map(lambda some: EmbeddingStore(place).complete(some, vectors), [ids, ids[::-1], ids[:100]]))
    assert sum(each) == len(asked) == len({*asked}) == 200
    assert not EmbeddingStore(place).missing(ids)
    assert not [entry.key for entry in place.entries() if entry.key.startswith(".")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images as people have them: two classes, a test split, a copy, a broken file and what is no image."""
    folder = tmp_path / "photos"
    write_usual_images(folder)
    pool = folder / "pool" / CLASSES[1]
    first = sorted(pool.iterdir())[0]
    (pool / "copy of it.png").write_bytes(first.read_bytes())
    (pool / "cut off.png").write_bytes(first.read_bytes()[:200])
    (pool / "note.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "other.png").write_bytes(first.read_bytes())
    return folder


@pytest.fixture
def settings(tmp_path: Path, photos: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a home whose images are in a bucket."""
    monkeypatch.chdir(tmp_path)
    put_folder(photos, place)
    return load_settings(home=tmp_path / "home", images=str(place))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses of the objects that are read."""
    addresses, real = list[str](), places.load

    def noted(uri: str) -> Loaded:
        addresses.append(uri)
        return real(uri)

    monkeypatch.setattr(ahead, "load", noted)
    return addresses


# Of the file system alone, or of the service.
OF_THE_FILE = ["uri", "reason", "mtime_ns", "inode"]


def test_the_manifest_is_the_folders_but_for_where_the_images_are(
    settings: Settings, photos: Path, place: Place, fetched: list[str]
) -> None:
    local, cache = scan(photos), ScanCache(settings.home / "cache" / "scan")
    assert isinstance(settings.images, Place)
    found = scan(settings.images, cache=cache)
    pd.testing.assert_frame_equal(found.drop(columns=OF_THE_FILE), local.drop(columns=OF_THE_FILE))
    for column in ("uri", "reason"):
        assert found[column].tolist() == [
            value and value.replace(f"{photos}/", f"{place}/") for value in local[column].tolist()
        ]
    assert len(fetched) == len(found)
    assert list(list_files(place).sentences()) == list(list_files(photos).sentences())
    facts = [[*describe(each, root, list_files(root)).facts()][1:] for each, root in ((found, place), (local, photos))]
    assert facts[0] == facts[1]
    fetched.clear()
    changed, new = f"pool/{CLASSES[0]}/{CLASSES[0]} 0-3.png", f"pool/{CLASSES[0]}/new.png"
    Image.new("RGB", (20, 20), "red").save(photos / changed)
    Image.new("RGB", (20, 20), "blue").save(photos / new)
    for key in (changed, new):
        place.put(key, (photos / key).read_bytes())
    second = scan(place, cache=cache)
    assert sorted(fetched) == sorted([f"{place}/{changed}", f"{place}/{new}", f"{place}/pool/{CLASSES[1]}/cut off.png"])
    pd.testing.assert_frame_equal(second.drop(columns=OF_THE_FILE), scan(photos).drop(columns=OF_THE_FILE))


def test_a_bucket_is_looked_at_as_a_folder_is(settings: Settings, place: Place) -> None:
    """What came, went and changed is told, and a server that is away is away, not empty."""
    deployment = Deployment(settings)
    assert look(settings) is None
    scanned = scan_images(deployment)
    deployment.artifacts.image_pool.parent.mkdir(parents=True, exist_ok=True)
    scanned.manifest.to_parquet(deployment.artifacts.image_pool)
    changes = look(settings)
    assert changes is not None
    assert not changes
    manifest, files = scanned.manifest, Files(scanned.manifest, deployment)
    pool = manifest[manifest["split"] == "pool"]
    gone, other = pool["uri"].iloc[0], pool["uri"].iloc[1]
    place.delete(below(gone, place))
    place.put(below(other, place), place.read(below(gone.replace(" 0-0", " 0-5"), place)).getvalue())
    changes = look(settings)
    assert changes is not None
    assert (changes.came, changes.went, changes.changed) == (0, 1, 1)
    assert 0 < time.time() - changes.touched < 60
    found = files.look(pool["sample_id"].tolist())
    (of_gone, of_other) = found.absent.values()
    assert of_gone.startswith(f"{gone}: {DELETED}")
    assert of_other.startswith(f"{other}: {REPLACED}")
    with environment(**AWAY):
        with pytest.raises(AwayError, match=r"is away: s3://.*Connection refused.*al up --images"):
            look(settings)
        with pytest.raises(ImagesAwayError, match="Connection refused"):
            files.look(pool["sample_id"].tolist())
        with pytest.raises(PlaceError, match="Connection refused"):
            scan_images(deployment)
        assert is_away(settings)
    assert not is_away(settings)


def test_images_of_a_bucket_are_decoded_published_and_exported(
    settings: Settings, photos: Path, place: Place, tmp_path: Path
) -> None:
    """All that people and the network see is what it is of the folder."""
    local, found = (select_split(scan(root), "pool") for root in (photos, place))
    ids = local["sample_id"].tolist()
    cache = ImageCache(tmp_path / "cache", 10**9)
    for _ in range(2):
        blocks = [
            np.concatenate(
                [block.copy() for _, block in CachedImages(each, ids, table["uri"].tolist()).blocks(16, block=8)]
            )
            for each, table in ((cache, found), (ImageCache(tmp_path / "none", 0), local))
        ]
        np.testing.assert_array_equal(blocks[0], blocks[1])
    for uri in (found["uri"].iloc[0], load(found["uri"].iloc[0])):
        name = publish(uri, ids[0], tmp_path / "published")
        assert (tmp_path / "published" / name).read_bytes() == Path(local["uri"].iloc[0]).read_bytes()
        (tmp_path / "published" / name).unlink()
    assert contact_sheet(found["uri"].tolist()) == contact_sheet(local["uri"].tolist())
    with environment(**AWAY):
        assert contact_sheet(found["uri"].tolist()[:1]) == contact_sheet([tmp_path / "gone.jpg"])
    check_images(found)
    assert (tmp_path / place_image(found["uri"].iloc[1], tmp_path, ids[1])).read_bytes() == Path(
        local["uri"].iloc[1]
    ).read_bytes()
    place.delete(below(found["uri"].iloc[2], place))
    with pytest.raises(InputError, match="1 of 24 labeled images are gone"):
        check_images(found)
    with pytest.raises(ImageError, match="no such object"):
        publish(found["uri"].iloc[2], ids[2], tmp_path / "published")
    uris, empty = found["uri"].tolist(), ImageCache(tmp_path / "empty", 10**9)
    for each in (empty, ImageCache(tmp_path / "none", 0)):
        with pytest.raises(ImageError, match=re.escape(uris[2])):
            list(CachedImages(each, ids, uris).blocks(16))


def test_a_scan_goes_on_where_the_servers_end_left_it(
    settings: Settings, place: Place, server: BucketServer, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, cache = scan(place), ScanCache(settings.home / "cache" / "scan")
    assert len(expected) > 20
    fetched.clear()
    # One after the other, so that it is known what was read; and told at once.
    one = ThreadPoolExecutor(1)
    monkeypatch.setattr(ahead, "_threads", lambda: one)
    monkeypatch.setattr(many_readings, "TOGETHER", 1)
    monkeypatch.setattr(object_store, "RETRIES", 0)
    object_store.store_of.cache_clear()
    real = ahead.load

    def ends_the_server(uri: str) -> Loaded:
        if len(fetched) == 10:
            server.stop()
        return real(uri)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(ahead, "load", ends_the_server)
            with pytest.raises(PlaceError, match=r"cannot be read: .*Connection refused"):
                scan(place, cache=cache, workers=1)
    finally:
        server.start()
    fetched.clear()
    pd.testing.assert_frame_equal(scan(place, cache=cache), expected)
    assert len(fetched) == len(expected) - 10


@contextmanager
def killed_at_put(server: BucketServer, number: int) -> Iterator[None]:
    """Kill the server while it is given an object, and others beside it; it is there again after the body."""
    real, calls, killing = Place.put, itertools.count(1), threading.Thread(target=server.stop)

    def put(self: Place, key: str, data: bytes, *, create: bool = False) -> Entry | None:
        if next(calls) == number:
            killing.start()
        return real(self, key, data, create=create)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Place, "put", put)
        patch.setattr(object_store, "RETRIES", 0)
        object_store.store_of.cache_clear()
        try:
            yield
        finally:
            if killing.ident is not None:
                killing.join()
            object_store.store_of.cache_clear()
            server.start()


def test_a_publish_goes_on_where_the_servers_end_left_it(place: Place, server: BucketServer, tmp_path: Path) -> None:
    images, bytes_of = tmp_path / "images", random.Random(1).randbytes
    images.mkdir()
    names = [f"{i:032x}.png" for i in range(40)]
    for name in names:
        (images / name).write_bytes(bytes_of(1 << 20))
    settings: Any = SimpleNamespace(published=place, published_images=images)
    Copies(settings).mark()
    with killed_at_put(server, 20), pytest.raises(PlaceError, match="cannot be written"):
        Copies(settings).put_all()
    there = {entry.key: entry.size for entry in place.entries()}
    assert 1 < len(there) < 41
    assert {size for key, size in there.items() if key != MARK} == {1 << 20}
    assert Copies(settings).put_all() == 41 - len(there)
    assert Copies(settings).put_all() == 0
    # Another machine has them as they were.
    elsewhere: Any = SimpleNamespace(published=place, published_images=tmp_path / "elsewhere")
    Copies(elsewhere).fetch([Path(name).stem for name in names])
    assert {path.name for path in elsewhere.published_images.iterdir()} == set(names)
    for name in names:
        assert (elsewhere.published_images / name).read_bytes() == (images / name).read_bytes()


def test_features_go_on_where_the_servers_end_left_them(
    place: Place, server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "STEP", 1000)
    monkeypatch.setattr(embeddings, "SHARD_IMAGES", 1000)
    ids, store, computed = [f"{i:032x}" for i in range(8000)], EmbeddingStore(place), list[str]()

    def vectors(some: Sequence[str]) -> npt.NDArray[np.float32]:
        computed.extend(some)
        return np.array([np.full(512, int(i, 16)) for i in some], dtype=np.float32)

    with killed_at_put(server, 5), pytest.raises(PlaceError, match="cannot be"):
        store.complete(ids, vectors)
    assert len(computed) < 8000
    shards_of.cache_clear()
    computed.clear()
    missing = store.missing(ids)
    assert 0 < len(missing) < 8000
    found, _ = store.get(ids, vectors)
    assert sorted(computed) == sorted(missing)
    np.testing.assert_array_equal(found, vectors(ids))


def test_al_scan_shows_what_a_bucket_holds(server: BucketServer, settings: Settings, place: Place) -> None:
    told = CliRunner().invoke(app, ["scan", str(place)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert f"in {place}" in told.output
    assert "copy" in told.output
    assert not [secret for secret in SECRETS if secret in told.output]
    with environment(**AWAY):
        told = CliRunner().invoke(app, ["scan", str(place)])
        assert told.exit_code == 1
        assert "Connection refused" in told.output


def test_the_doctor_looks_at_each_bucket_and_tells_what_to_do(
    server: BucketServer, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Consoles make an empty object of a folder, which this server does not give back.
    place.put("cat", b"")
    place.put("cat/1.png", b"no image")
    where = {"images": str(place), "embeddings": f"{place}-features", "published": f"s3://{SHOWN}/here"}
    where["artifacts"] = f"{place}-artifacts"
    settings = load_settings(home=tmp_path / "home", **where)
    # Some services make a bucket that is written to, others refuse.
    Place(f"s3://{SHOWN}").put("there", b"")

    def found() -> dict[str, tuple[bool | None, str]]:
        told = {each.text: each.ok for each in examine(lambda: settings) if each.subject == "buckets"}
        assert not [secret for text in told for secret in SECRETS if secret in text]
        names = ("AL_IMAGES", "AL_EMBEDDINGS", "AL_PUBLISHED", "AL_ARTIFACTS")
        return {name: (ok, text) for name in names for text, ok in told.items() if name in text}

    well = {name: ok for name, (ok, _) in found().items()}
    assert well == dict.fromkeys(("AL_IMAGES", "AL_EMBEDDINGS", "AL_PUBLISHED", "AL_ARTIFACTS"), True)
    ArtifactBucket(Place(where["artifacts"]), tmp_path / "theirs").own("of-somebody-else")
    ok, text = found()["AL_ARTIFACTS"]
    assert not ok
    assert "rounds of another ledger" in text
    with environment(AWS_ACCESS_KEY_ID=READER, AWS_SECRET_ACCESS_KEY=READERS_SECRET):
        told = found()
        assert {ok for ok, _ in told.values()} == {False}
        assert re.search(rf"{place} cannot be listed: AccessDenied.*AWS_ACCESS_KEY_ID", told["AL_IMAGES"][1])
        assert re.search(rf"{place}-features cannot be listed: AccessDenied", told["AL_EMBEDDINGS"][1])
        assert re.search(rf"s3://{SHOWN}/here cannot be written: AccessDenied", told["AL_PUBLISHED"][1])
    with environment(**AWAY):
        assert re.search("cannot be listed: .*Connection refused", found()["AL_IMAGES"][1])
