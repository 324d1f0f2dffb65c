"""Groups by every rule: what belongs together has one name, and keeps it when images come."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.groups import LARGEST_GROUP, assign, check_rule, torn_groups, with_twins
from al_pipeline.core.errors import InputError
from al_pipeline_tests.core.data.scenes import ROOT, frame, manifest, scene, seen

PATHS = [
    "train/cat/siteA/1.jpg",
    "train/cat/siteA/x/2.jpg",
    "train/dog/siteA/3.jpg",
    "train/dog/4.jpg",
    "test/cat/b/5.jpg",
]
LABELS: list[str | None] = ["cat", "cat", "dog", "dog", "cat"]


def together(groups: pd.Series) -> list[list[int]]:
    """Return the positions of the samples of each group."""
    return sorted(rows.tolist() for rows in groups.reset_index(drop=True).groupby(groups.to_numpy()).groups.values())


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("none", [[0], [1], [2], [3], [4]]),
        ("folder", [[0, 1, 2], [3], [4]]),
        ("parent", [[0, 2], [1], [3], [4]]),
        (r"(cat|dog)/", [[0, 1, 4], [2, 3]]),
        (r"(site\w)", [[0, 1, 2], [3], [4]]),
        (r"^(t)rain|test", [[0, 1, 2, 3], [4]]),
    ],
)
def test_a_rule_goes_by_the_path_below_the_folder_of_images(rule: str, expected: list[list[int]]) -> None:
    rows = manifest(PATHS, LABELS)
    check_rule(rule)
    groups = assign(rows, Path(ROOT), rule)
    assert together(groups) == expected
    # A group is named by its first sample, and one that is alone by itself.
    assert groups.tolist() == [rows["sample_id"][min(part)] for row in range(5) for part in expected if row in part]


def test_folders_of_months_and_cameras_are_groups_where_there_are_no_classes() -> None:
    rows = manifest(["2023/05/1.jpg", "2023/06/2.jpg", "2024/05/3.jpg", "4.jpg"])
    assert together(assign(rows, Path(ROOT), "folder")) == [[0, 1], [2], [3]]
    assert together(assign(rows, Path(ROOT), "parent")) == [[0], [1], [2], [3]]


def test_excluded_files_have_no_group() -> None:
    rows = manifest(PATHS, LABELS)
    rows.loc[0, ["split", "sample_id"]] = "excluded", None
    groups = assign(rows, Path(ROOT), "folder")
    assert groups[0] is None
    assert groups[1] == groups[2] == rows["sample_id"][1]


def test_a_column_of_a_table_names_the_groups(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    text = f"\ufeffpath,patient\n{PATHS[0]},p1\n{ROOT}/{PATHS[2]},p1\n{PATHS[3]}, \n{PATHS[4]},p2\ngone.jpg,p9\n"
    table.write_text(text, encoding="utf-8")
    rule = f"{table}:patient"
    check_rule(rule)
    # What has no patient, or is not in the table, is alone.
    assert together(assign(manifest(PATHS, LABELS), Path(ROOT), rule)) == [[0, 2], [1], [3], [4]]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("near-duplicates", "without a group: put what names the group into brackets"),
        ("(site", "no regular expression"),
        ("nowhere.csv:patient", "nowhere.csv cannot be read .No such file"),
        ("TABLE:site", "has no column 'site', only 'path', 'patient'"),
        ("EMPTY:patient", "is no table"),
    ],
)
def test_what_is_no_rule_is_refused_before_any_image_is_read(rule: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,patient\na.jpg,1\n")
    (tmp_path / "empty.csv").write_text("")
    rule = rule.replace("TABLE", f"{tmp_path}/table.csv").replace("EMPTY", f"{tmp_path}/empty.csv")
    with pytest.raises(InputError, match=f"AL_GROUP .*{message}"):
        check_rule(rule)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{PATHS[0]},p1\n{PATHS[0]},p2\n", "two groups, 'p1' in line 2 and 'p2' in line 3: give it one"),
        ("cat/1.jpg,p1\n", f"no image is in its column path: the first one there is 'cat/1.jpg', .* '{PATHS[0]}'"),
    ],
)
def test_a_table_that_contradicts_itself_or_fits_no_image_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,patient\n" + text)
    with pytest.raises(InputError, match=message):
        assign(manifest(PATHS, LABELS), Path(ROOT), f"{tmp_path}/table.csv:patient")


def test_look_alikes_are_groups_and_keep_their_names_when_images_come() -> None:
    scenes = [frame(seed, number) for seed in range(20) for number in range(3)]
    every = seen(scenes)
    groups = assign(every, Path(ROOT), "near_duplicates")
    assert together(groups) == [[row, row + 1, row + 2] for row in range(0, 60, 3)]
    # The first frames of half the scenes come last, with smaller ids than all that were there.
    early = every[np.arange(60) >= 30].reset_index(drop=True)
    early = pd.concat([early, every[np.arange(60) % 3 > 0].head(20)], ignore_index=True)
    before = assign(early, Path(ROOT), "near_duplicates")
    known = dict(zip(early["sample_id"], before, strict=True))
    after = assign(every, Path(ROOT), "near_duplicates", known)
    assert together(after) == together(groups)
    by_id = dict(zip(every["sample_id"], after, strict=True))
    assert {sample: by_id[sample] for sample in known} == known
    # Without an image that is new nothing is compared, and nothing changes.
    again = assign(every.drop(columns="thumbnail"), Path(ROOT), "near_duplicates", by_id)
    assert again.tolist() == after.tolist()


def test_a_name_outlives_the_image_that_gave_it_and_a_new_rule_cuts_a_group() -> None:
    rows = manifest(["a/1.jpg", "a/2.jpg", "b/3.jpg", "c/4.jpg"])
    ids = rows["sample_id"].tolist()
    known = {ids[0]: "0" * 31 + "x", ids[1]: "0" * 31 + "x", ids[2]: ids[2], ids[3]: ids[2]}
    groups = assign(rows, Path(ROOT), "folder", known)
    # The image that gave the first name is gone; of the group that is cut, the part with its first image keeps it.
    assert groups.tolist() == ["0" * 31 + "x", "0" * 31 + "x", ids[2], ids[3]]


def test_frames_of_one_moment_have_to_look_somewhat_alike_only() -> None:
    frames = [Image.blend(scene(3), scene(50 + number), 0.47) for number in range(3)]
    others = [scene(seed) for seed in range(100, 140)]
    noon, taken = "2024-05-01T12:00:00", ["2024-05-01T12:00:00", "2024-05-01T12:00:01.500", "2024-05-01T12:00:03.20"]
    rows = seen([*frames, *others]).assign(taken=[*taken, *([None] * 39), noon])
    assert [0, 1, 2] in together(assign(rows, Path(ROOT), "near_duplicates"))
    apart = rows.assign(taken=[noon, "2024-05-01T12:00:09", None, *rows["taken"][3:]])
    assert all(len(part) == 1 for part in together(assign(apart, Path(ROOT), "near_duplicates")))


def test_a_chain_of_look_alikes_is_no_group_of_everything() -> None:
    strip = scene(3).resize((1200, 176))
    chain = [strip.crop((left, 0, left + 160, 160)) for left in range(0, 900, 15)]
    parts = together(assign(seen([*chain, *(scene(seed) for seed in range(100, 300))]), Path(ROOT), "near_duplicates"))
    assert 1 < max(map(len, parts)) <= LARGEST_GROUP


def test_a_manifest_of_an_earlier_version_has_no_look_alikes() -> None:
    rows = seen([frame(1, number) for number in range(3)]).drop(columns="thumbnail")
    assert together(assign(rows, Path(ROOT), "near_duplicates")) == [[0], [1], [2]]


def test_twins_are_of_the_same_group_or_look_alike() -> None:
    rows = seen([frame(seed, number) for seed in range(30) for number in range(2)])
    ids = rows["sample_id"].tolist()
    rows["group"] = ids
    rows.loc[59, "group"] = ids[0]
    # One of its group, one that looks alike, and one that looks like another of the holdout alone.
    assert with_twins(rows, [ids[59], ids[3], ids[4], ids[5]], [ids[0], ids[2], ids[20], "gone"]) == {ids[59], ids[3]}
    assert with_twins(rows.drop(columns="thumbnail"), [ids[59], ids[3]], [ids[0], ids[2]]) == {ids[59]}
    assert with_twins(rows, [], [ids[0]]) == with_twins(rows, [ids[0]], []) == set()


def test_a_group_in_both_splits_is_told() -> None:
    rows = manifest(["pool/1.jpg", "pool/2.jpg", "test/3.jpg", "test/4.jpg"], group=["a", "b", "b", "c"])
    rows["split"] = ["pool", "pool", "holdout", "holdout"]
    assert torn_groups(rows) == [f"{ROOT}/test/3.jpg"]
    assert torn_groups(rows.drop(columns="group")) == []
