"""What came, went or changed is found by names, sizes and moments; what is the same is no reason to scan."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.changes import Changes, compare, stamps
from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.pool import scan

NAMES = ("cat/a.png", "cat/b.png", "dog/c.png", "dog/grün d.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number, 8)).save(path)
    return tmp_path / "photos"


def with_moments(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return a manifest as today's version stores it."""
    return manifest.assign(mtime_ns=[Path(uri).stat().st_mtime_ns for uri in manifest["uri"]])


def look(manifest: pd.DataFrame, root: Path) -> Changes:
    files = list_files(root).files
    return compare(manifest, root, stamps(root, ((each.path, each.problem) for each in files)))


def write_over(path: Path) -> None:
    """Other bytes of the same length, a second later."""
    data, then = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(data[::-1])
    os.utime(path, ns=(then, then + 10**9))


def add(root: Path) -> None:
    Image.new("L", (5, 5)).save(root / "cat" / "new.png")


def grow(root: Path) -> None:
    path = root / NAMES[1]
    path.write_bytes(path.read_bytes() + b"more")


CASES: dict[str, tuple[Callable[[Path], object], tuple[int, int, int]]] = {
    "one came": (add, (1, 0, 0)),
    "one went": (lambda root: (root / NAMES[0]).unlink(), (0, 1, 0)),
    "one grew": (grow, (0, 0, 1)),
    "one was written over": (lambda root: write_over(root / NAMES[2]), (0, 0, 1)),
    "a folder was renamed": (lambda root: (root / "dog").rename(root / "wolf"), (2, 2, 0)),
    "nothing": (lambda root: None, (0, 0, 0)),
    "a file that is no image came": (lambda root: (root / "notes.txt").write_text("x"), (0, 0, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_each_change_is_counted(root: Path, case: str) -> None:
    manifest = with_moments(scan(root))
    before = look(manifest, root)
    act, expected = CASES[case]
    act(root)
    changes = look(manifest, root)
    assert (changes.came, changes.went, changes.changed) == expected
    assert bool(changes) is any(expected)
    assert (changes.digest != before.digest) is any(expected)
    assert (changes.touched > 0) is (expected[0] + expected[2] > 0)


def test_a_manifest_of_before_moments_is_compared_by_names_and_sizes(root: Path) -> None:
    manifest = scan(root)[["sample_id", "uri", "split", "bytes"]]
    assert not look(manifest, root)
    write_over(root / NAMES[2])
    assert not look(manifest, root)
    add(root)
    assert look(manifest, root).came == 1


def test_what_cannot_be_read_is_no_change_for_ever(root: Path) -> None:
    (root / "cat" / "away.png").symlink_to(root / "nowhere.png")
    (root / "cat" / "out.png").symlink_to(root.parent / "out.png")
    (root / "dog" / "broken.png").write_bytes(b"no image")
    manifest = scan(root, max_excluded_share=1)
    assert (manifest["split"] == "excluded").sum() == 3
    assert not look(manifest, root)


def test_a_folder_of_another_name_is_told_as_such(root: Path, tmp_path: Path) -> None:
    manifest = scan(root)
    moved = root.rename(tmp_path / "pictures")
    changes = look(manifest, moved)
    assert (changes.came, changes.went, changes.elsewhere) == (4, 4, True)
    assert changes.sentence == "none of the 4 files of the last scan lies in this folder, it holds 4"


def test_the_sentence_has_the_counts(root: Path) -> None:
    manifest = scan(root)
    add(root)
    (root / "dog" / "c.png").unlink()
    assert look(manifest, root).sentence == "since the last scan 1 file came, 1 file went"
    assert look(scan(root), root).sentence == "as it was scanned, 4 files"
