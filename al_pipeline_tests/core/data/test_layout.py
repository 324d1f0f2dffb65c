"""How folders are read: layouts of public data sets made anew, what is left out, what is asked, and random trees."""

import os
import random
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.data import layout
from al_pipeline.core.data.folder import list_files, walk
from al_pipeline.core.data.folder_names import begin_with, looks_like, misspelt, split_name
from al_pipeline.core.data.folder_tree import MASK, UNLABELED_TEST
from al_pipeline.core.data.layout import Listing, arrange, is_image
from al_pipeline.core.errors import InputError
from al_pipeline_tests.core.data.layouts import LAYOUTS, Placed, files


def placed(found: Listing) -> Placed:
    return {each.path: (each.split, each.label) for each in found.files}


def left(found: Listing) -> dict[str, dict[str, int]]:
    return {reason: dict(places) for reason, places in found.left_out.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_public_data_sets_are_read_as_a_person_would(name: str) -> None:
    paths, classes, expected = LAYOUTS[name]
    found = arrange(paths, classes=classes)
    assert placed(found).items() >= expected.items()
    assert found.question is None


@pytest.mark.parametrize(
    ("name", "reason", "where"),
    [
        ("Kaggle's dogs and cats: the class in the files' names, test1 flat", UNLABELED_TEST, {"test1": 2}),
        (
            "Kaggle: class folders, a flat test folder, and an archive's folder around them",
            UNLABELED_TEST,
            {"leaves/test": 2},
        ),
        ("GTSRB: numbers with zeros before them, a flat test", UNLABELED_TEST, {"Test": 2}),
        ("MVTec: train without defects, test with them, and their masks", MASK, {"ground_truth": 2}),
        ("MVTec as a whole: several data sets", MASK, {"cable/ground_truth": 2}),
        ("Oxford's pets: all in one folder, trimaps beside it", MASK, {"annotations": 1}),
    ],
)
def test_what_is_no_picture_of_the_pool_is_left_out_and_counted(name: str, reason: str, where: dict[str, int]) -> None:
    paths, classes, _ = LAYOUTS[name]
    assert left(arrange(paths, classes=classes)) == {reason: where}


def test_images_of_a_test_folder_without_a_class_are_no_holdout_and_those_with_one_are() -> None:
    found = arrange([*files("train/a", "train/b", "test/a"), "test/1.jpg"])
    assert placed(found)["test/a/0.jpg"] == ("holdout", "a")
    assert left(found) == {UNLABELED_TEST: {"test": 1}}
    assert found.remarks == [], "there is a holdout"
    assert list(found.sentences()) == [f"1 image left out ({UNLABELED_TEST}), in 'test'"]
    without = arrange([*files("train/a", "train/b"), "test/1.jpg"])
    assert without.remarks == ["No image of the test folder has a class, so that a holdout is drawn from the others"]


def test_a_flat_test_folder_beside_class_folders_or_flat_train_images_is_left_out() -> None:
    assert placed(arrange(files("cat", "dog", "test"))).keys() == {*files("cat", "dog")}
    assert placed(arrange(files("train", "test"))) == dict.fromkeys(files("train"), ("pool", None))


def test_a_test_folder_that_is_all_there_is_holds_the_pool() -> None:
    found = arrange(files("test"))
    assert placed(found) == dict.fromkeys(files("test"), ("pool", None))
    assert found.remarks == [
        "All images that have no label lie in a test folder: they are the pool, because there is none"
    ]


def test_a_test_folder_with_classes_alone_is_a_holdout() -> None:
    found = arrange(files("test/cat", "test/dog"))
    assert {split for split, _ in placed(found).values()} == {"holdout"}
    assert found.remarks == []


def test_unlabeled_is_always_just_folders() -> None:
    paths = files("cat", "dog", "unlabeled/2023/05", "train/unlabeled/cat")
    assert arrange(files("cat", "dog", "unlabeled/2023/05")).question is None
    for classes in (None, ["cat", "dog"]):
        found = placed(arrange(paths, classes=classes))
        assert found["unlabeled/2023/05/0.jpg"] == ("pool", None)
        assert found["train/unlabeled/cat/0.jpg"] == ("pool", None)


def test_the_deepest_folder_that_names_a_class_is_the_label() -> None:
    found = placed(arrange(files("cat/dog/2023", "cat/2023", "a/b/c"), classes=["cat", "dog"]))
    assert found["cat/dog/2023/0.jpg"] == ("pool", "dog")
    assert found["cat/2023/0.jpg"] == ("pool", "cat")
    assert found["a/b/c/0.jpg"] == ("pool", None)


def test_classes_may_be_called_like_splits_masks_and_folders_of_the_system() -> None:
    classes = ["test", "masks", "thumbs", "train"]
    paths = files("pool/test", "pool/masks", "pool/thumbs", "holdout/train")
    found = arrange(paths, classes=classes)
    assert {label for _, label in placed(found).values()} == set(classes)
    assert left(found) == {}
    assert placed(arrange(files("mask", "no_mask")))["mask/0.jpg"] == ("pool", "mask"), "beside no split"
    assert placed(arrange(files("train/mask", "train/no_mask")))["train/mask/0.jpg"] == ("pool", "mask")


def test_folders_of_the_system_hidden_files_and_sidecars_are_left_out_and_counted() -> None:
    junk = ["@eaDir/", "cat/@eaDir/", "__MACOSX/", "$RECYCLE.BIN/", "#recycle/", "System Volume Information/"]
    hidden = [".thumbnails/", ".Trash-1000/", ".git/", ".ipynb_checkpoints/", ".Spotlight-V100/"]
    files_ = ["cat/._1.jpg", "cat/.1.jpg", "cat/1.xmp", "cat/1.AAE", "cat/.DS_Store", "Thumbs.db", "LICENSE"]
    found = arrange([*files("cat", "dog"), *junk, *hidden, *files_])
    assert placed(found).keys() == {*files("cat", "dog")}
    assert left(found) == {
        layout.SYSTEM: dict.fromkeys(sorted(path.rstrip("/") for path in junk), 0),
        layout.HIDDEN_FOLDER: dict.fromkeys(sorted(path.rstrip("/") for path in hidden), 0),
        layout.APPLE_DOUBLE: {"cat": 1},
        layout.HIDDEN: {"cat": 1},
    }
    assert found.sidecars == Counter([".xmp", ".aae", ".DS_Store", ".db", "LICENSE"])
    assert any("6 folders not looked into" in sentence and "'__MACOSX'" in sentence for sentence in found.sentences())


def test_files_of_kinds_that_cannot_be_read_are_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    # As without the extra that reads them.
    monkeypatch.setattr(layout, "SUFFIXES", layout.SUFFIXES - layout.RAW_SUFFIXES)
    remarks = arrange([*files("cat", "dog"), "cat/1.CR2", "cat/2.dng", "cat/3.psd", "more.zip"]).remarks
    assert remarks == [
        "Not read: 2 files (.cr2, .dng), camera RAW: `pip install 'al_pipeline[raw]'` reads them; or export them "
        "as JPEG",
        "Not read: 1 file (.psd), pictures of a kind that is not read: export them as PNG or JPEG",
        "Not read: 1 file (.zip), archives: unpack them if they hold images",
    ]


def test_of_raw_and_jpeg_of_one_name_the_jpeg_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SUFFIXES", layout.SUFFIXES | layout.RAW_SUFFIXES)
    cats = ["cat/1.JPG", "cat/1.cr2", "cat/2.NEF", "cat/2.dng", "cat/2.heic"]
    found = arrange([*cats, "dog/1.NEF", "dog/2.jpg", "3.nef", "3.xmp"])
    assert [each.path for each in found.files] == ["3.nef", "cat/1.JPG", "cat/2.heic", "dog/1.NEF", "dog/2.jpg"]
    assert found.left_out == {layout.BESIDE: Counter({"cat": 3})}
    assert any(sentence.startswith("3 images left out (camera RAW beside") for sentence in found.sentences())


# What AL_CLASSES does not name.


def test_a_folder_that_is_nearly_a_class_is_told_and_so_are_the_others() -> None:
    found = arrange(files("muffin", "chihuaha", "Muffin", "scones/2023"), classes=["muffin", "chihuahua"])
    assert placed(found)["chihuaha/0.jpg"] == ("pool", None)
    assert found.remarks == [
        "2 image files in the folder 'Muffin' have no label, because AL_CLASSES does not name it. If 'muffin' is "
        "meant, "
        "rename the folder or mend AL_CLASSES",
        "2 image files in the folder 'chihuaha' have no label, because AL_CLASSES does not name it. If 'chihuahua' is "
        "meant, rename the folder or mend AL_CLASSES",
        "2 image files in folders that AL_CLASSES does not name have no label: 'scones'",
    ]


def test_folders_below_classes_that_may_be_the_classes_are_told() -> None:
    taxa = files("train/Aves/Parus major", "train/Aves/Turdus merula", "train/Mammalia/Lynx lynx")
    [told] = arrange(taxa).remarks
    assert told == (
        "The 2 class folders 'Aves', 'Mammalia' hold 3 folders and no image of their own. If those are the classes, "
        "name them (or `classes` in al.toml): AL_CLASSES=Lynx lynx,Parus major,Turdus merula"
    )
    # A family with images of its own is a class; dates, cameras and the same few folders everywhere are none.
    assert not arrange([*taxa, "train/Aves/unsure.jpg"]).remarks
    assert not arrange(taxa, classes=["Aves", "Mammalia"]).remarks
    assert not arrange(taxa, known=["Aves", "Mammalia"]).remarks
    assert not arrange(files("cat/2023", "cat/2024", "dog/2023", "dog/2024")).remarks
    assert not arrange(files("cat/good", "cat/blurred", "dog/good", "dog/blurred", "cow/good", "cow/blurred")).remarks


def test_classes_of_test_images_alone_are_told() -> None:
    paths = files("train/good", "test/good", "test/cut", "test/bent")
    [told] = arrange(paths).remarks
    assert told.startswith("The classes 'bent', 'cut' have folders among the test images alone: no image to learn from")
    # Where people label the pool, nothing is known of it yet.
    assert not arrange(files("unlabeled", "test/good", "test/cut")).remarks


def test_former_names_of_classes_are_class_folders_and_folders_of_known_names_are_not_asked_about() -> None:
    found = placed(arrange(files("horse", "Site_1/Pferd"), classes=["horse", "cow"], known=["Pferd"]))
    assert found["Site_1/Pferd/0.jpg"] == ("pool", "Pferd")
    years = files("2022", "2023", "2024")
    assert arrange(years).question is not None
    assert arrange(years, known=["2022", "2023", "2024"]).question is None
    assert arrange([*years, *files("2025")], known=["2022", "2023", "2024"]).question is not None
    ten = [str(number) for number in range(10)]
    assert arrange(files(*ten, "10"), known=ten).question is None
    assert arrange(files("10"), known=ten).question is None


def test_a_folder_that_comes_beside_an_archives_own_does_not_make_that_one_a_class() -> None:
    before = files("set/cat", "set/dog")
    assert placed(arrange(before))["set/cat/0.jpg"] == ("pool", "cat")
    after = placed(arrange([*before, *files("emu")], known=["cat", "dog"]))
    assert after["set/cat/0.jpg"] == ("pool", "cat")
    assert after["emu/0.jpg"] == ("pool", "emu")


# What only a person can tell.


@pytest.mark.parametrize(
    ("folders", "like"),
    [
        (["2022", "2023", "2024"], "dates"),
        (["2023-05-01", "2023-05-02 Birthday", "20230503"], "dates"),
        (["Photos from 2022", "Photos from 2023", "Rome"], "dates"),
        (["January", "February", "March"], "dates"),
        (["100CANON", "101CANON", "100MSDCF", "DCIM"], "cameras"),
        (["CAM1", "CAM2"], "sites, cameras or patients"),
        (["Site_001", "Site_002", "Site_003"], "sites, cameras or patients"),
        (["patient_07", "patient_12"], "sites, cameras or patients"),
        (["B04", "B05", "C10"], "sites, cameras or patients"),
        (["LIDC-IDRI-0001", "LIDC-IDRI-0002"], "sites, cameras or patients"),
        (["17", "230", "4711"], "numbers"),
        (["d41d8cd98f00b204", "9e107d9d372bb682"], "ids"),
    ],
)
def test_folders_that_look_like_places_or_dates_are_asked_about_with_both_remedies(
    folders: list[str], like: str
) -> None:
    question = arrange(files(*folders)).question
    assert question is not None
    assert f"look like {like}, not like classes" in question
    assert "AL_CLASSES=muffin,chihuahua (or `classes` in al.toml)" in question
    assert ("AL_GROUP=folder" in question) == ("patients" in like)
    assert question.endswith(f"AL_CLASSES={','.join(sorted(folders))}")
    # The remedies are ones.
    for classes in (["muffin", "chihuahua"], folders):
        found = arrange(files(*folders), classes=classes)
        assert found.question is None
        assert {label for _, label in placed(found).values()} == ({None} if "muffin" in classes else set(folders))


@pytest.mark.parametrize(
    "folders",
    [
        [str(number) for number in range(10)],
        ["3", "8"],
        [str(number) for number in range(1, 103)],
        [f"{number:05d}" for number in range(43)],
        ["n01440764", "n01443537", "n02102040"],
        ["001.Black_footed_Albatross", "002.Laysan_Albatross"],
        ["grade_0", "grade_1", "grade_2"],
        ["class1", "class2"],
        ["class_001", "class_002"],
        ["stage-001", "type-002"],
        ["c0", "c1", "c2"],
        ["cat", "dog", "2023"],
        ["A320", "Boeing 737", "Cessna", "DC-10"],
        ["with_mask", "without_mask"],
        ["may", "oak", "rose"],
        ["n", "p"],
    ],
)
def test_numbers_and_words_that_are_classes_are_not_asked_about(folders: list[str]) -> None:
    assert looks_like(folders) is None
    assert arrange(files(*folders)).question is None


def test_what_is_the_same_in_train_and_test_is_no_patient() -> None:
    assert arrange(files("train/A12", "train/B20", "test/A12", "test/B20")).question is None
    assert arrange(files("train/A12", "train/B20", "test/C11", "test/D14")).question is not None


def test_domains_that_hold_the_same_classes_are_asked_about_and_views_are_not() -> None:
    paths = files(*(f"{domain}/{name}" for domain in ("art", "photo") for name in ("dog", "horse", "house")))
    question = arrange(paths).question
    assert question is not None
    assert "AL_CLASSES=dog,horse,house, or AL_CLASSES=art,photo" in question
    assert arrange(files("cat/left", "cat/right", "dog/left", "dog/right")).question is None
    assert arrange(files(*(f"{c}/{year}" for c in "ab" for year in range(2020, 2024)))).question is None


def test_folders_that_differ_by_case_alone_are_asked_about() -> None:
    paths = files("Cat", "cat", "dog")
    question = arrange(paths).question
    assert question is not None
    assert "'Cat', 'cat' differ by case alone" in question
    assert arrange(paths, classes=["Cat", "cat", "dog"]).question is None
    assert arrange(files("train/cat", "train/dog", "test/Cat")).question is not None
    assert arrange(files("Cat", "dog"), known=["cat", "dog"]).question is not None


# Random trees.

PARTS = st.sampled_from(
    [
        *("cat", "Cat", "dog", "grün", unicodedata.normalize("NFD", "grün"), "train", "Test", "holdout", "unlabeled"),
        *("val", "images", "masks", "ground_truth", "@eaDir", ".git", "2023", "05", "Site_001", "CAM2", " ", "3"),
    ]
)
NAMES = st.sampled_from(
    ["1.jpg", "2.JPG", "a.png", "._1.jpg", ".b.png", "1.xmp", "Thumbs.db", ".DS_Store", "x", "y.tar.gz", "jpg"]
)
PATHS = st.lists(st.tuples(st.lists(PARTS, max_size=4), NAMES), max_size=25).map(
    lambda found: sorted({"/".join([*folders, name]) for folders, name in found})
)
CLASSES = st.none() | st.lists(st.sampled_from(["cat", "dog", "grün", "05", "masks", "train"]), unique=True)


@settings(max_examples=200, deadline=None)
@given(paths=PATHS, classes=CLASSES, known=st.lists(st.sampled_from(["cat", "emu", "2023"]), unique=True))
def test_every_file_is_in_the_pool_the_holdout_or_left_out_with_a_reason_or_a_sidecar(
    paths: list[str], classes: list[str] | None, known: list[str]
) -> None:
    found = arrange(paths, classes=classes, known=known)
    read = [each.path for each in found.files]
    assert len(read) == len(set(read))
    assert set(read) <= set(paths)
    assert all(map(is_image, read))
    images = [path for path in paths if is_image(PurePosixPath(path).name)]
    counts = {reason: sum(places.values()) for reason, places in found.left_out.items()}
    assert len(read) + sum(counts.values()) == len(images)
    # Each that is not read lies where something was left out.
    for path in {*images} - {*read}:
        folders = {".", *map(str, PurePosixPath(path).parents)}
        assert any(folders & places.keys() for places in found.left_out.values())
    unread = {f for reason in (layout.SYSTEM, layout.HIDDEN_FOLDER) for f in found.left_out.get(reason, ())}
    others = [p for p in paths if p not in images and not {*map(str, PurePosixPath(p).parents)} & unread]
    assert found.sidecars.total() == len(others)
    assert {each.split for each in found.files} <= {"pool", "holdout"}
    assert all(each.label is not None for each in found.files if each.split == "holdout")
    if classes:
        assert {each.label for each in found.files} <= {None, *classes, *known}
    if read:
        assert any(each.split == "pool" for each in found.files) or all(each.label is not None for each in found.files)


@settings(max_examples=100, deadline=None)
@given(paths=PATHS, classes=CLASSES, seed=st.integers(0, 2**16))
def test_a_layout_depends_on_no_order_and_reading_it_again_what_was_read_changes_nothing(
    paths: list[str], classes: list[str] | None, seed: int
) -> None:
    found = arrange(paths, classes=classes)
    shuffled = random.Random(seed).sample(paths, len(paths))
    assert arrange(shuffled, classes=classes) == found
    assert [each.path.split("/") for each in found.files] == sorted(each.path.split("/") for each in found.files)
    # Letters composed otherwise, as another file system hands them out, are the same names.
    other = arrange([unicodedata.normalize("NFC", path) for path in paths], classes=classes)
    assert {(unicodedata.normalize("NFC", e.path), e.split, e.label) for e in found.files} == {
        *map(tuple_, other.files)
    }
    # What was left out as no picture tells nothing of the rest, but for a test folder, which is one while it is there.
    if UNLABELED_TEST not in found.left_out and MASK not in found.left_out:
        again = arrange([each.path for each in found.files], classes=classes)
        assert (again.files, again.left_out, again.question) == (found.files, {}, found.question)


def tuple_(each: layout.Found) -> tuple[str, str, str | None]:
    return each.path, each.split, each.label


@settings(max_examples=30, deadline=None)
@given(paths=PATHS)
def test_a_folder_on_disk_gives_what_its_paths_give(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("tree")
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    told = arrange(paths)
    if not told.files:
        with pytest.raises(InputError, match="holds no images"):
            list_files(root)
        return
    found = list_files(root)
    assert (found.files, found.remarks, found.question) == (told.files, told.remarks, told.question)
    assert {reason: {*places} for reason, places in found.left_out.items()} == {
        reason: {*places} for reason, places in told.left_out.items()
    }
    assert {path.as_posix() for path, _ in walk(root)} >= {each.path for each in found.files}


# On disk.


def test_folders_of_the_system_are_not_looked_into(tmp_path: Path) -> None:
    for path in [*files("cat", "dog"), *files("cat/@eaDir/1.jpg"), ".cache/1.jpg"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "dog" / "again").symlink_to(tmp_path)
    found = list_files(tmp_path)
    assert left(found) == {
        layout.SYSTEM: {"cat/@eaDir": 0},
        layout.HIDDEN_FOLDER: {".cache": 0},
        layout.LOOP: {"dog/again": 0},
    }
    assert [path.as_posix() for path, _ in walk(tmp_path)] == files("cat", "dog")


def test_a_folder_without_images_is_refused_with_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SUFFIXES", layout.SUFFIXES - layout.RAW_SUFFIXES)
    for name in ("1.nef", "2.nef", "._1.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"There are other files \(2 \.nef\); 1 image left out .*export them as JPEG"):
        list_files(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_listed_is_a_problem_that_is_told(tmp_path: Path) -> None:
    for path in files("cat", "dog"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "dog").chmod(0)
    try:
        found = list_files(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o755)
    assert [each.problem for each in found.files] == [None, None, "unreadable folder: Permission denied"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "pool"),
        ("train_mini", "pool"),
        ("val2017", "pool"),
        ("train99", None),
        ("test1", "holdout"),
        ("TEST-images", "holdout"),
        ("tests", None),
        ("training set", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_name(name) == split


def test_names_whose_digits_differ_are_not_misspelt() -> None:
    assert misspelt(["n01440765", "dogs", "DOG", "Dog2", "wolf"], ["n01440764", "dog"]) == {"dogs": "dog", "DOG": "dog"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], ["cat", "dog"]),
        (
            ["american_bulldog_1.jpg", "american_bulldog_2.jpg", "Bombay_7.jpg", "Bombay_8.jpg"],
            ["Bombay", "american_bulldog"],
        ),
        (["IMG_0001.JPG", "IMG_0002.JPG", "PXL_20240501_1.jpg", "PXL_20240501_2.jpg"], []),
        (["cat.0.jpg", "cat.1.jpg"], []),
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg"], []),
        (["site1_1.jpg", "site1_2.jpg", "B04_1.jpg", "B04_2.jpg"], []),
        ([f"cat.{i}.jpg" for i in range(9)] + [f"dog.{i}.jpg" for i in range(9)] + ["cover.jpg"] * 3, []),
        ([], []),
    ],
)
def test_words_that_files_names_begin_with_may_be_classes(names: list[str], words: list[str]) -> None:
    assert begin_with(names) == words


def test_folders_of_days_are_asked_about_once() -> None:
    found = arrange(files("2022/01/03", "2022/01/04", "2023/02/05"))
    assert found.question is not None
    assert found.remarks == []
