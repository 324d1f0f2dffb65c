"""What is worked out of a manifest once is what the manifest says."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.data import known_pool as module
from al_pipeline.core.data.holdout import groups_of
from al_pipeline.core.data.known_pool import KnownPool, Subset, known_pool, read_pool
from al_pipeline.core.data.row_file import as_keys, keys_of, texts_of

ROWS = 7


@pytest.fixture
def manifest() -> pd.DataFrame:
    ids = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}" for number in range(ROWS)]
    looks = [b"%d" % number for number in range(ROWS)]
    rows = {"sample_id": ids, "uri": [f"/images/{i}.png" for i in ids], "bytes": range(ROWS), "thumbnail": looks}
    splits = ["pool", "holdout", "excluded", "pool", "pool", "pool", "holdout"]
    groups = ["b", "b", "b", None, "a", "a", None]
    made = pd.DataFrame(rows | {"split": splits, "reason": None, "group": groups})
    # Read by nobody.
    made.loc[2, ["sample_id", "reason"]] = None, "cut off"
    return made


def test_a_stored_manifest_is_read_once_until_its_file_is_another(manifest: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "image_pool.parquet"
    manifest.to_parquet(path, index=False, row_group_size=4)
    found = read_pool(path)
    kept = pd.read_parquet(path)
    told = [frame.astype(object).where(frame.notna(), None) for frame in (found, kept.drop(columns="thumbnail"))]
    pd.testing.assert_frame_equal(*told)
    assert read_pool(path) is found
    known = known_pool(found)
    assert known_pool(found) is known
    # Read for those who are asked for, when they are.
    assert known.thumbnails([*found["sample_id"][3:5], "unknown"]) == [*kept["thumbnail"][3:5], None]
    # Of a table that anybody may change nothing is kept.
    assert known_pool(found.copy()) is not known
    manifest.head(5).to_parquet(path, index=False)
    os.utime(path, ns=(1, 1))
    assert len(known_pool(read_pool(path)).ids) == 4


def test_processes_share_a_copy_that_is_made_of_this_very_manifest(manifest: pd.DataFrame, tmp_path: Path) -> None:
    def another_process() -> pd.DataFrame:
        module._read.cache_clear()
        return read_pool(path)

    path, copy = tmp_path / "image_pool.parquet", tmp_path / "image_pool.arrow"
    manifest.to_parquet(path, index=False)
    first = another_process()
    written = copy.stat().st_mtime_ns
    pd.testing.assert_frame_equal(another_process(), first)
    assert copy.stat().st_mtime_ns == written
    # Damaged or gone, it is made anew.
    copy.write_bytes(copy.read_bytes()[:-20])
    pd.testing.assert_frame_equal(another_process(), first)
    manifest.head(4).to_parquet(path, index=False)
    assert len(another_process()) == 4
    assert len(another_process()) == 4
    # Where nothing can be written.
    copy.unlink()
    copy.mkdir()
    assert another_process()["uri"].tolist() == manifest["uri"].tolist()[:4]


def test_samples_of_a_pool_are_texts_when_they_are_looked_at(manifest: pd.DataFrame) -> None:
    known = KnownPool(manifest)
    some = Subset(known, np.array([4, 0, 2]))
    expected = known.ids[[4, 0, 2]].tolist()
    assert list(some) == expected
    assert (some[1], list(some[1:]), list(some[np.array([2, 0])])) == (expected[1], expected[1:], expected[::-2])
    assert expected[2] in some
    assert as_keys(some).tolist() == as_keys(expected).tolist()
    assert known.places(some).tolist() == known.places(expected).tolist() == [4, 0, 2]
    assert KnownPool(manifest).places(some).tolist() == [4, 0, 2], "of another table they are looked up"
    found = known.some(pd.Series(expected))
    assert isinstance(found, Subset)
    assert list(found) == expected
    assert known.some(pd.Series([*expected, "unknown"])) == [*expected, "unknown"]


@pytest.mark.parametrize("ids", [["ab" * 16, "cd" * 16], ["ab" * 16, "short"], []])
def test_ids_are_the_same_as_texts_and_as_bytes(ids: list[str]) -> None:
    keys = as_keys(ids)
    assert texts_of(keys).to_pylist() == ids
    assert keys_of(texts_of(keys)).tolist() == keys.tolist()
    assert keys_of(texts_of(keys)[1:]).tolist() == keys[1:].tolist()


def test_samples_are_found_by_place_and_by_id(manifest: pd.DataFrame) -> None:
    known, usable = KnownPool(manifest), manifest[manifest["split"] != "excluded"]
    assert known.ids.tolist() == usable["sample_id"].tolist()
    assert known.aside == [[None, manifest["uri"][2], "cut off"]]
    pool = sorted(usable.loc[usable["split"] == "pool", "sample_id"])
    assert known.ids[known.by_id].tolist() == pool
    assert known.ids[known.pool_without([pool[1], "unknown", manifest["sample_id"][1]])].tolist() == [
        pool[0],
        *pool[2:],
    ]
    assert known.places([manifest["sample_id"][3], "unknown"]).tolist() == [2, -1]
    assert set(known.members) == set(pool)
    assert len(known.members) == len(pool)
    assert manifest["sample_id"][1] not in known.members
    uris = known.column("uri")
    assert dict(uris) == uris.to_dict() == dict(zip(usable["sample_id"], usable["uri"], strict=True))
    assert not known.column("pixels")


def test_a_sample_without_a_group_is_alone(manifest: pd.DataFrame) -> None:
    ids, known = manifest["sample_id"], known_pool(manifest)
    expected = {ids[0]: "b", ids[1]: "b", ids[3]: ids[3], ids[4]: "a", ids[5]: "a", ids[6]: ids[6]}
    assert groups_of(manifest).to_dict() == expected
    assert known.group_numbers.tolist() == [0, 0, 1, 2, 2, 3]
    older = KnownPool(manifest.drop(columns="group"))
    assert dict(older.groups) == {i: i for i in expected}
    assert len(np.unique(older.group_numbers)) == len(expected)


def test_ids_that_begin_alike_are_in_order() -> None:
    ids = [f"{'0' * 16}{number:016x}" for number in (3, 1, 2)]
    known = KnownPool(pd.DataFrame({"sample_id": ids, "split": "pool"}))
    assert known.by_id.tolist() == [1, 2, 0]


def test_the_order_is_that_of_the_ids_however_alike_they_are() -> None:
    ids = np.array(["ab" * 16, "aa" * 16, "aa" * 15 + "ab", "ab" * 16, "abababab" + "0" * 24, "a"], dtype=object)
    rows = {"sample_id": ids, "split": "pool", "uri": "", "reason": None}
    assert KnownPool(pd.DataFrame(rows)).by_id.tolist() == np.argsort(ids, kind="stable").tolist()
    assert not len(KnownPool(pd.DataFrame(rows).head(0)).by_id)
