"""A home as one file, unpacked and moved: all that it knows is there, or no home is."""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from PIL import Image

from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import InputError
from al_pipeline.core.files import FileError
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.loop import packing
from al_pipeline.loop.local import Servers, make_credentials
from al_pipeline.loop.packing import contents, pack
from al_pipeline.loop.relocating import move, unpack
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.ledger.builders import plan_rows


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home of one round with six images that lie in it, and a thing of each kind that a home has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = tmp_path / "home"
    for number in range(6):
        path = home / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number, 8)).save(path)
    loaded = load_settings(home=home, images=home / "photos", alert_url="https://example.org/s3cret", overlap=2)
    loaded.keep()
    manifest = scan(home / "photos")
    write(home / "artifacts" / "checkpoint" / "r0000.safetensors", "old")
    write(home / "artifacts" / "checkpoint" / "r0001.safetensors", "new")
    manifest.to_parquet(home / "artifacts" / "image_pool.parquet")
    ledger = Ledger(loaded.ledger_url)
    ledger.register(manifest)
    ledger.plan("r0000", plan_rows(0, 1).assign(sample_id=list(manifest["sample_id"][:2])))
    ledger.close()
    for name in ("dagster/history/runs.db", "dagster/history/runs/index.db", "labelstudio/label_studio.sqlite3"):
        write(home / name, "")
        with closing(sqlite3.connect(home / name)) as database:
            database.execute("CREATE TABLE things AS SELECT 42 AS thing")
            database.commit()
    places = {"event_log_storage": "history/runs", "run_storage": "history", "schedule_storage": "schedules"}
    storages = {kind: {"config": {"base_dir": str(home / "dagster" / place)}} for kind, place in places.items()}
    write(home / "dagster" / "dagster.yaml", json.dumps(storages))
    make_credentials(home / "labelstudio")
    for name in ("labelstudio/media/upload/a.txt", "logs/al.log", "cache/images/b", "dagster/storage/run/result"):
        write(home / name, name)
    # One image can be published again, of the other there is nothing else left.
    for sample in (manifest["sample_id"][0], "f" * 32):
        write(loaded.published_images / f"{sample}.png", sample)
    return loaded


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(file: Path) -> set[str]:
    with tarfile.open(file) as tar:
        return set(tar.getnames())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_traces(folder: Path) -> bool:
    """Say whether nothing half made lies beside a home."""
    return not [path for path in folder.iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_what_is_packed_is_there_again(settings: Settings, tmp_path: Path, name: str) -> None:
    home, new = settings.home, tmp_path / "elsewhere" / "new"
    packed = pack(settings, tmp_path / name)
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert no_traces(tmp_path)
    index = unpack(tmp_path / name, new)
    assert no_traces(new.parent)
    assert new.stat().st_mode & 0o077 == 0
    same = ("artifacts/checkpoint/r0000.safetensors", "artifacts/image_pool.parquet", "labelstudio/credentials.json")
    same += ("labelstudio/media/upload/a.txt", "dagster/storage/run/result", f"published/images/{'f' * 32}.png")
    for part in same:
        assert (new / part).read_bytes() == (home / part).read_bytes()
    for part in ("dagster/history/runs/index.db", "labelstudio/label_studio.sqlite3"):
        with closing(sqlite3.connect(new / part)) as database:
            assert database.execute("SELECT thing FROM things").fetchall() == [(42,)]
    assert verify(f"sqlite:///{new / 'ledger.sqlite3'}") == verify(settings.ledger_url)
    assert {"logs", "cache", "photos"}.isdisjoint(path.name for path in new.iterdir())
    assert len(list((new / "published" / "images").iterdir())) == 1
    assert index["files"] == packed.files
    assert index["counts"]["artifacts"] == 3


def test_the_new_home_speaks_of_its_own_place(settings: Settings, tmp_path: Path) -> None:
    pack(settings, tmp_path / "a.tar", images=True)
    unpack(tmp_path / "a.tar", tmp_path / "new")
    loaded = load_settings(home=tmp_path / "new")
    assert isinstance(loaded.images, Path)
    assert loaded.images == tmp_path / "new" / "images"
    assert files(loaded.images) == files(settings.home / "photos")
    assert loaded.overlap == 2
    for file in ("settings.toml", "dagster/dagster.yaml"):
        assert f"{settings.home}" not in (tmp_path / "new" / file).read_text()
    # Images that somebody has brought by other means count more.
    unpack(tmp_path / "a.tar", tmp_path / "third", images=settings.images)
    assert load_settings(home=tmp_path / "third").images == settings.images


def test_the_newest_checkpoint_may_be_all_of_them(settings: Settings, tmp_path: Path) -> None:
    pack(settings, tmp_path / "a.tar", newest_checkpoint=True)
    kept = {name for name in names(tmp_path / "a.tar") if "checkpoint" in name}
    assert kept == {"artifacts/checkpoint/r0001.safetensors"}


def test_what_is_not_in_it_is_told_and_no_secret_is_in_it(settings: Settings, tmp_path: Path) -> None:
    told = "\n".join(pack(settings, tmp_path / "a.tar").remarks)
    assert "set AL_ALERT_URL" in told
    assert f"copy {settings.images}" in told
    assert b"s3cret" not in (tmp_path / "a.tar").read_bytes()
    elsewhere = load_settings(home=settings.home, images="s3://photos/all", published="s3://shown/x")
    told = "\n".join(pack(elsewhere, tmp_path / "b.tar").remarks)
    assert "The images stay in s3://photos/all" in told
    assert "What people are shown stays in s3://shown/x" in told


def test_a_round_that_goes_on_between_two_copies_is_waited_for(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = iter(range(1, 100))

    def copy(source: Path, target: Path, *, rounds: int) -> None:
        shutil.copyfile(source, target)
        number = next(planned)
        if number <= rounds:
            ledger = Ledger(settings.ledger_url)
            ledger.plan(f"r{number:04d}", plan_rows())
            ledger.close()

    monkeypatch.setattr(packing, "copy_sqlite", lambda source, target: copy(source, target, rounds=2))
    pack(settings, tmp_path / "a.tar")
    unpack(tmp_path / "a.tar", tmp_path / "new")
    ledger = Ledger(f"sqlite:///{tmp_path / 'new' / 'ledger.sqlite3'}")
    assert ledger.rounds() == {"r0000", "r0001", "r0002"}
    ledger.close()
    monkeypatch.setattr(packing, "copy_sqlite", lambda source, target: copy(source, target, rounds=100))
    with pytest.raises(InputError, match="between two rounds"):
        pack(settings, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()
    assert no_traces(tmp_path)


def no_ledger(home: Path) -> None:
    (home / "ledger.sqlite3").unlink()


def no_history(home: Path) -> None:
    shutil.rmtree(home / "dagster")


@pytest.mark.parametrize(
    ("file", "break_it", "why"),
    [
        ("a.zip", None, "ends with .tar or .tar.gz"),
        ("home/a.tar", None, "lies in the home"),
        ("a.tar", no_ledger, "There is no ledger"),
        ("a.tar", no_history, "Dagster's history is not in"),
        ("a.tar", shutil.rmtree, "There is no home"),
    ],
)
def test_what_cannot_be_packed_is_refused(
    settings: Settings, tmp_path: Path, file: str, break_it: Callable[[Path], object] | None, why: str
) -> None:
    if break_it:
        break_it(settings.home)
    with pytest.raises(InputError, match=why):
        pack(settings, tmp_path / file)
    assert not (tmp_path / file).exists()


def test_images_that_are_not_there_cannot_go_along(settings: Settings, tmp_path: Path) -> None:
    shutil.rmtree(settings.home / "photos")
    with pytest.raises(InputError, match="pack without --images"):
        pack(settings, tmp_path / "a.tar", images=True)


def test_a_home_that_is_not_empty_is_never_written_into(settings: Settings, tmp_path: Path) -> None:
    pack(settings, tmp_path / "a.tar")
    before = files(settings.home)
    for act in (lambda: unpack(tmp_path / "a.tar", settings.home), lambda: move(settings, settings.home.parent)):
        with pytest.raises(InputError, match="is not empty"):
            act()
    assert files(settings.home) == before
    # An empty one is fine.
    (tmp_path / "new").mkdir()
    unpack(tmp_path / "a.tar", tmp_path / "new")


def archive(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b"" if link else b"data"


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("artifacts/../../outside"),
        member("/etc/outside"),
        member("bin/outside"),
        member("artifacts/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("artifacts/link", tarfile.SYMTYPE, "r0000"),
        member("artifacts/link", tarfile.LNKTYPE, "settings.toml"),
        member("artifacts/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda each: f"{each[0].name} {each[0].linkname}",
)
def test_what_pack_never_writes_is_not_unpacked(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    file = archive(folder / "a.tar", member("settings.toml"), bad)
    with pytest.raises(InputError, match="Nothing was unpacked"):
        unpack(file, folder / "new")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "folder", "a.tar"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = file.read_bytes()
    at = data.index(b"labelstudio/media/upload/a.txt", data.index(b"labelstudio/media/upload/a.txt") + 1)
    file.write_bytes(data[:at] + b"X" + data[at + 1 :])


def repack(file: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    with tarfile.open(file) as tar:
        held = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    change(held)
    archive(file, *((tarfile.TarInfo(name), data) for name, data in held.items()))


def another_format(held: dict[str, bytes]) -> None:
    held["home.json"] = json.dumps({"format": 2, "al_pipeline": "9.9"}).encode()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "damaged|cut off"),
        (flip, "1 files are not as they were packed.*a.txt"),
        (lambda file: file.write_bytes(b"no archive"), "no tar file"),
        (lambda file: repack(file, lambda held: held.pop("settings.toml")), "1 files.*settings.toml"),
        (lambda file: repack(file, lambda held: held.update({"artifacts/x": b""})), "1 files.*artifacts/x"),
        (lambda file: repack(file, lambda held: held.pop("home.json")), "cut off"),
        (lambda file: repack(file, another_format), "install al_pipeline 9.9"),
        (Path.unlink, "There is no archive"),
    ],
)
def test_a_damaged_archive_makes_no_home(
    settings: Settings, tmp_path: Path, damage: Callable[[Path], object], why: str
) -> None:
    pack(settings, tmp_path / "a.tar")
    damage(tmp_path / "a.tar")
    with pytest.raises(InputError, match=why):
        unpack(tmp_path / "a.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert no_traces(tmp_path)


def test_a_home_is_moved_whole_with_the_paths_in_it(settings: Settings, tmp_path: Path) -> None:
    before = files(settings.home)
    move(settings, tmp_path / "far" / "away")
    assert not settings.home.exists()
    assert no_traces(tmp_path)
    after = files(tmp_path / "far" / "away")
    mended = {"settings.toml", "dagster/dagster.yaml"}
    assert {name: data for name, data in after.items() if name not in mended} == {
        name: data for name, data in before.items() if name not in mended
    }
    assert load_settings(home=tmp_path / "far" / "away").images == tmp_path / "far" / "away" / "photos"
    for name in mended:
        assert str(settings.home).encode() not in after[name]


def test_what_ends_a_move_leaves_the_old_home_as_it_was(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, made = files(settings.home), []

    def full(source: str, target: str, *, follow_symlinks: bool) -> None:
        made.append(target)
        if len(made) > 5:
            raise OSError(28, "No space left on device")
        shutil.copyfile(source, target)

    # Another disk, and a full one.
    monkeypatch.setattr("al_pipeline.loop.relocating._link_or_copy", lambda a, b: full(a, b, follow_symlinks=False))
    with pytest.raises(FileError, match="No space left on device"):
        move(settings, tmp_path / "new")
    assert files(settings.home) == before
    assert not (tmp_path / "new").exists()
    assert no_traces(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from al_pipeline.loop import relocating
from al_pipeline.settings import load_settings

link, done = relocating._link_or_copy, []

def slow(source, target):
    if len(done) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(target)
    link(source, target)

relocating._link_or_copy = slow
relocating.move(load_settings(home=sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_move_that_is_killed_leaves_the_old_home_and_no_half_one(settings: Settings, tmp_path: Path) -> None:
    before = files(settings.home)
    killed = subprocess.run([sys.executable, "-c", KILLED, settings.home, tmp_path / "new"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert files(settings.home) == before
    assert not (tmp_path / "new").exists()
    # What it left is in nobody's way.
    assert not no_traces(tmp_path)
    move(settings, tmp_path / "new")
    assert files(tmp_path / "new").keys() == before.keys()


def test_a_home_that_runs_stays_where_it_is(settings: Settings, tmp_path: Path) -> None:
    urls = {"dagster_url": "http://127.0.0.1:1", "label_studio_url": "http://127.0.0.1:2"}
    Servers(pid=os.getpid(), started=psutil.Process().create_time(), **urls).write(settings)
    with pytest.raises(InputError, match="stop them"):
        move(settings, tmp_path / "new")
    # It may be packed.
    pack(settings, tmp_path / "a.tar")
    Servers(pid=os.getpid(), started=0.0, **urls).write(settings)
    with pytest.raises(InputError, match=r"in the home .* itself"):
        move(settings, settings.home / "inner")


def test_a_home_says_what_lies_in_it(settings: Settings) -> None:
    found = {part.name: part for part in contents(settings)}
    assert not found["photos"].packed
    assert found["photos"].files == 6
    assert found["ledger.sqlite3"].packed
    assert next(iter(found)) == max(found.values(), key=lambda part: part.bytes).name
