"""What is written as a data set comes back as the same labels of the same images; what other tools write, too."""

import json
import os
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.formats.brought import SEVERAL, Brought
from al_pipeline.core.labels.formats.read import detect, read_labels
from al_pipeline.core.labels.formats.write import write_data_set
from al_pipeline.core.labels.matching import Classes, Places, matched

NAMES = ["Käse", "a b", "x"]


@pytest.fixture
def labels(tmp_path: Path) -> pd.DataFrame:
    """Seven images, whose paths and formats tell nothing, and their labels."""
    for number in range(7):
        folder = tmp_path / "pool" / f"f{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number * 30, 0, 0)).save(folder / f"{number}.{'PNG' if number % 3 else 'jpg'}")
    known = scan(tmp_path / "pool")
    return known[["sample_id", "uri"]].assign(
        label=["Käse", "a b", "x", "x", "Käse", "a b", "x"], split=["train"] * 5 + ["holdout"] * 2
    )


def came_back(found: Brought, labels: pd.DataFrame, names: list[str] = NAMES) -> dict[str, str]:
    places = Places(dict(zip(labels["sample_id"], labels["uri"], strict=True)))
    rows, _ = matched(found, places, Classes(names), skip_unknown=False)
    return dict(zip(rows["sample"], rows["class"], strict=True))


@pytest.mark.parametrize("kind", ["folders", "huggingface", "coco"])
def test_a_data_set_comes_back_as_it_was_also_from_another_place(
    tmp_path: Path, labels: pd.DataFrame, kind: str
) -> None:
    write_data_set(labels, tmp_path / "out" / kind, kind, NAMES)
    moved = (tmp_path / "out" / kind).rename(tmp_path / "moved")
    assert detect(moved) == kind
    found = read_labels(moved)
    assert came_back(found, labels) == dict(zip(labels["sample_id"], labels["label"], strict=True))
    assert list((tmp_path / "out").iterdir()) == [], "nothing temporary is left"


def test_class_folders_are_a_pool_and_a_holdout_of_ours(tmp_path: Path, labels: pd.DataFrame) -> None:
    write_data_set(labels, tmp_path / "out", "folders", NAMES)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "holdout"}
    again = scan(tmp_path / "out").sort_values("sample_id")
    expected = labels.sort_values("sample_id")
    assert again["sample_id"].tolist() == expected["sample_id"].tolist()
    assert again["label"].tolist() == expected["label"].tolist()
    assert again["split"].tolist() == ["pool" if split == "train" else split for split in expected["split"]]


def test_images_are_links_to_the_same_bytes_also_through_symbolic_links(tmp_path: Path, labels: pd.DataFrame) -> None:
    first = Path(labels["uri"].iloc[0])
    target = first.rename(tmp_path / "elsewhere.jpg")
    first.symlink_to(target)
    write_data_set(labels, tmp_path / "out", "folders", NAMES)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 7
    assert not any(path.is_symlink() for path in written)
    assert all(path.stat().st_nlink == 2 for path in written)


def test_where_links_are_refused_images_are_copied(
    tmp_path: Path, labels: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write_data_set(labels, tmp_path / "out", "folders", NAMES)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.stat().st_nlink for path in written} == {1}
    assert came_back(read_labels(tmp_path / "out"), labels) == dict(
        zip(labels["sample_id"], labels["label"], strict=True)
    )


@pytest.mark.parametrize("name", ["a/b", "..", ".", ".hidden", "é" * 128, "end.", "tab\there", "a:b", "C\\D"])
def test_a_class_that_is_no_name_of_a_folder_is_refused_and_written_as_text(
    tmp_path: Path, labels: pd.DataFrame, name: str
) -> None:
    labels = labels.replace({"label": {"x": name}})
    names = ["Käse", "a b", name]
    with pytest.raises(InputError, match="cannot be the name of a folder: export with --format huggingface"):
        write_data_set(labels, tmp_path / "out", "folders", names)
    assert not (tmp_path / "out").exists()
    expected = dict(zip(labels["sample_id"], labels["label"], strict=True))
    for kind in ("huggingface", "coco"):
        write_data_set(labels, tmp_path / kind, kind, names)
        assert came_back(read_labels(tmp_path / kind), labels, names) == expected


