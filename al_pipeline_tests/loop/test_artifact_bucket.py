"""Artifacts in a bucket that several machines share: what one writes the others have, and nothing else is touched."""

import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core import files
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import FileError, InputError, PlaceError
from al_pipeline.core.files import content, create_file, delete_file, keep_also, whole_file
from al_pipeline.loop import artifact_bucket
from al_pipeline.loop.artifact_bucket import COPY_OF, MARK, ArtifactBucket
from al_pipeline.loop.changes import look
from al_pipeline.loop.claims import STALE, Claims
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.settings import load_settings

NAMES = ("image_pool.parquet", "checkpoint/r0000.safetensors", "evaluation/r0000.json", "claims/r0001-attempt-1.1")


@pytest.fixture(autouse=True)
def looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is to see everything; and what one test keeps is no other's."""
    monkeypatch.setattr(artifact_bucket, "FRESH", 0.0)
    monkeypatch.setattr(files, "_KEEPERS", {})


@pytest.fixture
def place() -> Place:
    """A bucket of the test's own."""
    return Place(f"memory://{uuid4()}/of-all")


def machine(folder: Path, place: Place) -> ArtifactBucket:
    """Return the bucket as one machine has it, which has looked at it once."""
    made = ArtifactBucket(place, folder.absolute())
    keep_also(folder, made)
    made.refresh()
    return made


def write(path: Path, text: str) -> None:
    with whole_file(path, "The file") as file:
        file.write_text(text)


