"""Buckets on a real S3 server: what it lists, refuses and loses when it is killed; nothing secret is told of it."""

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from al_pipeline.core import object_store, places
from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.shards import shards_of
from al_pipeline.core.errors import PlaceError
from al_pipeline.core.places import Place, entries_of
from al_pipeline_tests.buckets import KEY, SECRET, BucketServer, bucket_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """The server of this file's tests."""
    with bucket_server(tmp_path_factory.mktemp("buckets")) as started:
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
    """Have stores made anew of another environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        object_store.store_of.cache_clear()
        yield
    object_store.store_of.cache_clear()


AWAY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wr0ngSecret"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "InvalidAccessKeyId"),
        (AWAY, "Connection refused"),
        ({}, "NoSuchBucket"),
    ],
)
def test_a_bucket_that_cannot_be_listed_is_no_empty_one(server: BucketServer, wrong: dict[str, str], told: str) -> None:
    with environment(**wrong):
        with pytest.raises(
            PlaceError, match=f"s3://nobody/photos cannot be listed: .*{told}.*AWS_ENDPOINT_URL"
        ) as error:
            Place("s3://nobody/photos").entries()
        assert not [secret for secret in (KEY, SECRET, "AKIAWRONG", "wr0ngSecret") if secret in str(error.value)]


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
