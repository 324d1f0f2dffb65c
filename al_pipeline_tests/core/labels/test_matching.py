"""Labels as people write them find their image and their class, or are told with what may be meant."""

import unicodedata
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from al_pipeline.core.data.pool import content_id
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.formats.brought import Brought, filled
from al_pipeline.core.labels.formats.tables import table_rows
from al_pipeline.core.labels.matching import Classes, Places, matched

IDS = {"a" * 32: "/data/Käse/1.png", "b" * 32: "/data/brot/2.png"}
CLASSES = Classes(["Käse", "brot"])


def match(table: dict[str, list[object]], classes: Classes = CLASSES) -> list[tuple[str, str]]:
    found = Brought("t.csv", table_rows(pd.DataFrame(table), "t.csv"))
    rows, _ = matched(found, Places(IDS), classes, skip_unknown=False)
    return list(zip(rows["sample"], rows["class"], strict=True))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("pool_form", ["NFC", "NFD"])
def test_unicode_and_blanks_do_not_matter(form: Literal["NFC", "NFD"], pool_form: Literal["NFC", "NFD"]) -> None:
    ids = {sample: unicodedata.normalize(pool_form, uri) for sample, uri in IDS.items()}
    written = unicodedata.normalize(form, " Käse/1.png ")
    label = unicodedata.normalize(form, "Käse\t")
    found = Brought("t.csv", table_rows(pd.DataFrame({"path": [written], "label": [label]}), "t.csv"))
    rows, _ = matched(found, Places(ids), CLASSES, skip_unknown=False)
    assert rows[["sample", "class"]].to_numpy().tolist() == [["a" * 32, "Käse"]]


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0", " 1.00 "])
def test_numbers_are_classes_however_a_table_writes_them(label: object) -> None:
    assert match({"path": ["1.png"], "label": [label]}, Classes(["0", "1"])) == [("a" * 32, "1")]


def test_a_class_that_is_named_like_a_float_is_meant_itself() -> None:
    assert match({"path": ["1.png"], "label": ["1.0"]}, Classes(["1", "1.0"])) == [("a" * 32, "1.0")]


def test_windows_paths_and_leading_dots_are_understood() -> None:
    assert match({"path": [r".\brot\2.png"], "label": ["brot"]}) == [("b" * 32, "brot")]


def test_a_former_name_means_the_class_of_today_and_a_removed_one_none() -> None:
    once = ClassSet(("käs", "brot", "wurst")).rename("käs", "Käse").remove("wurst")
    classes = Classes(once.names, once)
    assert [classes.of(name) for name in ("käs", "Käse", "wurst", "brot")] == ["Käse", "Käse", None, "brot"]


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("BROT", "'BROT' (did you mean 'brot'?) is no class of Käse, brot"),
        ("KÄSE", "'KÄSE' (did you mean 'Käse'?)"),
        ("brto", "'brto' (did you mean 'brot'?)"),
        ("xyz", "'xyz' is no class of Käse, brot"),
    ],
)
def test_the_class_that_may_be_meant_is_proposed(label: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        match({"path": ["2.png"], "label": [label]})
    assert told in str(refused.value)


def test_an_image_beside_the_labels_is_known_by_its_content_and_not_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"other")
    ids = {content_id(tmp_path / "1.png"): "/pool/x/7.png", "a" * 32: "/pool/y/1.png"}
    rows = filled([{"place": "1.png", "label": "brot", "path": "1.png", "file": tmp_path / "1.png"}])
    beside, _ = matched(Brought("d", rows, content_first=True), Places(ids), CLASSES, skip_unknown=False)
    assert [ids[sample] for sample in beside["sample"]] == ["/pool/x/7.png"]
    # A table is about the paths that it names; only where they lead nowhere is its neighbour looked at.
    table, _ = matched(Brought("t.csv", rows), Places(ids), CLASSES, skip_unknown=False)
    assert [ids[sample] for sample in table["sample"]] == ["/pool/y/1.png"]
    del ids["a" * 32]
    table, _ = matched(Brought("t.csv", rows), Places(ids), CLASSES, skip_unknown=False)
    assert [ids[sample] for sample in table["sample"]] == ["/pool/x/7.png"]


def test_of_foreign_images_the_classes_do_not_matter_if_they_are_left_out() -> None:
    table = pd.DataFrame({"path": ["9.png", "2.png"], "label": ["owl", "brot"]})
    found = Brought("t.csv", table_rows(table, "t.csv"))
    rows, left_out = matched(found, Places(IDS), CLASSES, skip_unknown=True)
    assert (rows["class"].tolist(), left_out) == (["brot"], 1)