def test_classes_that_differ_by_case_alone_are_no_two_folders(tmp_path: Path, labels: pd.DataFrame) -> None:
    labels = labels.replace({"label": {"x": unicodedata.normalize("NFC", "KÄSE")}})
    with pytest.raises(InputError, match="'KÄSE' and 'Käse' are one folder on file systems that ignore case"):
        write_data_set(labels, tmp_path / "out", "folders", ["Käse", "a b", "KÄSE"])


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, labels: pd.DataFrame) -> None:
    (tmp_path / "out").mkdir()
    write_data_set(labels, tmp_path / "out", "folders", NAMES)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="out holds files already: name a new folder"):
        write_data_set(labels, tmp_path / "out", "coco", NAMES)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file: name a new folder"):
        write_data_set(labels, tmp_path / "file", "coco", NAMES)
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "file") == before


def test_an_image_that_is_gone_or_changed_is_told_and_nothing_is_written(tmp_path: Path, labels: pd.DataFrame) -> None:
    Path(labels["uri"].iloc[0]).unlink()
    Path(labels["uri"].iloc[1]).write_bytes(b"other")
    with pytest.raises(
        InputError, match=r"2 of 7 labeled images are gone or changed, and nothing was written: .*0\.jpg"
    ):
        write_data_set(labels, tmp_path / "out", "folders", NAMES)
    assert not (tmp_path / "out").exists()


def test_an_image_may_be_known_by_other_bytes_than_it_has_its_name_from(tmp_path: Path, labels: pd.DataFrame) -> None:
    names = [f"{number:032x}" for number in range(len(labels))]
    known = labels.assign(file_id=labels["sample_id"], sample_id=names)
    write_data_set(known, tmp_path / "out", "folders", NAMES)
    assert sorted(path.stem for path in (tmp_path / "out").rglob("*.*")) == names


