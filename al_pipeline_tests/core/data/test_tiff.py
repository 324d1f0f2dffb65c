"""TIFF: every kind gives the values that were written, and what is not read is refused with its reason."""

from pathlib import Path

import numpy as np
import pytest

from al_pipeline.core.data.images import open_rgb
from al_pipeline_tests.core.data.tiff_kinds import Kind, kinds

KINDS = list(kinds())


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_file_shows_the_values_that_were_written(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "x.tif").write_bytes(kind.data)
    seen = np.asarray(open_rgb(tmp_path / "x.tif"), dtype=np.float64)
    assert seen.shape == kind.picture.shape
    assert np.abs(seen - kind.picture).max() <= kind.within


def test_the_kinds_are_many() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 250
