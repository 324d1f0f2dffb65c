"""The image pool: every layout of folders, every kind of broken file, and copies that would make labels dishonest."""

import hashlib
import os
import socket
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data.pool import COLUMNS, class_names, glance, scan, select_split
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.errors import InputError
from al_pipeline_tests.core.data.jpegs import photo


def picture(path: Path, seed: int | None = None) -> Path:
    """Write a small image of content that depends on the seed, by default on the path."""
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:4], "big")
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


def placed(manifest: pd.DataFrame, root: Path) -> dict[str, tuple[str, str | None]]:
    """Return split and label by relative path."""
    return {
        str(Path(row.uri).relative_to(root.resolve())): (row.split, row.label)  # type: ignore[arg-type]
        for row in manifest.itertuples()
    }


def reasons(manifest: pd.DataFrame) -> dict[str, str]:
    """Return the reasons of the excluded files by file name."""
    excluded = manifest[manifest["split"] == "excluded"]
    return {Path(uri).name: reason for uri, reason in zip(excluded["uri"], excluded["reason"], strict=True)}


def test_a_row_tells_everything_about_its_file(tmp_path: Path) -> None:
    path = tmp_path / "cat" / "a.png"
    path.parent.mkdir()
    photo(1, (40, 30)).save(path)
    row, read = scan(tmp_path).iloc[0].to_dict(), read_file(str(path), 0)
    assert tuple(row) == COLUMNS
    assert pd.isna(row.pop("taken"))
    assert row == {
        "sample_id": hashlib.sha256(path.read_bytes()).hexdigest()[:32],
        "uri": str(path.resolve()),
        "split": "pool",
        "reason": None,
        "label": "cat",
        "width": 40,
        "height": 30,
        "format": "PNG",
        "bytes": path.stat().st_size,
        "phash": read.phash,
        "thumbnail": read.thumbnail,
        "file_id": row["sample_id"],
        "pixels": read.pixels,
        "mtime_ns": path.stat().st_mtime_ns,
        "inode": path.stat().st_ino,
        "notes": "",
        "planes": 1,
        "levels": b"",
    }


def test_size_and_format_are_those_a_person_sees_not_those_of_the_name(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "x.png", format="JPEG", exif=exif)
    row = scan(tmp_path).iloc[0]
    assert (row["width"], row["height"], row["format"]) == (20, 40, "JPEG")


