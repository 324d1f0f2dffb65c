"""Images that are gone, replaced, unreadable or away for a while: who can be used, and why the others cannot."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from al_pipeline.core.data.places import Place
from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import ImageError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.labelstudio.images import publish
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.presence import DELETED, NEVER_SCANNED, REPLACED, Files, ImagesAwayError
from al_pipeline.loop.remarks import without_image
from al_pipeline.settings import load_settings
from al_pipeline_tests.ledger.builders import moment, plan_rows, said

NOBODY: Callable[[], Sequence[str]] = list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def deployment(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.chdir(tmp_path)
    return Deployment(load_settings(home=tmp_path / "home", images=folder, classes=["a", "b"]))


def scanned(folder: Path) -> pd.DataFrame:
    """Return the manifest, with what a file is known again by."""
    manifest = scan(folder)
    status = [Path(uri).stat() for uri in manifest["uri"]]
    return manifest.assign(mtime_ns=[each.st_mtime_ns for each in status], file_id=manifest["sample_id"])


def test_whose_file_lies_where_it_was_is_there(folder: Path) -> None:
    manifest = scanned(folder)
    ids = manifest["sample_id"].tolist()[::-1]
    found = Files(manifest).look(ids)
    assert (found.there, found.absent) == (ids, {})


def test_a_file_that_was_deleted_or_overwritten_is_told_with_its_name(folder: Path) -> None:
    manifest = scanned(folder)
    ids = manifest["sample_id"].tolist()
    (folder / "00.png").unlink()
    Image.new("RGB", (8, 8), "white").save(folder / "01.png")
    found = Files(manifest).look(ids)
    assert found.there == ids[2:]
    assert f"{folder / '00.png'}: {DELETED}" in found.absent[ids[0]]
    assert f"{folder / '01.png'}: {REPLACED}" in found.absent[ids[1]]
    assert found.sentence("labels").startswith("2 labels without an image that can be used: ")
    # What is wanted of them is stored: nobody looks.
    assert Files(manifest).look(ids, readable=ids).absent == {}


def test_a_file_that_was_touched_or_copied_back_is_the_same(folder: Path) -> None:
    manifest = scanned(folder)
    os.utime(folder / "00.png", (1, 1))
    assert Files(manifest).look(manifest["sample_id"]).absent == {}


def test_a_file_with_a_tag_written_into_it_is_the_same_picture(folder: Path) -> None:
    manifest, info = scan(folder), PngInfo()
    info.add_text("rating", "5")
    with Image.open(folder / "00.png") as image:
        image.save(folder / "00.png", pnginfo=info)
    assert Files(manifest).look(manifest["sample_id"]).absent == {}


def test_who_is_published_can_be_asked_about_without_the_file(folder: Path, deployment: Deployment) -> None:
    manifest = scanned(folder)
    first, second, third = manifest["sample_id"].tolist()[:3]
    publish(folder / "00.png", first, deployment.settings.published_images)
    (folder / "00.png").unlink()
    (folder / "01.png").unlink()
    found = Files(manifest, deployment).askable([third, second, first])
    assert (found.there, list(found.absent)) == ([third, first], [second])


def test_who_is_published_in_a_bucket_alone_can_be_asked_about_too(folder: Path, deployment: Deployment) -> None:
    manifest, place = scanned(folder), Place(f"memory://{uuid4()}/shown")
    first, second, third = manifest["sample_id"].tolist()[:3]
    place.put(f"{first}.png", (folder / "00.png").read_bytes())
    (folder / "00.png").unlink()
    (folder / "01.png").unlink()
    elsewhere = Deployment(deployment.settings.model_copy(update={"published": place}))
    found = Files(manifest, elsewhere).askable([third, second, first])
    assert (found.there, list(found.absent)) == ([third, first], [second])


def test_labels_whose_images_are_gone_are_told_with_their_places(folder: Path, deployment: Deployment) -> None:
    ledger, manifest = deployment.ledger, scanned(folder)
    ledger.register(manifest)
    sample = manifest["sample_id"].iloc[0]
    ledger.plan("r0000", plan_rows(0).assign(sample_id=sample))
    ledger.append([said(1, sample, "a")], moment(1))
    assert without_image(ledger, ledger.gone(), 1) == ()
    ledger.register(manifest[2:])
    [told] = without_image(ledger, ledger.gone(), 1)
    assert told.startswith(f"1 label is unused because its image is gone: {folder / '00.png'}; it counts again")
    aside = manifest.copy()
    aside.loc[0, ["split", "reason"]] = "excluded", "the same image under two labels"
    ledger.register(manifest)
    ledger.register(aside)
    [told] = without_image(ledger, ledger.gone(), 1)
    assert told == (
        f"1 label is unused because its image cannot be used: {folder / '00.png'} (the same image under two labels)"
    )


def test_labels_of_the_holdout_whose_images_are_gone_are_told_too(folder: Path, deployment: Deployment) -> None:
    ledger, manifest = deployment.ledger, scanned(folder)
    ledger.register(manifest)
    ledger.change_classes("declare", {}, ClassSet(("a", "b")))
    asked, blind, tested = manifest["sample_id"][:3]
    rows = [plan_rows(0), plan_rows(1, 2, purpose="holdout")]
    ledger.plan("r0000", pd.concat(rows, ignore_index=True).assign(sample_id=[asked, blind, tested]))
    ledger.append([said(number, sample, "a") for number, sample in enumerate([asked, blind, tested], 1)], moment(1))
    ledger.register(manifest[1:])
    [told] = without_image(ledger, ledger.gone(), 1)
    assert told.startswith("1 label is unused because its image is gone")
    ledger.register(manifest[3:])
    [told] = without_image(ledger, ledger.gone(), 1)
    places = ", ".join(str(folder / f"0{number}.png") for number in range(3))
    assert told.startswith(f"3 labels are unused (2 of the holdout) because their images are gone: {places}; they")


def test_a_manifest_of_an_older_version_has_no_times(folder: Path) -> None:
    manifest = scan(folder)[["sample_id", "uri", "split", "reason", "label", "bytes"]]
    (folder / "00.png").unlink()
    assert list(Files(manifest).look(manifest["sample_id"]).absent) == [content_or(manifest, 0)]


def content_or(manifest: pd.DataFrame, row: int) -> str:
    return str(manifest["sample_id"].iloc[row])


def test_who_is_not_in_the_manifest_has_the_reason_of_the_scan(folder: Path, deployment: Deployment) -> None:
    before = scanned(folder)
    deployment.ledger.register(before)
    gone, aside = content_or(before, 0), content_or(before, 1)
    after = before.drop(index=0).reset_index(drop=True)
    after.loc[after["sample_id"] == aside, ["split", "reason"]] = "excluded", "the same image under two labels"
    deployment.ledger.register(after)
    absent = Files(after, deployment).known([gone, aside, "f" * 32]).absent
    assert str(folder / "00.png") in absent[gone]
    assert "gone since" in absent[gone]
    assert absent[aside] == f"{folder / '01.png'}: the same image under two labels"
    assert NEVER_SCANNED in absent["f" * 32]


def test_a_file_that_vanishes_while_it_is_read_is_left_out_and_the_others_are_read_anew(folder: Path) -> None:
    manifest = scanned(folder)
    ids, asked = manifest["sample_id"].tolist(), list[Sequence[str]]()

    def work(there: Sequence[str]) -> int:
        asked.append(there)
        if len(asked) == 1:
            (folder / "03.png").unlink()
            raise ImageError("gone")
        return len(there)

    done, found = Files(manifest).work(ids, work, stored=NOBODY)
    assert (done, [len(each) for each in asked]) == (11, [12, 11])
    assert list(found.absent) == [ids[3]]


def test_a_file_that_is_damaged_without_a_trace_is_found_by_reading_it(folder: Path) -> None:
    manifest = scanned(folder)
    ids, path = manifest["sample_id"].tolist(), folder / "05.png"
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def work(there: Sequence[str]) -> Sequence[str]:
        if ids[5] in there:
            raise ImageError("damaged")
        return there

    done, found = Files(manifest).work(ids, work, stored=NOBODY)
    assert done == ids[:5] + ids[6:]
    assert str(path) in found.absent[ids[5]]


def test_an_error_that_no_file_explains_is_raised(folder: Path) -> None:
    def work(there: Sequence[str]) -> None:
        raise ImageError("the disk")

    with pytest.raises(ImageError, match="the disk"):
        Files(scanned(folder)).work(scanned(folder)["sample_id"].tolist(), work, stored=NOBODY)


def test_a_folder_that_is_away_is_an_error_and_no_loss(folder: Path, deployment: Deployment) -> None:
    manifest = scanned(folder)
    files, ids = Files(manifest, deployment), manifest["sample_id"].tolist()
    away = folder.rename(folder.parent / "away")
    for _ in range(2):
        with pytest.raises(ImagesAwayError, match="mounted"):
            files.look(ids)
        # One is enough where the folder is away; a mount point is empty then.
        with pytest.raises(ImagesAwayError, match="1 of 1 images"):
            files.look(ids[:1])
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    away.rename(folder)
    assert files.look(ids).absent == {}
    for path in list(folder.iterdir())[:7]:
        path.unlink()
    with pytest.raises(ImagesAwayError, match="7 of 12 images cannot be read"):
        files.look(ids)
