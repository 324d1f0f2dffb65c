"""Damaged files of every kind: each is used or set aside with a reason, and no process dies, hangs or grows."""

import os
import pickle
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from al_pipeline.core.data.kinds import READ, kind_of
from al_pipeline_tests.core.data import fuzz_worker, hdr_kinds
from al_pipeline_tests.core.data import test_dicom as dicoms
from al_pipeline_tests.core.data import test_formats as formats
from al_pipeline_tests.core.data.kinds_table import KINDS
from al_pipeline_tests.core.data.tiff_kinds import kinds
from al_pipeline_tests.faults.size import size

FILES = size(10_000, ci=400)
# Bytes: a change of a large file is one of its pixels, mostly.
SMALL = 20_000


def corpus() -> dict[str, dict[str, bytes]]:
    """Return small files by kind and name."""
    files: dict[str, dict[str, bytes]] = {}

    def add(name: str, data: bytes) -> None:
        if len(data) < SMALL:
            files.setdefault(str(kind_of(data)), {})[name] = data

    for name, kind in KINDS.items():
        add(name, kind.data)
    for kind in kinds():
        add(f"TIFF {kind.name}", kind.data)
    for name, (make, _, _) in (formats.CASES | hdr_kinds.CASES).items():
        add(name, make())
    small = np.ascontiguousarray(formats.RGB[:32, :32])
    add("HEIC of tiles", formats.heif(np.tile(small, (2, 2, 1)), tile_size=32, quality=50))
    add("JPEG XL of a JPEG", bytes(imagecodecs.jpegxl_encode_jpeg(KINDS["JPEG 4:2:0"].data)))
    for name, (make, _, _) in dicoms.COLOURS.items():
        add(f"DICOM {name}", make())
    for name, (syntax, encode) in dicoms.COMPRESSED.items():
        data = dicoms.dicom(dicoms.GRAY12, syntax=syntax, frames=[encode()], BitsStored=12, HighBit=11)
        add(f"DICOM {name}", data)
    for name in ("SC_rgb_rle.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "image_dfl.dcm", "JPGExtended.dcm"):
        add(name, dicoms.shipped(name))
    return files


def watch(files: dict[str, dict[str, bytes]], folder: Path, number: int, seconds: int = 5) -> tuple[Counter[str], str]:
    """Damage so many files and look at them in a process; return the outcomes, and what went wrong with which."""
    (folder / "corpus").write_bytes(pickle.dumps(files))
    outcomes, bad, most = Counter[str](), list[str](), (0.0, 0.0)
    while (done := outcomes.total()) < number:
        child = subprocess.run(
            [sys.executable, "-m", fuzz_worker.__name__, folder / "corpus", folder, *map(str, (done, number, seconds))],
            capture_output=True, text=True, errors="replace", env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        for line in child.stdout.splitlines():
            i, outcome, name, took, megabytes = line.split("\t")
            outcomes[outcome] += 1
            most = max(most[0], float(took)), max(most[1], float(megabytes))
            if outcome not in ("used", "set aside"):
                bad.append(f"{i}: {name}: {outcome}")
        if child.returncode:
            i = outcomes.total()
            assert i < number, child.stderr
            outcomes["died"] += 1
            bad.append(f"{i}: {fuzz_worker.damaged(i, files)[0]}: died of {-child.returncode}: {child.stderr[-2000:]}")
    print(f"{number} files: {dict(outcomes)}; at most {most[0]:.2f} s and {most[1]:.0f} MB")
    return outcomes, "\n".join(bad)


@pytest.mark.timeout(3600)
def test_damaged_files_are_used_or_set_aside(tmp_path: Path) -> None:
    files = corpus()
    assert files.keys() == READ.keys()
    outcomes, bad = watch(files, tmp_path, FILES)
    assert not bad, f"the files are in {tmp_path}:\n{bad}"
    # Each of the two is met often, or the files are damaged too little, or too much.
    assert min(outcomes["used"], outcomes["set aside"]) > FILES / 10


def test_what_is_watched_for_would_be_seen(tmp_path: Path) -> None:
    deeds = {name.decode(): name for name in fuzz_worker.DEEDS}
    outcomes, bad = watch({fuzz_worker.WATCHED: deeds}, tmp_path, len(deeds), seconds=1)
    assert outcomes["died"] == 2
    died = {0: ("die", signal.SIGABRT), 2: ("loop", signal.SIGXCPU)}
    assert all(f"{i}: {name}: died of {number}:" in bad for i, (name, number) in died.items())
    assert re.search(r"^1: grow: 1\d{3} MB$", bad, re.MULTILINE)
    assert re.search(r"^3: raise: IndexError: list index", bad, re.MULTILINE)