LAYOUTS: dict[str, dict[str, tuple[str, str | None]]] = {
    "class folders": {"cat/1.png": ("pool", "cat"), "dog/1.png": ("pool", "dog")},
    "deep class folders": {"cat/2024/may/1.png": ("pool", "cat"), "dog/1.png": ("pool", "dog")},
    "pool and holdout": {
        "holdout/cat/1.png": ("holdout", "cat"),
        "holdout/dog/1.png": ("holdout", "dog"),
        "pool/cat/2.png": ("pool", "cat"),
        "pool/dog/2.png": ("pool", "dog"),
    },
    "train, val and test": {
        "Test/cat/1.png": ("holdout", "cat"),
        "Train/cat/2.png": ("pool", "cat"),
        "val/cat/3.png": ("pool", "cat"),
    },
    "train alone": {"train/cat/1.png": ("pool", "cat"), "train/dog/1.png": ("pool", "dog")},
    "unlabeled and test": {"test/cat/1.png": ("holdout", "cat"), "unlabeled/1.png": ("pool", None)},
    "flat": {"1.png": ("pool", None), "2.png": ("pool", None)},
    "unlabeled files beside class folders": {"1.png": ("pool", None), "cat/1.png": ("pool", "cat")},
    "an unlabeled folder beside class folders": {"cat/1.png": ("pool", "cat"), "unlabeled/1.png": ("pool", None)},
    "a test folder beside class folders": {
        "cat/1.png": ("pool", "cat"),
        "dog/1.png": ("pool", "dog"),
        "test/cat/2.png": ("holdout", "cat"),
        "test/dog/2.png": ("holdout", "dog"),
    },
    "a class called train": {
        "bus/1.png": ("pool", "bus"),
        "car/1.png": ("pool", "car"),
        "train/1.png": ("pool", "train"),
    },
    "a class called train within splits": {
        "pool/bus/1.png": ("pool", "bus"),
        "pool/train/1.png": ("pool", "train"),
        "test/train/2.png": ("holdout", "train"),
    },
    "spaces and letters of the world": {
        "grüner Wald/ein Bild.png": ("pool", "grüner Wald"),
        "小狗/图 1.png": ("pool", "小狗"),
        "ёж/1.png": ("pool", "ёж"),
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_folders_gives_its_splits_and_labels(tmp_path: Path, name: str) -> None:
    pictures(tmp_path, *LAYOUTS[name])
    assert placed(scan(tmp_path), tmp_path) == LAYOUTS[name]


def test_hidden_files_and_files_without_the_suffix_of_an_image_are_ignored(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "cat/.2.png", ".cache/3.png", "cat/._1.png")
    for name in ("manifest.csv", "README.txt", "cat/Thumbs.db", "cat/noname"):
        (tmp_path / name).write_text("not an image")
    assert placed(scan(tmp_path), tmp_path) == {"cat/1.png": ("pool", "cat")}


def test_suffixes_count_in_any_case_and_a_folder_may_have_one(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg/1.PNG", "b/2.JpEg")
    assert placed(scan(tmp_path), tmp_path) == {"a.jpg/1.PNG": ("pool", "a.jpg"), "b/2.JpEg": ("pool", "b")}


def test_a_label_is_the_same_however_the_file_system_composes_its_letters(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "grün"), unicodedata.normalize("NFD", "grün")
    pictures(tmp_path, f"{composed}/1.png", f"{decomposed}/2.png")
    assert scan(tmp_path)["label"].tolist() == [composed, composed]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder of images of which links lead out: straight, by way of `..`, of another link, and by a file."""
    pictures(tmp_path / "elsewhere", "1.png", "deep/3.png")
    # Its name begins as the root's does, and yet it is outside.
    pictures(tmp_path / "images, private", "4.png")
    root = pictures(tmp_path / "images", "dog/2.png")
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "loop").symlink_to(root)
    (root / "dog" / "private").symlink_to("../../images, private")
    (root / "dog" / "deep").symlink_to(root / "cat" / "deep")
    picture(tmp_path / "5.png")
    (root / "dog" / "5.png").symlink_to(tmp_path / "5.png")
    return root


def test_links_that_lead_out_are_set_aside_with_the_remedy(linked: Path) -> None:
    manifest = scan(linked, max_excluded_share=0.9)
    assert placed(manifest, linked) == {
        "cat": ("excluded", None),
        "dog/2.png": ("pool", "dog"),
        "dog/5.png": ("excluded", "dog"),
        "dog/deep": ("excluded", "dog"),
        "dog/private": ("excluded", "dog"),
    }
    for row in manifest[manifest["split"] == "excluded"].itertuples():
        assert row.reason == (
            "a link that leads out of the images' folder: copy its target there, or set AL_FOLLOW_LINKS=true"
        )
        # Not one byte of the target was read.
        assert (row.sample_id, row.bytes, row.phash) == (None, 0, "")


def test_links_that_lead_out_are_followed_where_that_is_set_and_loops_of_links_end(linked: Path) -> None:
    manifest = scan(linked, follow_links=True)
    assert {uri: split for uri, (split, _) in placed(manifest, linked).items()} == {
        "cat/1.png": "pool",
        "cat/deep/3.png": "pool",
        "dog/2.png": "pool",
        "dog/5.png": "pool",
        "dog/private/4.png": "pool",
    }


def test_links_within_the_folder_are_followed_and_the_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    root = pictures(tmp_path / "real", "store/1.png", "dog/2.png")
    (root / "cat").symlink_to("store")
    (root / "dog" / "loop").symlink_to(root)
    (root / "dog" / "1.png").symlink_to(root / "dog" / "2.png")
    (tmp_path / "images").symlink_to(root)
    expected = placed(scan(root, follow_links=True), root)
    assert set(expected) == {"cat/1.png", "dog/1.png", "dog/2.png", "store/1.png"}
    assert {split for split, _ in expected.values()} == {"pool", "excluded"}
    assert placed(scan(tmp_path / "images"), root) == expected


def test_a_folder_of_nothing_but_links_that_lead_out_is_refused_with_the_remedy(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", "1.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"(?s)1 of 1 files .*AL_FOLLOW_LINKS=true"):
        scan(tmp_path / "images")


def spoil(root: Path) -> None:
    """Write one of each kind of broken file into ``root/cat``."""
    folder = root / "cat"
    whole = picture(folder / "whole.png").read_bytes()
    (folder / "empty.jpg").touch()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (folder / "link.jpg").symlink_to(root / "nowhere.jpg")
    os.mkfifo(folder / "pipe.png")
    Image.new("1", (10_000, 10_000)).save(folder / "bomb.png")
    (folder / "tray.jpg").symlink_to("tray.jpg")


def test_broken_files_are_set_aside_with_their_reasons_and_the_rest_goes_on(tmp_path: Path) -> None:
    spoil(pictures(tmp_path, *(f"dog/{i}.png" for i in range(3))))
    manifest = scan(tmp_path, max_excluded_share=0.9)
    said = reasons(manifest)
    assert said == {
        "empty.jpg": "empty file",
        "cut.png": said["cut.png"],
        "page.jpg": said["page.jpg"],
        "phone.heic": said["phone.heic"],
        "link.jpg": "unreadable: No such file or directory",
        "pipe.png": "not a regular file",
        "bomb.png": said["bomb.png"],
        "tray.jpg": "unreadable: Too many levels of symbolic links",
    }
    assert said["cut.png"].startswith("cut off (")
    assert said["page.jpg"].startswith("a web page, not an image: ")
    assert said["phone.heic"].startswith("damaged: ")
    assert said["bomb.png"].startswith("too large")
    assert manifest["split"].value_counts().to_dict() == {"excluded": 8, "pool": 4}
    by_name = manifest.assign(name=manifest["uri"].map(lambda uri: Path(uri).name)).set_index("name")
    assert by_name.loc["link.jpg", "sample_id"] is None
    assert by_name.loc["page.jpg", "sample_id"] == hashlib.sha256(b"<html>404</html>").hexdigest()[:32]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file and folder")
def test_files_and_folders_without_permission_are_set_aside(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png")
    (tmp_path / "cat" / "1.png").chmod(0)
    (tmp_path / "dog").chmod(0)
    try:
        said = reasons(scan(tmp_path, max_excluded_share=0.9))
    finally:
        (tmp_path / "dog").chmod(0o755)
    assert said == {"1.png": "unreadable: Permission denied", "dog": "unreadable folder: Permission denied"}


def test_a_name_that_is_not_unicode_is_set_aside_and_can_be_stored(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "cat/2.png")
    try:
        picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/gr\xfcn.png")))
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    manifest = scan(tmp_path, max_excluded_share=0.5)
    assert reasons(manifest) == {"gr\\xfcn.png": "the path is not UTF-8: rename the file or its folder"}
    manifest.to_parquet(tmp_path / "manifest.parquet")


def test_too_many_broken_files_refuse_the_folder_and_name_five(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{i}.png" for i in range(8)))
    for i in range(2):
        (tmp_path / f"broken{i}.jpg").touch()
    assert len(reasons(scan(tmp_path, max_excluded_share=0.2))) == 2
    with pytest.raises(InputError, match=r"(?s)2 of 10 files .* share of 19%.*broken0\.jpg: empty file"):
        scan(tmp_path, max_excluded_share=0.19)
    for i in range(2, 8):
        (tmp_path / f"broken{i}.jpg").touch()
    with pytest.raises(InputError, match="and 3 more") as refused:
        scan(tmp_path)
    assert str(refused.value).count("empty file") == 5


def test_a_folder_of_nothing_but_broken_files_is_refused_whatever_the_share(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    with pytest.raises(InputError, match="1 of 1 files"):
        scan(tmp_path, max_excluded_share=1.0)


def test_copies_are_no_broken_files_and_may_be_many(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / "cat" / f"{i}.png", seed=1)
    manifest = scan(tmp_path, max_excluded_share=0.0)
    assert manifest["split"].tolist() == ["pool"] + ["excluded"] * 9
    assert set(reasons(manifest).values()) == {f"duplicate of {tmp_path.resolve()}/cat/0.png"}


def test_a_copy_under_another_label_costs_all_copies(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        picture(tmp_path / name, seed=1)
    picture(tmp_path / "dog/ok.png", seed=2)
    manifest = scan(tmp_path)
    assert set(reasons(manifest).values()) == {"the same image under the labels 'cat' and 'dog': keep it under one"}
    assert select_split(manifest, "pool")["label"].tolist() == ["dog"]


def test_a_copy_in_the_holdout_takes_the_image_out_of_the_pool(tmp_path: Path) -> None:
    for name in ("pool/cat/1.png", "test/cat/2.png", "test/cat/3.png"):
        picture(tmp_path / name, seed=1)
    picture(tmp_path / "pool/cat/ok.png", seed=2)
    manifest = scan(tmp_path)
    kept = f"{tmp_path.resolve()}/test/cat/2.png"
    assert reasons(manifest) == {"1.png": f"also in the holdout: {kept}", "3.png": f"duplicate of {kept}"}


def test_a_copy_in_the_holdout_under_another_label_is_used_nowhere(tmp_path: Path) -> None:
    for name in ("pool/cat/1.png", "test/dog/2.png"):
        picture(tmp_path / name, seed=1)
    picture(tmp_path / "pool/cat/ok.png", seed=2)
    assert set(reasons(scan(tmp_path))) == {"1.png", "2.png"}


def test_of_two_copies_the_one_with_a_label_is_kept(tmp_path: Path) -> None:
    for name in ("1.png", "cat/2.png"):
        picture(tmp_path / name, seed=1)
    assert reasons(scan(tmp_path)) == {"1.png": f"duplicate of {tmp_path.resolve()}/cat/2.png"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.tuples(st.sampled_from(["pool/a", "pool/b", "pool", "test/a", "test/b"]), st.integers(0, 5)), min_size=1
    )
)
def test_a_sample_is_usable_once_with_one_label_and_in_one_split(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, int]]
) -> None:
    root = tmp_path_factory.mktemp("images")
    for i, (folder, content) in enumerate(files):
        picture(root / folder / f"{i}.png", seed=content)
    manifest = scan(root)
    assert len(manifest) == len(files)
    usable = manifest[manifest["split"] != "excluded"]
    assert usable["sample_id"].is_unique
    assert usable["reason"].isna().all()
    assert manifest.loc[manifest["split"] == "excluded", "reason"].notna().all()
    # The judge: content by content, in plain words.
    for content in {content for _, content in files}:
        folders = [folder for folder, drawn in files if drawn == content]
        labels = {folder[-1] for folder in folders if "/" in folder}
        split = "holdout" if any(folder.startswith("test") for folder in folders) else "pool"
        digest = hashlib.sha256(picture(root / "judge.txt", seed=content).read_bytes()).hexdigest()[:32]
        expected = [] if len(labels) > 1 else [split]
        assert usable.loc[usable["sample_id"] == digest, "split"].tolist() == expected


def test_the_manifest_is_the_same_for_any_number_of_threads(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{name}/{i}.png" for i in (10, 9, 1) for name in ("b", "a")))
    one = scan(tmp_path, workers=1)
    pd.testing.assert_frame_equal(one, scan(tmp_path, workers=4))
    assert [Path(uri).name for uri in one["uri"]] == ["1.png", "10.png", "9.png"] * 2


def test_a_missing_folder_a_file_and_a_folder_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere \(AL_IMAGES\) does not exist"):
        scan(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"x\.png \(AL_IMAGES\) is a file"):
        scan(picture(tmp_path / "files" / "x.png"))
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"empty \(AL_IMAGES\) holds no images .*\*\.jpeg"):
        scan(tmp_path / "empty")


def test_a_socket_with_the_name_of_an_image_does_not_hang_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, "1.png", "2.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("3.png")
        assert reasons(scan(tmp_path, max_excluded_share=0.5)) == {"3.png": "not a regular file"}


def test_select_split_gives_the_rows_of_one_split(tmp_path: Path) -> None:
    manifest = scan(pictures(tmp_path, "pool/a/1.png", "test/a/2.png", "pool/b/3.png"))
    assert select_split(manifest, "pool")["label"].tolist() == ["a", "b"]
    assert select_split(manifest, "holdout").index.tolist() == [0]
    assert select_split(manifest, "excluded").empty
    with pytest.raises(InputError, match="unknown split 'train': choose pool, holdout or excluded"):
        select_split(manifest, "train")


def labelled(*labels: str | None) -> pd.DataFrame:
    return pd.DataFrame({"split": "pool", "label": pd.Series(labels, dtype=object)})


ROOT = Path("/data/images")


def test_class_names_are_those_of_the_folders_sorted() -> None:
    assert class_names(labelled("dog", "cat", None, "dog"), None, ROOT) == ["cat", "dog"]


def test_configured_class_names_keep_their_order_and_may_lack_images() -> None:
    assert class_names(labelled("dog"), ["dog", "cat"], ROOT) == ["dog", "cat"]
    assert class_names(labelled(None), ["dog", "cat"], ROOT) == ["dog", "cat"]


def test_configured_class_names_match_folders_however_their_letters_are_composed() -> None:
    names = class_names(labelled("grün"), [unicodedata.normalize("NFD", " grün"), "rot"], ROOT)
    assert names == ["grün", "rot"]


def test_the_folder_of_an_excluded_file_is_no_class() -> None:
    manifest = labelled("cat", "dog", "junk")
    manifest.loc[2, "split"] = "excluded"
    assert class_names(manifest, None, ROOT) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("labels", "configured", "message"),
    [
        ((None,), None, "no class folders, so the class names must be set: AL_CLASSES="),
        ((None,), [], "no class folders"),
        (("cat",), None, r"the folders in /data/images give 1 class \('cat'\): 2 to 1000 are needed"),
        (("cat",), ["cat"], r"AL_CLASSES give 1 class \('cat'\)"),
        (tuple(f"{i}" for i in range(1001)), None, "give 1001 classes"),
        (("cat",), ["cat", "dog", "cat "], "AL_CLASSES gives class names twice: 'cat'"),
        (("cat",), ["cat", " "], "A class name in AL_CLASSES is blank"),
        (("cat", ""), None, "A class name in the folders in /data/images is blank"),
    ],
)
def test_class_names_that_cannot_be_used_are_refused(
    labels: tuple[str | None, ...], configured: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        class_names(labelled(*labels), configured, ROOT)


def test_labels_in_the_names_of_files_are_told_before_anything_is_read(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{animal}.{number}.png" for animal in ("cat", "dog") for number in range(3)))
    for manifest in (glance(tmp_path), scan(tmp_path)):
        with pytest.raises(InputError, match=r"AL_CLASSES=cat,dog, or .* take them over with `al ledger import`"):
            class_names(manifest, None, tmp_path)


def test_a_thousand_class_folders_are_a_thousand_classes(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"class {i:04d}/x.png" for i in range(1000)))
    names = class_names(scan(tmp_path), None, tmp_path)
    assert names == [f"class {i:04d}" for i in range(1000)]