def test_hugging_face_calls_the_holdout_test_and_fiftyone_numbers_the_classes(
    tmp_path: Path, labels: pd.DataFrame
) -> None:
    write_data_set(labels, tmp_path / "hf", "huggingface", NAMES)
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {"train", "test"}
    line = json.loads((tmp_path / "hf" / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line == {
        "file_name": f"{labels['sample_id'].iloc[0]}{Path(labels['uri'].iloc[0]).suffix.lower()}",
        "label": "Käse",
        "sample_id": labels["sample_id"].iloc[0],
    }
    write_data_set(labels, tmp_path / "fo", "fiftyone", NAMES)
    for split, rows in labels.groupby("split"):
        content = json.loads((tmp_path / "fo" / split / "labels.json").read_text(encoding="utf-8"))
        assert {stem: content["classes"][n] for stem, n in content["labels"].items()} == dict(
            zip(rows["sample_id"], rows["label"], strict=True)
        )
        assert {path.stem for path in (tmp_path / "fo" / split / "data").iterdir()} == set(content["labels"])


@pytest.mark.parametrize("place", ["Annotations", "."])
def test_voc_is_read_and_an_image_of_several_classes_is_a_problem(
    tmp_path: Path, labels: pd.DataFrame, place: str
) -> None:
    folder = tmp_path / "voc" / place
    folder.mkdir(parents=True)
    images = (tmp_path / "voc" / "JPEGImages") if place == "Annotations" else folder
    images.mkdir(exist_ok=True)

    def xml(number: int, *names: str) -> None:
        uri = Path(labels["uri"].iloc[number])
        (images / f"img{number}{uri.suffix}").hardlink_to(uri)
        objects = "".join(f"<object><name>{name}</name><bndbox/></object>" for name in names)
        text = f"<annotation><filename>img{number}{uri.suffix}</filename>{objects}</annotation>"
        (folder / f"img{number}.xml").write_text(text, encoding="utf-8")

    xml(0, "Käse", "Käse")
    xml(1)
    xml(2, "x")
    assert detect(tmp_path / "voc") == "voc"
    assert came_back(read_labels(tmp_path / "voc"), labels) == {
        labels["sample_id"].iloc[0]: "Käse",
        labels["sample_id"].iloc[2]: "x",
    }
    xml(3, "x", "Käse")
    (folder / "torn.xml").write_text("<annotation>")
    with pytest.raises(InputError) as refused:
        came_back(read_labels(tmp_path / "voc"), labels)
    assert f"img3.xml: image 'img3.jpg' {SEVERAL}" in str(refused.value)
    assert "torn.xml: image 'torn.xml' is no XML" in str(refused.value)


def test_coco_without_its_images_is_matched_by_path_and_boxes_of_one_class_are_one_label(
    tmp_path: Path, labels: pd.DataFrame
) -> None:
    images = [
        {"id": n, "file_name": f"{Path(uri).parent.name}/{Path(uri).name}"} for n, uri in enumerate(labels["uri"])
    ]
    said = [(0, 5), (0, 5), (1, 6), (2, 5), (2, 6), (3, 9)]
    content = {
        "images": images,
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": [0, 0, 1, 1]} for n, (i, c) in enumerate(said)
        ],
        "categories": [{"id": 5, "name": "x"}, {"id": 6, "name": "a b"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert detect(tmp_path / "c.json") == "coco"
    with pytest.raises(InputError) as refused:
        came_back(read_labels(tmp_path / "c.json"), labels)
    assert f"image '{images[2]['file_name']}' {SEVERAL}" in str(refused.value)
    assert f"image '{images[3]['file_name']}' names a category that the file does not list" in str(refused.value)
    content["annotations"] = content["annotations"][:3]
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert came_back(read_labels(tmp_path / "c.json"), labels) == {
        labels["sample_id"].iloc[0]: "x",
        labels["sample_id"].iloc[1]: "a b",
    }


@pytest.mark.parametrize("kind", [None, "yolo"])
def test_folders_per_split_are_no_classes(tmp_path: Path, labels: pd.DataFrame, kind: str | None) -> None:
    for split, row in zip(("train", "val", "test"), labels.head(3).itertuples(), strict=True):
        (tmp_path / "set" / split / row.label).mkdir(parents=True)
        (tmp_path / "set" / split / row.label / f"any{Path(row.uri).suffix}").hardlink_to(row.uri)
    found = read_labels(tmp_path / "set", kind)  # pyright: ignore[reportArgumentType]
    expected = labels.head(3)
    assert came_back(found, labels) == dict(zip(expected["sample_id"], expected["label"], strict=True))


def test_two_copies_in_two_class_folders_contradict_each_other(tmp_path: Path, labels: pd.DataFrame) -> None:
    for name in ("x", "Käse"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / f"{name}.jpg").hardlink_to(labels["uri"].iloc[0])
    with pytest.raises(InputError, match="says something else than another row"):
        came_back(read_labels(tmp_path / "set"), labels)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_of_hugging_face_is_read_by_its_folder_and_by_itself(
    tmp_path: Path, labels: pd.DataFrame, name: str
) -> None:
    (tmp_path / "hf" / "train").mkdir(parents=True)
    table = pd.DataFrame({"file_name": ["u.jpg"], "label": ["x"]})
    (tmp_path / "hf" / "train" / "u.jpg").hardlink_to(labels["uri"].iloc[0])
    path = tmp_path / "hf" / "train" / name
    table.to_csv(path, index=False) if name.endswith("csv") else table.to_json(path, orient="records", lines=True)
    for given in (tmp_path / "hf", path):
        assert detect(given) == "huggingface"
        assert came_back(read_labels(given), labels) == {labels["sample_id"].iloc[0]: "x"}


def test_a_folder_without_images_holds_no_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no labels in the format folders"):
        read_labels(tmp_path)
    with pytest.raises(InputError, match=r"There is no file or folder .*gone: check the path"):
        read_labels(tmp_path / "gone")
    (tmp_path / "t.csv").write_text("path,label\n1,2\n")
    with pytest.raises(InputError, match=r"t\.csv is a file: the format folders is a folder"):
        read_labels(tmp_path / "t.csv", "folders")