def of_folder(folder: Path) -> dict[str, str]:
    """Return what the folder holds for all to see."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): content(path).read_text() for path in found}


def of_bucket(place: Place) -> dict[str, str]:
    return {e.key: place.read(e.key).getvalue().decode() for e in place.entries() if not e.key.startswith(".")}


def test_what_one_machine_writes_and_deletes_the_others_see(place: Place, tmp_path: Path) -> None:
    here, there = (machine(tmp_path / name, place) for name in ("here", "there"))
    write(here.folder / NAMES[1], "weights")
    assert of_bucket(place) == {NAMES[1]: "weights"}
    assert of_folder(there.folder) == {}
    there.refresh()
    assert of_folder(there.folder) == {NAMES[1]: "weights"}
    # As long, and within the same second.
    write(there.folder / NAMES[1], "Weights")
    here.refresh()
    assert of_folder(here.folder) == {NAMES[1]: "Weights"}
    delete_file(here.folder / NAMES[1])
    assert of_bucket(place) == {}
    there.refresh()
    assert of_folder(there.folder) == {}
    # Who deletes what another has deleted already changes nothing.
    delete_file(there.folder / NAMES[1])


def test_what_has_not_changed_is_not_read_again(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine(tmp_path / "here", place)
    for name in NAMES:
        write(here.folder / name, name)
    there = machine(tmp_path / "there", place)
    before = {path: path.stat() for path in there.folder.rglob("*") if path.is_file()}
    assert len(before) == len(NAMES) + 1
    read, real = list[str](), Place.save

    def noted(self: Place, key: str, path: Path) -> Any:
        read.append(key)
        return real(self, key, path)

    monkeypatch.setattr(Place, "save", noted)
    for each in (here, there, ArtifactBucket(place, there.folder)):
        each.refresh()
    assert read == []
    # Readers that keep what they have read go by these.
    assert {path: path.stat() for path in before} == before
    write(here.folder / NAMES[0], "anew")
    there.refresh()
    assert read == [NAMES[0]]
    # A network is read by who asks for it, once.
    assert (there.folder / NAMES[1]).stat().st_size == 0
    assert [content(there.folder / NAMES[1]).read_text() for _ in range(2)] == [NAMES[1]] * 2
    there.refresh()
    assert read == [*NAMES[:2]]


@settings(deadline=None, max_examples=60)
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["write", "delete", "look", "lost"]),
            st.sampled_from(NAMES),
            st.sampled_from(["1", "2", "two"]),
        ),
        max_size=30,
    )
)
def test_whatever_happens_on_three_machines_each_has_what_is_in_the_bucket(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str, str, str]]
) -> None:
    place, top = Place(f"memory://{uuid4()}/all"), tmp_path_factory.mktemp("machines")
    machines = {name: machine(top / name, place) for name in "abc"}
    expected = dict[str, str]()
    for name, act, key, text in acts:
        one = machines[name]
        if act == "write":
            write(one.folder / key, text)
            expected[key] = text
        elif act == "delete":
            delete_file(one.folder / key)
            expected.pop(key, None)
        else:
            if act == "lost":
                # Another pod: nothing of it is left.
                shutil.rmtree(one.folder)
            one.refresh()
            assert of_folder(one.folder) == expected
        assert of_bucket(place) == expected
    for one in machines.values():
        one.refresh()
        assert of_folder(one.folder) == expected


def test_a_look_takes_away_nothing_that_is_written_meanwhile(place: Place, tmp_path: Path) -> None:
    here, other = machine(tmp_path / "here", place), ArtifactBucket(place, (tmp_path / "here").absolute())
    over, lost = threading.Event(), list[str]()

    def look() -> None:
        while not over.is_set():
            other.refresh()

    looking = [threading.Thread(target=look) for _ in range(3)]
    for each in looking:
        each.start()
    rng = random.Random(0)
    for i in range(300):
        path = here.folder / "evaluation" / f"r{i % 40:04d}.json"
        write(path, text := f"{i} {rng.random()}")
        # Those who look may see it later, and never take it away.
        if not path.exists() or path.read_text() != text:
            lost.append(text)
    over.set()
    for each in looking:
        each.join()
    assert lost == []


def test_where_the_bucket_is_away_nothing_is_written_here_either(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(tmp_path / "here", place)
    write(here.folder / NAMES[0], "old")

    def away(*_: Any, **__: Any) -> None:
        raise PlaceError("s3://bucket cannot be written: it is away")

    with monkeypatch.context() as patch:
        for name in ("put", "delete", "entries"):
            patch.setattr(Place, name, away)
        acts: list[Callable[[], object]] = [
            lambda: write(here.folder / NAMES[0], "new"),
            lambda: write(here.folder / NAMES[1], "new"),
            lambda: delete_file(here.folder / NAMES[0]),
            lambda: Claims(here.folder / "claims").take("r0001-attempt-1", "ours"),
            here.refresh,
        ]
        for act in acts:
            with pytest.raises(PlaceError, match="it is away"):
                act()
        assert of_folder(here.folder) == {NAMES[0]: "old"}
        assert not list(here.folder.rglob("*.part"))
    write(here.folder / NAMES[0], "new")
    assert of_bucket(place) == of_folder(here.folder) == {NAMES[0]: "new"}


def test_of_a_machine_that_dies_in_a_write_all_have_the_file_or_none(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (machine(tmp_path / name, place) for name in ("here", "there"))

    def dies(*_: Any) -> None:
        raise OSError(None, "the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with pytest.raises(FileError, match="the power is gone"):
            write(here.folder / NAMES[1], "weights")
    assert of_folder(here.folder) == {}
    for each in (here, there):
        each.refresh()
        assert of_folder(each.folder) == of_bucket(place) == {NAMES[1]: "weights"}


def test_a_home_that_is_given_a_bucket_puts_there_what_it_has(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    own = {"image_pool.arrow": "a", "embedding_store/0123/1.features": "f"}
    theirs = {name: name for name in NAMES}
    for name, text in (own | theirs).items():
        write(folder / name, text)
    here = machine(folder, place)
    assert of_bucket(place) == theirs
    assert of_folder(folder) == own | theirs
    there = machine(tmp_path / "there", place)
    assert of_folder(there.folder) == theirs
    # What is for one machine alone stays there, whoever writes it.
    write(folder / "image_pool.arrow", "anew")
    delete_file(there.folder / "image_pool.arrow")
    for each in (here, there):
        each.refresh()
    assert of_bucket(place) == of_folder(there.folder) == theirs


def test_what_is_put_back_by_hand_is_everybodys_and_what_others_have_deleted_is_not(
    place: Place, tmp_path: Path
) -> None:
    here, there = (machine(tmp_path / name, place) for name in ("here", "there"))
    write(here.folder / NAMES[1], "weights")
    write(here.folder / NAMES[2], "{}")
    there.refresh()
    # As it was before somebody wrote it anew, and somebody else deleted it.
    write(here.folder / NAMES[1], "weights anew")
    delete_file(here.folder / NAMES[1])
    there.refresh()
    assert of_bucket(place) == of_folder(there.folder) == {NAMES[2]: "{}"}
    # By hand, minutes later.
    (there.folder / NAMES[1]).write_text("weights")
    os.utime(there.folder / NAMES[1], (later := time.time() + 60, later))
    (there.folder / "checkpoint" / "r0000.pinned").write_text("mine")
    there.refresh()
    here.refresh()
    expected = {NAMES[1]: "weights", NAMES[2]: "{}", "checkpoint/r0000.pinned": "mine"}
    assert of_bucket(place) == of_folder(here.folder) == of_folder(there.folder) == expected


def test_a_bucket_is_that_of_one_ledger(place: Place, in_a_folder: Path) -> None:
    def deployment(home: str, ledger: str) -> Deployment:
        settings = load_settings(
            home=in_a_folder / home,
            images=in_a_folder,
            artifacts=place.url,
            database_url=f"sqlite:///{in_a_folder / ledger}.sqlite3",
        )
        return Deployment(settings)

    first = deployment("one", "ours")
    assert first.artifacts.evaluations.parent == in_a_folder / "one" / "artifacts"
    identity = first.ledger.reserve_project("al_pipeline", "http://127.0.0.1")
    first.artifacts.own(identity)
    write(first.artifacts.image_pool, "pool")
    assert deployment("another home", "ours").artifacts.image_pool.read_text() == "pool"
    for ledger in ("empty", "of other work"):
        other = deployment(ledger, ledger)
        if ledger != "empty":
            other.ledger.reserve_project("al_pipeline", "http://127.0.0.1")
        with pytest.raises(InputError, match=f"rounds of another ledger.*{identity}.*AL_DATABASE_URL"):
            _ = other.artifacts
        # Neither before a look, nor by a command that has no deployment, nor by what reads the values of assets.
        with pytest.raises(InputError, match="rounds of another ledger"):
            Artifacts.of(other.settings)
        with pytest.raises(InputError, match="rounds of another ledger"):
            look(other.settings)
        with pytest.raises(InputError, match="rounds of another ledger"):
            Artifacts.unread(other.settings).own("theirs")
        assert not (in_a_folder / ledger / "artifacts").exists()
    assert first.artifacts.fresh()


def test_moving_in_goes_on_after_whatever_has_ended_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        write(tmp_path / "artifacts" / name, name)
    real, calls = Place.put, list[str]()

    def put(self: Place, key: str, data: bytes, *, create: bool = False) -> Any:
        calls.append(key)
        if len(calls) > 2:
            raise PlaceError("away")
        return real(self, key, data, create=create)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "put", put)
        with pytest.raises(PlaceError, match="away"):
            machine(tmp_path / "artifacts", place)
    assert 0 < len(of_bucket(place)) < len(NAMES)
    machine(tmp_path / "artifacts", place)
    assert of_bucket(place) == {name: name for name in NAMES} == of_folder(tmp_path / "artifacts")


def test_what_is_not_of_one_deployment_is_told_and_nothing_is_changed(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "home" / "artifacts" / NAMES[0], "of another")
    machine(tmp_path / "first", place)
    write(tmp_path / "first" / NAMES[0], "ours")
    with pytest.raises(InputError, match=r"artifacts of its own, such as .image_pool\.parquet.*Move the folder away"):
        machine(tmp_path / "home" / "artifacts", place)
    assert of_folder(tmp_path / "home" / "artifacts") == {NAMES[0]: "of another"}
    assert of_bucket(place) == {NAMES[0]: "ours"}
    # A bucket of pictures.
    full = Place(f"memory://{uuid4()}/photos")
    full.put("cat/1.jpg", b"a cat")
    with pytest.raises(InputError, match=r"holds something else, such as .cat/1\.jpg.: name an empty place"):
        machine(tmp_path / "new", full)
    assert of_bucket(full) == {"cat/1.jpg": "a cat"}
    assert of_folder(tmp_path / "new") == {}


def test_a_bucket_that_was_emptied_takes_nothing_away_here(place: Place, tmp_path: Path) -> None:
    here = machine(tmp_path / "here", place)
    write(here.folder / NAMES[0], "ours")
    for key in (NAMES[0], MARK):
        place.delete(key)
    with pytest.raises(InputError, match=f"has lost what rounds have written.*delete .*{COPY_OF}"):
        here.refresh()
    assert of_folder(here.folder) == {NAMES[0]: "ours"}
    (here.folder / COPY_OF).unlink()
    here.refresh()
    assert of_bucket(place) == {NAMES[0]: "ours"}


def test_another_bucket_is_filled_from_the_copy_of_the_first(place: Place, tmp_path: Path) -> None:
    here = machine(tmp_path / "here", place)
    for name in NAMES[:2]:
        write(here.folder / name, "ours")
    moved = Place(f"memory://{uuid4()}/moved")
    machine(tmp_path / "there", place)
    # Nobody has read the network there.
    with pytest.raises(InputError, match=r"lacks the content of networks, such as .checkpoint/r0000\.safetensors"):
        machine(tmp_path / "there", moved)
    assert moved.entries() == []
    machine(tmp_path / "here", moved)
    assert of_bucket(moved) == dict.fromkeys(NAMES[:2], "ours")


def test_one_of_many_machines_has_a_claim_until_it_is_given_back_or_stale(place: Place, tmp_path: Path) -> None:
    machines = [machine(tmp_path / str(i), place) for i in range(8)]

    def take(i: int) -> Path | None:
        machines[i].refresh()
        return Claims(machines[i].folder / "claims").take("r0001-attempt-1", str(i))

    def taken() -> tuple[int, Path]:
        with ThreadPoolExecutor(8) as pool:
            [(has, claim)] = [(i, claim) for i, claim in enumerate(pool.map(take, range(8))) if claim is not None]
        return has, claim

    has, claim = taken()
    assert take(has) == claim
    assert [take(i) for i in range(8) if i != has] == [None] * 7
    Claims.give_back(claim)
    has, claim = taken()
    # Its holder was killed: the time of what is in the bucket counts, not that of a copy.
    for one in machines:
        one.refresh()
        for path in one.folder.glob("claims/*"):
            then = path.stat().st_mtime_ns - int((STALE + 1) * 10**9)
            os.utime(path, ns=(then, then))
    assert taken()[1] != claim


def test_a_file_that_is_made_by_one_alone_is_made_here_and_there(place: Place, tmp_path: Path) -> None:
    here, there = (machine(tmp_path / name, place) for name in ("here", "there"))
    assert create_file(here.folder / "claims/a.1", "here")
    assert not create_file(there.folder / "claims/a.1", "there")
    assert not create_file(here.folder / "claims/a.1", "again")
    # Who did not make it sees at once who did.
    assert of_bucket(place) == of_folder(here.folder) == of_folder(there.folder) == {"claims/a.1": "here"}


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_artifacts_of_the_settings_are_as_the_bucket_has_them(place: Place, in_a_folder: Path) -> None:
    homes = [load_settings(home=in_a_folder / name, artifacts=place.url) for name in ("one", "two")]
    write(Artifacts.of(homes[0]).image_pool, "pool")
    assert Artifacts.of(homes[1]).image_pool.read_text() == "pool"
    assert homes[0].embedding_store == f"{place.url}/embedding_store"
    # Those of a home without a bucket are no other's.
    alone = load_settings(home=in_a_folder / "alone")
    write(Artifacts.of(alone).image_pool, "its own")
    assert of_bucket(place) == {"image_pool.parquet": "pool"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"artifacts": "s3://shown/a", "published": "s3://shown/b"}, "in the bucket of published s3://shown/b"),
        ({"artifacts": "s3://b/photos/a", "images": "s3://b/photos"}, "lie in each other"),
        ({"artifacts": "s3://b", "images": "s3://b/photos"}, "lie in each other"),
        ({"artifacts": "s3://b/photos", "images": "s3://b/photos"}, "lie in each other"),
        ({"artifacts": "folder"}, "no address of a bucket"),
        ({"artifacts": "s3://KEY:hidden@b/a"}, "leave it out"),
    ],
)
def test_where_artifacts_cannot_lie_is_said_before_anything_starts(
    given: dict[str, str], told: str, in_a_folder: Path
) -> None:
    with pytest.raises(InputError, match=told) as error:
        load_settings(home=in_a_folder / "home", **given)
    assert "hidden" not in str(error.value)
    load_settings(home=in_a_folder / "home", artifacts="s3://b/photos-of-rounds", images="s3://b/photos")
