"""Places in buckets: addresses keep their scheme and hold no key, objects are written once, read at once and whole."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from al_pipeline.core.data import object_store, places
from al_pipeline.core.data.ahead import Ahead
from al_pipeline.core.data.object_store import Entry, reason_of
from al_pipeline.core.data.places import Loaded, Place, entries_of, is_address, load, place_of, start_of
from al_pipeline.core.errors import InputError, PlaceError


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place in memory, and one in a folder."""
    return Place(f"memory://{tmp_path.name}/photos" if request.param == "memory" else f"file://{tmp_path}/photos")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/photos/", "s3://bucket/photos"),
        ("s3://bucket//a//b", "s3://bucket/a/b"),
        ("gs://bucket/1 %20#ü", "gs://bucket/1 %20#ü"),
        ("file:///data/photos", "file:///data/photos"),
    ],
)
def test_an_address_keeps_its_scheme_and_its_letters(given: str, url: str) -> None:
    assert str(Place(given)) == url
    assert str(Place(given) / "cat") == f"{url}/cat"
    assert (Place(given) / "cat").parent == Place(given)


@pytest.mark.parametrize("secret", ["s3://key:s3cret@bucket/photos", "s3://bucket/photos?sig=s3cret"])
def test_an_address_with_a_key_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InputError, match=r"with a key, or a query, in it.*AWS_SECRET_ACCESS_KEY") as told:
        Place(secret)
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("wrong", ["/data", "ftp://host/x", "s3://", "s3:bucket", "s3://bucket/a/../b", ""])
def test_what_is_no_address_is_named(wrong: str) -> None:
    with pytest.raises(InputError, match=r"no address|names no bucket|by way of"):
        Place(wrong)


def test_paths_and_addresses_are_told_apart(tmp_path: Path) -> None:
    assert Place("s3://bucket").parent == Place("s3://bucket")
    assert place_of("s3://bucket/photos") == Place("s3://bucket/photos")
    assert place_of(f"file://{tmp_path}") == tmp_path
    assert place_of("photos/s3:") == Path("photos/s3:")
    assert not is_address(f"{tmp_path}/odd://name")
    assert start_of(Place("s3://bucket/photos")) == "s3://bucket/photos/"
    assert start_of(tmp_path) == f"{tmp_path.resolve()}/"


def test_what_was_written_is_listed_and_read(place: Place) -> None:
    written = {"cat/1.jpg": b"one", "cat/ü 2 #%20.jpg": b"another", "3": b""}
    assert place.entries() == []
    for key, data in written.items():
        assert place.put(key, data)
    # A neighbour whose name begins alike is none of ours.
    Place(f"{place.url}-more").put("4", b"x")
    found = {entry.key: entry for entry in place.entries()}
    assert {key: entry.size for key, entry in found.items()} == {key: len(data) for key, data in written.items()}
    for key, data in written.items():
        read = place.read(key)
        assert read.getvalue() == data
        assert read.entry.stamp == found[key].stamp
    uris = [f"{place.url}/{key}" for key in [*written, "gone"]]
    assert {uri: entry.stamp for uri, entry in entries_of(uris).items()} == {
        f"{place.url}/{key}": entry.stamp for key, entry in found.items()
    }


def test_many_objects_are_asked_about_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a/1", "a/2", "b/3"):
        place.put(key, key.encode())
    uris = [f"{place.url}/{key}" for key in ("a/1", "a/2", "b/3", "b/gone")]
    one_by_one = entries_of(uris)
    monkeypatch.setattr(places, "FEW", 1)
    assert entries_of(uris).keys() == one_by_one.keys() == {*uris[:3]}


def test_an_object_is_created_once(place: Place) -> None:
    assert place.put("claim", b"mine", create=True)
    assert not place.put("claim", b"yours", create=True)
    assert place.read("claim").getvalue() == b"mine"
    assert place.put("claim", b"anew")
    assert place.read("claim").getvalue() == b"anew"


def test_a_change_of_content_is_another_stamp() -> None:
    one = Entry("k", 1, 10**9, "abc")
    assert one.stamp == one._replace(modified_ns=5 * 10**9).stamp
    assert one.stamp != one._replace(etag="abd").stamp
    without = one._replace(etag="")
    assert (
        without.stamp == without._replace(modified_ns=10**9 + 5).stamp != without._replace(modified_ns=2 * 10**9).stamp
    )


def test_objects_are_copied_renamed_and_deleted(place: Place) -> None:
    place.put("a", b"content")
    place.copy("a", "b/c")
    place.rename("a", "d")
    assert sorted(entry.key for entry in place.entries()) == ["b/c", "d"]
    place.delete("d")
    place.delete("d")
    assert place.read("b/c").getvalue() == b"content"
    with pytest.raises(FileNotFoundError):
        place.copy("d", "e")


