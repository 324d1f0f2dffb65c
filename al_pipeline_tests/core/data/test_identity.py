"""A picture is the same in other bytes: its id, and with it its label, follows the pixels."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.pool import scan
from al_pipeline_tests.core.data.jpegs import photo, save, tag

RATING, ORIENTATION = 0x4746, 274


@dataclass
class Known:
    """What a ledger knows after scans."""

    files: dict[str, str] = field(default_factory=dict)
    pixels: dict[str, str] = field(default_factory=dict)

    def of(self, manifest: pd.DataFrame) -> "Known":
        usable = manifest[manifest["split"] != "excluded"]
        for row in usable.itertuples():
            self.files[str(row.file_id)] = str(row.sample_id)
            self.pixels.setdefault(str(row.pixels), str(row.sample_id))
        return self


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "images" / "cat" / f"{number}.jpg", photo(number))
    return tmp_path / "images"


def ids(manifest: pd.DataFrame, root: Path) -> dict[str, str]:
    """Return the sample id of each usable file by its path."""
    usable = manifest[manifest["split"] != "excluded"]
    return {
        str(Path(uri).relative_to(root.resolve())): i for uri, i in zip(usable["uri"], usable["sample_id"], strict=True)
    }


def reasons(manifest: pd.DataFrame) -> dict[str, str]:
    aside = manifest[manifest["split"] == "excluded"]
    return {Path(uri).name: why for uri, why in zip(aside["uri"], aside["reason"], strict=True)}


def test_a_tag_that_is_written_changes_no_id_and_neither_does_moving_the_file(images: Path) -> None:
    first = scan(images)
    tag(images / "cat" / "1.jpg", {RATING: 4, ORIENTATION: 8})
    (images / "cat" / "1.jpg").rename(images / "cat" / "9.jpg")
    again = scan(images, pictures=Known().of(first))
    expected = ids(first, images)
    assert ids(again, images) == {
        "cat/0.jpg": expected["cat/0.jpg"],
        "cat/2.jpg": expected["cat/2.jpg"],
        "cat/9.jpg": expected["cat/1.jpg"],
    }
    changed = again[again["file_id"] != again["sample_id"]]
    assert [Path(uri).name for uri in changed["uri"]] == ["9.jpg"]


def test_without_a_ledger_files_of_one_picture_have_the_id_of_the_first_path(images: Path) -> None:
    data = (images / "cat" / "1.jpg").read_bytes()
    (images / "cat" / "0a.jpg").write_bytes(data)
    tag(images / "cat" / "0a.jpg", {RATING: 1})
    manifest = scan(images)
    kept = images.resolve() / "cat" / "0a.jpg"
    assert reasons(manifest) == {"1.jpg": f"the same picture as {kept} in other bytes"}
    row = manifest[manifest["uri"] == str(kept)].iloc[0]
    assert row["sample_id"] == row["file_id"]


def test_a_known_file_names_the_picture_even_if_it_is_not_the_first(images: Path) -> None:
    # Of a ledger of before pixels were known.
    known = Known(files=Known().of(scan(images)).files)
    (images / "cat" / "0a.jpg").write_bytes((images / "cat" / "1.jpg").read_bytes())
    tag(images / "cat" / "0a.jpg", {RATING: 1})
    manifest = scan(images, pictures=known)
    assert set(manifest["sample_id"]) == set(known.files.values())


def test_one_picture_in_other_bytes_under_two_labels_is_used_nowhere(images: Path) -> None:
    (images / "dog").mkdir()
    (images / "dog" / "1.jpg").write_bytes((images / "cat" / "1.jpg").read_bytes())
    tag(images / "dog" / "1.jpg", {RATING: 1})
    assert reasons(scan(images, max_excluded_share=1)) == {
        "1.jpg": "the same image under the labels 'cat' and 'dog': keep it under one"
    }


def test_one_picture_in_other_bytes_in_both_splits_is_the_holdouts(images: Path) -> None:
    save(images / "pool" / "cat" / "x.jpg", photo(7))
    (images / "test" / "cat").mkdir(parents=True)
    for number in range(3):
        (images / "cat" / f"{number}.jpg").rename(images / "test" / "cat" / f"{number}.jpg")
    (images / "cat").rmdir()
    (images / "pool" / "cat" / "1b.jpg").write_bytes((images / "test" / "cat" / "1.jpg").read_bytes())
    tag(images / "pool" / "cat" / "1b.jpg", {RATING: 1})
    kept = images.resolve() / "test" / "cat" / "1.jpg"
    assert reasons(scan(images)) == {"1b.jpg": f"also in the holdout, in other bytes: {kept}"}


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_a_picture_that_was_turned_in_its_place_is_the_same(images: Path, turn: Image.Transpose) -> None:
    first = scan(images)
    save(images / "cat" / "1.jpg", photo(1).transpose(turn), quality=90)
    again = scan(images, pictures=Known().of(first), before=first)
    assert ids(again, images) == ids(first, images)


def test_another_picture_in_the_place_of_a_known_one_is_new(images: Path) -> None:
    first = scan(images)
    save(images / "cat" / "1.jpg", photo(11))
    save(images / "cat" / "2.jpg", photo(2, (320, 200)))
    again = scan(images, pictures=Known().of(first), before=first)
    new = set(ids(again, images).values()) - set(ids(first, images).values())
    assert {ids(again, images)["cat/1.jpg"], ids(again, images)["cat/2.jpg"]} == new


def test_a_turned_copy_beside_the_original_is_a_picture_of_its_own(images: Path) -> None:
    first = scan(images)
    (images / "cat" / "1.jpg").rename(images / "cat" / "5.jpg")
    save(images / "cat" / "1.jpg", photo(1).transpose(Image.Transpose.ROTATE_90))
    again = scan(images, pictures=Known().of(first), before=first)
    assert ids(again, images)["cat/5.jpg"] == ids(first, images)["cat/1.jpg"]
    assert len(ids(again, images)) == 4
