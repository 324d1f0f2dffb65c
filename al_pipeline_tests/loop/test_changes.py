"""A folder that is away or hangs holds nobody up, and is never taken for an empty one."""

import threading
from pathlib import Path

import pytest
from PIL import Image

from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import InputError
from al_pipeline.loop.changes import (
    AwayError,
    Watch,
    is_older,
    is_submitted_otherwise,
    look,
    published_places,
    was_moved,
)
from al_pipeline.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose 24 images are scanned."""
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1 + number, 8)).save(path)
    loaded = load_settings(home=tmp_path / "home", images=tmp_path / "photos")
    loaded.artifact_folder.mkdir(parents=True)
    scan(tmp_path / "photos").to_parquet(loaded.artifact_folder / "image_pool.parquet")
    return loaded


def remove(folder: Path, count: int) -> None:
    for path in sorted(folder.rglob("*.png"))[:count]:
        path.unlink()


def test_what_is_as_it_was_scanned_is_no_change(settings: Settings) -> None:
    changes = look(settings)
    assert changes is not None
    assert not changes


def test_before_the_first_scan_there_is_nothing_to_compare_with(settings: Settings) -> None:
    (settings.artifact_folder / "image_pool.parquet").unlink()
    assert look(settings) is None


@pytest.mark.parametrize(("gone", "away"), [(12, False), (13, True), (23, True)])
def test_an_empty_place_where_a_share_was_is_refused(settings: Settings, gone: int, away: bool) -> None:
    assert isinstance(settings.images, Path)
    remove(settings.images, gone)
    if away:
        with pytest.raises(AwayError, match=rf"{gone} of the 24 files .*AL_MAX_GONE_SHARE"):
            look(settings)
    else:
        changes = look(settings)
        assert changes is not None
        assert changes.went == gone


def test_a_place_without_any_image_is_refused_too(settings: Settings) -> None:
    assert isinstance(settings.images, Path)
    remove(settings.images, 24)
    with pytest.raises(InputError, match="holds no images"):
        look(settings)


def test_files_that_lie_in_other_folders_now_are_not_away(settings: Settings) -> None:
    assert isinstance(settings.images, Path)
    (settings.images / "2023").mkdir()
    for name in ("class0", "class1"):
        (settings.images / name).rename(settings.images / "2023" / name)
    changes = look(settings)
    assert changes is not None
    assert (changes.came, changes.went) == (24, 24)


def test_a_folder_that_is_not_there_is_named_with_the_remedy(settings: Settings) -> None:
    assert isinstance(settings.images, Path)
    settings.images.rename(settings.images.with_name("moved"))
    with pytest.raises(AwayError, match=r"photos .*al up --images"):
        look(settings)
    with pytest.raises(InputError, match="No folder of images is set"):
        look(load_settings(home=settings.home))


def test_work_that_hangs_is_left_alone_and_its_result_taken_later() -> None:
    released, calls = threading.Event(), []

    def work() -> int:
        calls.append(1)
        released.wait(60)
        return len(calls)

    watch = Watch(work)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            watch.result(0.01)
    released.set()
    # The same work as of the first call; then it is done anew.
    assert watch.result(60) == 1
    assert watch.result(60) == 2


def test_an_error_of_the_work_is_that_of_who_asks() -> None:
    def work() -> None:
        raise AwayError("not mounted")

    watch = Watch(work)
    for _ in range(2):
        with pytest.raises(AwayError, match="not mounted"):
            watch.result(60)


def test_a_home_that_was_moved_is_known_by_what_label_studio_was_shown(settings: Settings, tmp_path: Path) -> None:
    assert not was_moved(settings)
    file = settings.artifact_folder / "labeling_project.json"
    file.write_text('{"project_id": 1}')
    assert was_moved(settings)
    file.write_text(f'{{"project_id": 1, "images": "{settings.published_images}"}}')
    assert not was_moved(settings)
    settings.home.rename(tmp_path / "new home")
    assert was_moved(load_settings(home=tmp_path / "new home", images=settings.images))


def test_a_bucket_is_a_place_more_and_alone_where_label_studio_sees_no_folder(settings: Settings) -> None:
    folder, bucket = str(settings.published_images), "s3://shown/x"
    file = settings.artifact_folder / "labeling_project.json"
    file.write_text(f'{{"project_id": 1, "images": "{folder}"}}')

    def places(**more: str) -> list[str]:
        given = load_settings(home=settings.home, images=settings.images, **more)
        assert was_moved(given) == (published_places(given) != [folder])
        return published_places(given)

    assert places() == places(label_studio_url="http://studio") == [folder]
    assert places(published=bucket) == [folder, bucket]
    assert places(published=bucket, label_studio_url="http://studio") == [bucket]
    seen = {"label_studio_url": "http://studio", "label_studio_images": "/seen"}
    assert places(published=bucket, **seen) == ["/seen", bucket]


def test_other_keys_that_submit_are_known_by_what_the_project_was_made_for(settings: Settings) -> None:
    assert not is_submitted_otherwise(settings)
    file = settings.artifact_folder / "labeling_project.json"
    file.write_text('{"project_id": 1}')
    assert is_submitted_otherwise(settings)
    assert not is_submitted_otherwise(settings.model_copy(update={"submit": "ctrl+enter"}))
    file.write_text('{"project_id": 1, "submit": "enter"}')
    assert not is_submitted_otherwise(settings)
    assert is_submitted_otherwise(settings.model_copy(update={"submit": "key"}))


def test_a_scan_by_an_older_version_is_known_by_what_it_lacks(settings: Settings) -> None:
    path = settings.artifact_folder / "image_pool.parquet"
    # What `scan` returns has no groups yet.
    assert is_older(settings)
    assert isinstance(settings.images, Path)
    scan(settings.images).assign(group=None).to_parquet(path)
    assert not is_older(settings)
    path.unlink()
    assert not is_older(settings)