def test_parts_of_an_object_are_read_as_of_a_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "AHEAD_BYTES", 100)
    data = random.Random(1).randbytes(1000)
    place.put("rows", data)
    with place.open("rows") as file:
        assert file.read(20) == data[:20]
        assert file.seek(0, 2) == 1000
        assert file.read(5) == b""
        file.seek(900)
        into = bytearray(200)
        assert file.readinto(into) == 100
        assert into[:100] == data[900:]
        file.seek(300)
        assert file.read() == data[300:]
    place.put("empty", b"")
    with place.open("empty") as file:
        assert file.read(20) == b""
    with pytest.raises(FileNotFoundError):
        place.open("gone")


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "AHEAD_BYTES", 10)
    place.put("rows", b"a" * 100)
    with place.open("rows") as file:
        file.read(10)
        place.put("rows", b"b" * 100)
        file.seek(50)
        with pytest.raises(FileNotFoundError, match="replaced"):
            file.read(10)


def test_objects_are_read_ahead_in_any_order_and_bounded(place: Place, tmp_path: Path) -> None:
    local = tmp_path / "file.jpg"
    uris = [f"{place.url}/{i}" for i in range(30)]
    for i in range(30):
        place.put(str(i), str(i).encode())
    ahead = Ahead([*uris, str(local), f"{place.url}/gone"], 4)
    order = [*range(10), 20, *range(10, 20), *range(21, 30)]
    for row in order:
        found = ahead.take(row)
        assert isinstance(found, Loaded)
        assert found.getvalue() == str(row).encode()
        assert len(ahead._read) <= 15
    assert ahead.take(30) == str(local)
    with pytest.raises(FileNotFoundError):
        ahead.take(31)
    ahead.close()
    assert Ahead([str(local)]).take(0) == str(local)


def test_no_object_is_told_as_a_missing_file(place: Place) -> None:
    with pytest.raises(FileNotFoundError) as told:
        load(f"{place.url}/gone")
    assert told.value.filename == f"{place.url}/gone"
    with pytest.raises(OSError, match="its key cannot be asked for"):
        load(f"{place.url}/a\tb")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Generic S3 error: Error performing GET http://h:1/b?list-type=2&sig=s3cret in 2ms, after 2 retries, "
            'retry_timeout: 10s  - HTTP error: error sending request\n\nDebug source:\n message: "Connection refused"',
            "HTTP error: error sending request (Connection refused)",
        ),
        (
            "Generic S3 error: Error performing GET https://h/b - Server returned non-2xx status code: 403 Forbidden: "
            "<Error><Code>SignatureDoesNotMatch</Code><Message>The signature does not match.</Message>"
            "<AWSAccessKeyId>s3cret</AWSAccessKeyId></Error>",
            "SignatureDoesNotMatch, The signature does not match",
        ),
        ("Error - Server returned non-2xx status code: 502 Bad Gateway: <html>s3cret</html>", "502 Bad Gateway"),
        (
            "Generic MicrosoftAzure error: Account must be specified",
            "Generic MicrosoftAzure error: Account must be specified",
        ),
    ],
)
def test_why_a_service_refuses_is_told_without_what_is_secret(said: str, told: str) -> None:
    assert reason_of(GenericError(said)) == told


@pytest.mark.parametrize(
    "use",
    [
        Place.entries,
        lambda p: p.read("x"),
        lambda p: p.open("x"),
        lambda p: p.put("x", b""),
        lambda p: p.copy("x", "y"),
    ],
)
def test_a_server_that_is_away_is_told_and_nothing_is_missing(
    use: Callable[[Place], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:1",
        "ACCESS_KEY_ID": "AKIAs3cret",
        "REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setattr(object_store, "RETRIES", 0)
    object_store.store_of.cache_clear()
    try:
        with pytest.raises(PlaceError, match=r"s3://away/x cannot be .*Connection refused.*AWS_ENDPOINT_URL") as told:
            use(Place("s3://away/x"))
        assert "s3cret" not in str(told.value)
    finally:
        object_store.store_of.cache_clear()


@pytest.mark.parametrize(
    ("code", "kind"),
    [("AccessDenied", PermissionError), ("InvalidObjectState", PermissionError), ("ExpiredToken", PlaceError)],
)
def test_what_is_wrong_with_one_object_is_told_from_what_is_wrong_with_all(code: str, kind: type[Exception]) -> None:
    """Keys that end in the middle of a scan must not set aside what is left of it."""
    error = GenericError(f"Generic S3 error: 403 Forbidden: <Error><Code>{code}</Code></Error>")
    assert isinstance(object_store.of_object("s3://bucket", "read", "1.jpg", error), kind)
