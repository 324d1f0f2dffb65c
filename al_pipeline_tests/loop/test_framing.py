"""`auto` goes by the pool once; after that a home keeps to its last checkpoint, and whatever was set comes first."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch

from al_pipeline.core.data.framing import Framing
from al_pipeline.core.learning.checkpoint import INFO_KEY
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.framing import settle_framing
from al_pipeline_tests.web.checkpoints import checkpoint

WIDE, SQUARE, LONG = (1920, 1080), (500, 400), (3000, 1000)
AUTO = TrainingOptions(image_size=32)


def manifest(*shapes: tuple[int, int], split: str = "pool") -> pd.DataFrame:
    return pd.DataFrame(shapes, columns=["width", "height"]).assign(split=split)


def settled(pool: pd.DataFrame, home: Path, training: TrainingOptions = AUTO) -> tuple[str, str]:
    options, said = settle_framing(training, pool, Artifacts(home / "artifacts"))
    assert options == training.but(framing=options.framing)
    return options.framing, said


def store(home: Path, number: int, framing: Framing) -> Path:
    made = checkpoint(number, ["a", "b"])
    path = home / "artifacts" / "checkpoint" / f"r{number:04d}.safetensors"
    replace(made, info=replace(made.info, framing=framing)).save(path)
    return path


@pytest.mark.parametrize(
    ("shapes", "framing", "said"),
    [
        ([SQUARE, SQUARE, LONG], "crop", "Framing is crop: a crop shows 80% of the median image of the pool"),
        ([SQUARE, WIDE, LONG], "pad", "Framing is pad: a crop shows 56% of the median image of the pool"),
    ],
)
def test_a_new_home_goes_by_its_pool(
    tmp_path: Path, shapes: Sequence[tuple[int, int]], framing: str, said: str
) -> None:
    others = [manifest(LONG, LONG, LONG, split=split) for split in ("holdout", "excluded")]
    assert settled(pd.concat([manifest(*shapes), *others]), tmp_path) == (framing, said)


def test_what_was_set_comes_first(tmp_path: Path) -> None:
    store(tmp_path, 0, "pad")
    assert settled(manifest(LONG), tmp_path, AUTO.but(framing="squeeze")) == ("squeeze", "Framing is squeeze, as set")


def test_a_home_keeps_to_its_last_checkpoint_and_says_what_would_suit_it(tmp_path: Path) -> None:
    store(tmp_path, 0, "squeeze")
    store(tmp_path, 1, "pad")
    assert settled(manifest(LONG), tmp_path) == ("pad", "Framing is pad, as in r0001")
    framing, said = settled(manifest(SQUARE), tmp_path)
    assert framing == "pad"
    assert said.endswith("as in r0001; a crop shows 80% of the median image of the pool: crop suits it, if "
                         "training.framing is set to that")  # fmt: skip


def test_a_home_from_before_there_was_a_choice_goes_on_with_crops(tmp_path: Path) -> None:
    path = store(tmp_path, 3, "pad")
    with safetensors.safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()[INFO_KEY])
    del told["framing"]
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {INFO_KEY: json.dumps(told)})
    assert settled(manifest(LONG), tmp_path)[0] == "crop"


def test_a_damaged_checkpoint_keeps_no_round_from_replacing_it(tmp_path: Path) -> None:
    store(tmp_path, 0, "squeeze")
    store(tmp_path, 1, "pad").write_bytes(b"")
    (tmp_path / "artifacts" / "checkpoint" / "mine.safetensors").write_bytes(b"")
    assert settled(manifest(SQUARE), tmp_path)[0] == "squeeze"
