"""A table is read however a spreadsheet has saved it."""

from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.formats.read import detect, read_labels

ROWS = [["a/1.png", "Käse"], ["a/2.png", "007"]]


def content(path: Path) -> list[list[str]]:
    return read_labels(path).rows[["path", "label"]].to_numpy().tolist()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_separators_and_encodings_are_recognised(tmp_path: Path, separator: str, encoding: str) -> None:
    lines = [["note", " Path", "LABEL "], ["", *ROWS[0]], ["x", *ROWS[1]], ["", "a/3.png", ""]]
    (tmp_path / "t.csv").write_text("\r\n".join(separator.join(line) for line in lines), encoding=encoding)
    found = read_labels(tmp_path / "t.csv")
    assert found.rows[["path", "label"]].to_numpy().tolist() == ROWS
    assert found.rows["place"].tolist() == ["row 2", "row 3"]
    assert ["cp1252" in remark for remark in found.remarks] == ([True] if encoding == "cp1252" else [])


def test_parquet_and_json_are_read_as_they_are_written(tmp_path: Path) -> None:
    table = pd.DataFrame(ROWS, columns=["uri", "label"])
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.json", orient="records", indent=1)
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for name in ("t.parquet", "t.json", "t.jsonl"):
        assert content(tmp_path / name) == ROWS


def test_numbers_with_gaps_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"path": "1", "label": 3, "annotation_id": 4}, {"path": "2", "label": 2}]')
    rows = read_labels(tmp_path / "t.json").rows
    assert rows[["label", "annotation_id"]].to_numpy().tolist() == [["3", "4"], ["2", None]]


def test_a_file_without_a_known_name_is_read_in_the_format_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.dat").write_text("path,label\na,b\n")
    assert read_labels(tmp_path / "labels.dat", "csv").rows["label"].tolist() == ["b"]
    with pytest.raises(InputError, match=r"labels.dat: labels are read from folders and from \.csv.*--format"):
        detect(tmp_path / "labels.dat")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "", "cannot be read"),
        ("t.csv", "path,label\n1.png,\n", "holds no labels in the format csv"),
        (
            "t.csv",
            "image_path,label\n1.png,cat\n",
            "has the columns image_path, label: name one `label`, and one `path`",
        ),
        ("t.json", '{"a": 1}', "has the columns a: name one `label`"),
        ("t.json", "[1]", "it is no list of records"),
        ("t.parquet", "x", "cannot be read"),
    ],
)
def test_what_holds_no_labels_is_told(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told):
        read_labels(tmp_path / name)
