"""What a scan found is told in counts, whatever the files are called and however old the manifest is."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.groups import assign
from al_pipeline.core.data.oddities import LONG, MOST_IN_GROUP, MOST_ROWS, oddities
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.report import MOST_REASONS, UNLABELED, Report, describe
from al_pipeline.core.evaluation.pool_figures import NAMED_CLASSES, class_counts, size_histogram
from al_pipeline_tests.core.data.dicom_kinds import GRAY12, dicom

ROOT = Path("/images").resolve()
COLUMNS = ("uri", "split", "reason", "label", "width", "height", "format", "bytes", "phash")


@dataclass(frozen=True)
class Listed:
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    sidecars: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def image(name: str, label: str | None = None, **other: object) -> dict[str, object]:
    row = dict.fromkeys(COLUMNS) | {"uri": f"{ROOT}/{name}", "split": "pool", "label": label, "format": "JPEG"}
    return row | {"width": 64, "height": 48, "bytes": 1000, "phash": "", "sample_id": name} | other


def aside(name: str, reason: str, **other: object) -> dict[str, object]:
    return image(name, split="excluded", reason=reason) | {"width": 0, "height": 0} | other


def told(*rows: dict[str, object], listed: Listed | None = None, rule: str = "near_duplicates") -> Report:
    return describe(pd.DataFrame(rows), ROOT, listed, rule=rule)


def facts(report: Report) -> dict[str, str]:
    return dict(report.facts())


def test_images_are_counted_by_class_and_split_the_largest_first() -> None:
    rows = [image(f"dog/{i}", "dog") for i in range(3)] + [image("cat/1", "cat"), image("a")]
    report = told(*rows, image("test/dog/1", "dog", split="holdout"), aside("dog/9", "empty file", label="dog"))
    assert list(report.counts.itertuples(name=None)) == [("dog", 3, 1, 4), ("cat", 1, 0, 1), (UNLABELED, 1, 0, 1)]
    assert (report.pool, report.holdout, report.excluded) == (5, 1, 1)
    assert report.classes == ["dog", "cat"]
    assert facts(report)["classes"] == "2, with 1 to 4 images"


def test_a_class_may_be_called_as_images_without_one() -> None:
    report = told(image("1", UNLABELED), image("2"), image("3"))
    assert report.classes == [UNLABELED]
    assert report.counts["pool"].tolist() == [1, 2]


@pytest.mark.parametrize("label", [None, "cat"])
def test_images_with_and_without_classes_can_be_told_alone(label: str | None) -> None:
    report = told(image("1", label))
    assert report.pool == 1
    assert ("classes" in facts(report)) is (label is not None)


def test_what_is_set_aside_is_counted_by_reason_whatever_differs_from_file_to_file() -> None:
    under = "the same image under the labels 'cat' and 'dog': keep it under one"
    report = told(
        image("1"),
        aside("2", f"duplicate of {ROOT}/1"),
        aside("3", f"duplicate of {ROOT}/1 (2)"),
        aside("4", "image file is truncated (12 bytes not processed)"),
        aside("5", "image file is truncated (7 bytes not processed)"),
        aside("6", "image file is truncated (9 bytes not processed)"),
        aside("7", "too large: 9000 × 9000 pixels, the limit is 64 megapixels"),
        aside("8", "too large: 9000 × 9001 pixels, the limit is 64 megapixels"),
        aside("9", under),
        aside("10", f"the same picture as {ROOT}/1 in other bytes"),
    )
    assert [tuple(each) for each in report.set_aside] == [
        ("image file is truncated", 3, "4 (12 bytes not processed)"),
        ("duplicate of another file", 2, "2 (1)"),
        ("too large: the limit is 64 megapixels", 2, "7 (9000 × 9000 pixels)"),
        ("the same image under several labels: keep it under one", 1, "9"),
        ("the same picture as another file in other bytes", 1, "10 (1)"),
    ]


def test_of_many_reasons_the_rare_ones_are_counted_together() -> None:
    rows = [aside(str(i), f"damaged: {'x' * (i + 1)}") for i in range(MOST_REASONS + 3)]
    *kept, rest = told(image("1"), *rows, *rows[:MOST_REASONS]).set_aside
    assert [each.files for each in kept] == [2] * MOST_REASONS
    assert tuple(rest) == ("other reasons", 3, str(MOST_REASONS))


def test_sizes_are_told_by_their_ends_and_the_usual_one() -> None:
    small, large = image("s", width=10, height=20), image("l", width=300, height=100)
    assert facts(told(small, image("s2", width=10, height=20)))["sizes"] == "all 10 × 20 px; 0.0 MB"
    assert facts(told(small, small, large))["sizes"] == "10 × 20 to 300 × 100 px, 2 of 10 × 20; 0.0 MB"
    many = [image(str(i), width=100 + i) for i in range(20)]
    assert facts(told(*many))["sizes"] == "100 × 48 to 119 × 48 px, 20 different ones; 0.0 MB"


def test_groups_are_told_and_a_manifest_without_them_tells_of_equal_looks() -> None:
    rows = [image(str(i), phash="ab" if i < 3 else str(i)) for i in range(5)]
    assert facts(told(*rows))["near-duplicates"] == "2 images with the look of another (perceptual hash)"
    grouped = [row | {"group": "0" if i < 3 else str(i)} for i, row in enumerate(rows)]
    found = facts(told(*grouped))
    assert found["groups"] == "3 groups by near_duplicates; 1 of several images, 3 in all, the largest of 3"
    assert "near-duplicates" not in found
    assert "near-duplicates" in facts(told(*grouped, rule="folder"))


def test_days_are_told_where_files_know_them() -> None:
    rows = [image("1", taken="2023-06-07T10:00:00"), image("2", taken=None), image("3", taken="2023-05-01T09:00:00.25")]
    assert facts(told(*rows))["taken"] == "2023-05-01 to 2023-06-07"
    assert facts(told(rows[0]))["taken"] == "2023-06-07"
    assert "taken" not in facts(told(rows[1]))


def test_what_is_left_out_is_named_the_most_first() -> None:
    listed = Listed(
        {"system folder": Counter({"a/@eaDir": 0}), "mask": Counter({f"truth/{i}": i for i in range(8)})},
        {".json": 2, ".xmp": 30},
        ["Is it so?"],
    )
    report = told(image("1"), listed=listed)
    assert [text for subject, text in report.facts() if subject == "left out"] == [
        "28 images, mask: truth/7, truth/6, truth/5, truth/4, truth/3 and 3 more",
        "system folder: a/@eaDir",
    ]
    assert facts(report)["other files"] == ".xmp 30, .json 2"
    assert report.remarks == ["Is it so?"]


def shown(*rows: dict[str, object]) -> dict[str, list[str]]:
    found = oddities(pd.DataFrame(rows), ROOT)
    return {each.title: [Path(uri).name for row in each.rows for uri in row.uris] for each in found}


def test_images_that_are_all_alike_in_kind_are_not_odd() -> None:
    assert shown(*(image(str(i), phash=str(i)) for i in range(20))) == {}


def test_odd_images_are_shown_by_kind_and_few_of_each() -> None:
    found = shown(
        *(image(f"n{i:02}", phash=f"n{i}") for i in range(40)),
        *(image(f"twin{i:02}", phash="same") for i in range(30)),
        image("icon", width=8, height=8),
        image("huge", width=4000, height=3000),
        image("strip", width=round(48 * LONG), height=48, format="GIF"),
        aside("copy", f"duplicate of {ROOT}/n00", width=64, height=48),
        aside("empty", "empty file"),
        aside("torn", "the same image under the labels 'cat' and 'dog': keep it under one", sample_id="x"),
        aside("torn too", "the same image under the labels 'cat' and 'dog': keep it under one", sample_id="x"),
    )
    assert found == {
        "The same image under several labels": ["torn"],
        "Images that look alike": [f"twin{i:02}" for i in range(MOST_IN_GROUP)],
        "Set aside, though they can be read": ["copy"],
        "The smallest images": ["icon"],
        "The largest images": ["huge", "strip"],
        "The longest images": ["strip"],
        "Rare formats": ["strip"],
    }
    icons = shown(*(image(str(i)) for i in range(50)), *(image(f"i{i}", width=9, height=9) for i in range(20)))
    assert len(icons["The smallest images"]) == MOST_ROWS


@pytest.mark.parametrize("classes", [1, NAMED_CLASSES, NAMED_CLASSES + 1, 1000])
def test_pictures_are_drawn_of_any_number_of_classes_and_any_size(classes: int) -> None:
    report = told(*(image(str(i), f"$class {i}_^", width=20 + i) for i in range(classes)))
    sizes = size_histogram(range(20, 20 + classes), [48] * classes)
    assert all(png.startswith(b"\x89PNG") and len(png) < 100_000 for png in (class_counts(report.counts), sizes))


def test_images_that_a_rule_gives_no_group_are_told(tmp_path: Path) -> None:
    table = tmp_path / "meta.csv"
    table.write_text("path,patient\na.jpg,1\nb.jpg,1\nc.jpg,\n")
    rows = [
        image(f"{name}.jpg", group=group)
        for name, group in zip("abcd", ["a.jpg", "a.jpg", "c.jpg", "d.jpg"], strict=True)
    ]
    rule = f"{table}:patient"
    assert told(*rows, rule=rule).remarks == [
        f"AL_GROUP {rule!r} gives 2 of the 4 images no group, for example c.jpg: each is taken for a group of its own"
    ]
    assert told(*rows[:2], rule=rule).remarks == told(*rows, rule="near_duplicates").remarks == []


def test_a_rule_that_puts_nothing_together_is_told() -> None:
    rows = [image(f"{name}.jpg", group=name) for name in "abc"]
    assert told(*rows, rule=r"(site_\d+)/").remarks == [
        r"AL_GROUP '(site_\\d+)/' puts no two of the 3 images together: does it match their paths?"
    ]
    assert told(*rows, rule="none").remarks == told(rows[0], rule=r"(site_\d+)/").remarks[1:] == []


def test_a_group_in_both_splits_is_told_and_left() -> None:
    rows = [
        image("a.jpg", group="x"),
        image("b.jpg", group="x", split="holdout"),
        image("c.jpg", group="y", split="holdout"),
    ]
    [remark] = told(*rows).remarks
    assert remark.startswith("1 of the 2 images in the test split share a group with images of the pool, as ")


@pytest.mark.parametrize(
    ("paths", "label", "rule"),
    [
        (["patient_01/series_1/{}.dcm", "patient_02/series_1/{}.dcm"], None, "folder"),
        (["train/cat/site_1/{}.jpg", "train/cat/site_2/{}.jpg"], "cat", "folder"),
        (["Site_001/CAM2/deer/{}.jpg", "Site_002/CAM1/deer/{}.jpg"], "deer", "^([^/]+)/"),
        (["train/Site_001/deer/{}.jpg", "train/Site_002/deer/{}.jpg"], "deer", "^[^/]+/([^/]+)/"),
        (["2023/05/{}.jpg", "2023/06/{}.jpg"], None, None),
        (["patient_01/{}.dcm"], "patient_01", None),
    ],
)
def test_folders_of_patients_and_sites_are_told_with_the_rule_that_holds_them_out_whole(
    paths: list[str], label: str | None, rule: str | None
) -> None:
    rows = [image(path.format(i), label, group=f"{path} {i}") for path in paths for i in range(2)]
    remarks = [remark for remark in told(*rows).remarks if "AL_GROUP" in remark]
    assert len(remarks) == (rule is not None)
    if rule is not None:
        assert f"AL_GROUP='{rule}'" in remarks[0]
        groups = assign(pd.DataFrame(rows), ROOT, rule)
        assert [groups[0] == groups[1], groups[0] == groups[2]] == [True, False]
        assert not [remark for remark in told(*rows, rule=rule).remarks if "look like" in remark]


def test_classes_of_one_size_and_pictures_that_are_next_to_nothing_are_told() -> None:
    report = told(*(image(f"{label}/{i}", label) for label in ("a", "b") for i in range(3)), image("p.gif", width=1))
    assert facts(report)["classes"] == "2, with 3 images each"
    assert report.remarks == [
        "1 image is less than 8 pixels wide or high, for example p.gif: if they are no pictures (a page's tracking "
        "pixels, separators), remove them"
    ]


def test_what_differs_from_file_to_file_stands_behind_the_example() -> None:
    cut = "cut off ({} % of the rows are whole): copy or download it again"
    rows = [aside("2", f"duplicate of {ROOT}/x/1"), aside("3", cut.format(43)), aside("4", cut.format(7))]
    large = aside("5", "too large: 9000 × 9001 pixels, the limit is 64 megapixels")
    assert {(each.files, each.reason, each.example) for each in told(image("x/1"), *rows, large).set_aside} == {
        (1, "duplicate of another file", "2 (x/1)"),
        (2, "cut off: copy or download it again", "3 (43 % of the rows are whole)"),
        (1, "too large: the limit is 64 megapixels", "5 (9000 × 9001 pixels)"),
    }


def test_pictures_under_other_names_are_found_by_their_first_bytes(tmp_path: Path) -> None:
    names = ["a.jpg", "image.jpg?w=300", "x.JPG_large", "IMG_1.jpg~", "plain"]
    for name in names:
        Image.new("RGB", (9, 9)).save(tmp_path / name, "JPEG")
    for name in ("notes.odd", "story"):
        (tmp_path / name).write_text("once upon a time")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a.jpg")
    report = describe(scan(tmp_path, workers=1), tmp_path, list_files(tmp_path))
    [remark] = [each for each in report.remarks if "by content" in each]
    assert remark == (
        "4 files are JPEG by content, and not by name, so that nobody reads them, for example IMG_1.jpg~: give them a "
        "suffix (.jpg)"
    )


def test_patients_whom_groups_tear_apart_are_told_by_their_files(tmp_path: Path) -> None:
    for number, patient in enumerate(["p1", "p1", "p2"]):
        (tmp_path / f"{number}.dcm").write_bytes(dicom(GRAY12 + number, PatientID=patient))
    rows = [image(f"{i}.dcm", uri=str(tmp_path / f"{i}.dcm"), format="DICOM", group=str(i)) for i in range(3)]
    [remark] = describe(pd.DataFrame(rows), tmp_path).remarks
    assert remark.startswith(
        "3 DICOM files that were asked name 2 patients, and the images of 1 of them lie in several"
    )
    together = [row | {"group": "0" if row["group"] == "1" else row["group"]} for row in rows]
    assert describe(pd.DataFrame(together), tmp_path).remarks == []
