"""The built-in digits: all there, whole, and the same every time."""

import resource
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from al_pipeline.core.data.datasets import write_digits
from al_pipeline.core.data.pool import class_names, scan
from al_pipeline.core.errors import InputError

TEN = list("0123456789")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


def test_the_digits_are_a_pool_with_a_labeled_holdout(digits: Path) -> None:
    manifest = scan(digits)
    assert manifest["split"].value_counts().to_dict() == {"pool": 1297, "holdout": 500}
    assert class_names(manifest, None, digits) == TEN
    assert set(zip(manifest["width"], manifest["height"], strict=True)) == {(64, 64)}


def test_every_digit_lies_once_in_the_folder_of_its_class(digits: Path) -> None:
    truth = load_digits().target
    placed = {int(path.stem): int(path.parent.name) for path in digits.rglob("*.png")}
    assert placed == dict(enumerate(truth))


def test_the_holdout_has_the_proportions_of_the_classes(digits: Path) -> None:
    held = Counter(path.parent.name for path in (digits / "holdout").rglob("*.png"))
    every = Counter(path.parent.name for path in digits.rglob("*.png"))
    for name in TEN:
        assert held[name] == pytest.approx(every[name] * 500 / 1797, abs=1)


def test_a_picture_is_its_digit_dark_on_white(digits: Path) -> None:
    original = load_digits().images[0]
    path = next(digits.rglob("0000.png"))
    small = np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BOX), dtype=float)
    assert np.corrcoef(small.ravel(), -original.ravel())[0, 1] > 0.95
    assert np.asarray(Image.open(path))[0, 0] == 255


def test_digits_that_are_there_are_left_as_they_are(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    assert write_digits(digits, holdout=100, seed=5) == digits
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_two_writers_at_once_fill_an_empty_folder_with_the_digits_of_one(tmp_path: Path, digits: Path) -> None:
    (tmp_path / "digits").mkdir()
    with ThreadPoolExecutor(2) as pool:
        roots = list(pool.map(lambda root: write_digits(root, holdout=10, seed=1), [tmp_path / "digits"] * 2))
    assert roots == [tmp_path / "digits"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    assert len(list(roots[0].rglob("*.png"))) == 1797
    held = {path.name: path.parent.name for path in (roots[0] / "holdout").rglob("*.png")}
    assert sorted(held.values()) == TEN
    assert not held.keys() <= {path.name for path in (digits / "holdout").rglob("*.png")}, "the seed drew nothing"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_digits(tmp_path / "digits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_kept_and_named(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("in the way")
    with pytest.raises(InputError, match="digits is a file"):
        write_digits(tmp_path / "digits")
    assert (tmp_path / "digits").read_text() == "in the way"


@pytest.mark.parametrize("holdout", [-1, 0, 9, 1788, 5000])
def test_a_holdout_without_all_classes_is_refused(tmp_path: Path, holdout: int) -> None:
    with pytest.raises(InputError, match=f"holdout = {holdout} digits: choose 10 to 1787"):
        write_digits(tmp_path / "digits", holdout=holdout)
