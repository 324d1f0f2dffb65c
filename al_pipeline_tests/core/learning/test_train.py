"""Training learns, is the same every time, and refuses what it cannot learn from."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data.framing import BORDER
from al_pipeline.core.errors import ImageError, InputError
from al_pipeline.core.learning import checkpoint as checkpoint_module
from al_pipeline.core.learning import train as train_module
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.finetune import OPTIMIZERS, TrainingError, batches
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import predict
from al_pipeline.core.learning.train import TrainingResult, train, untrained
from al_pipeline_tests.core.data.pictures import draw

NAMES = ("black", "white")
LABELS = ["black", "white"] * 6
QUICK = TrainingOptions(image_size=16, epochs=2, learning_rate=1e-3, batch_size=8)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return draw(tmp_path_factory.mktemp("pool"), LABELS)


@pytest.fixture(scope="module")
def trained(paths: list[str]) -> TrainingResult:
    torch.manual_seed(1)
    return train(paths, LABELS, NAMES, QUICK, seed=3, round_number=1)


def test_training_sees_what_predictions_will_see(tmp_path: Path) -> None:
    """Whole pictures of 3:1 with a border, as if somebody had put it there by hand."""
    rng = np.random.default_rng(0)
    wide, bordered = [str(tmp_path / f"wide-{i}.png") for i in range(4)], [str(tmp_path / f"{i}.png") for i in range(4)]
    for one, other in zip(wide, bordered, strict=True):
        pixels, square = rng.integers(0, 256, (6, 18, 3), dtype=np.uint8), np.full((18, 18, 3), BORDER, dtype=np.uint8)
        square[6:12] = pixels
        Image.fromarray(pixels).save(one)
        Image.fromarray(square).save(other)
    options = TrainingOptions(image_size=18, epochs=1, batch_size=4)
    found = {
        framing: train(paths, LABELS[:4], NAMES, options.but(framing=framing), seed=0, round_number=1).checkpoint
        for framing, paths in (("pad", wide), ("auto", bordered), ("crop", wide))
    }
    assert [found[name].info.framing for name in ("pad", "auto", "crop")] == ["pad", "crop", "crop"]
    assert found["pad"].hash == found["auto"].hash != found["crop"].hash


def test_it_learns_to_tell_black_from_white(paths: list[str], tmp_path: Path) -> None:
    options = TrainingOptions(image_size=16, epochs=6, learning_rate=1e-3, batch_size=6)
    seen: list[tuple[int, float]] = []
    result = train(
        paths,
        LABELS,
        NAMES,
        options,
        seed=0,
        round_number=1,
        labels_hash="abc",
        progress=lambda epoch, loss: seen.append((epoch, loss)),
    )
    fresh = draw(tmp_path / "fresh", LABELS, seed=9)
    right = predict(result.checkpoint, fresh).argmax(axis=1) == [NAMES.index(label) for label in LABELS]
    assert right.all()
    assert seen == list(enumerate(result.losses, start=1))
    assert len(seen) == 6
    assert result.losses[-1] < 0.5 * result.losses[0]
    info = result.checkpoint.info
    assert (info.trained, info.n_labels, info.labels_hash, info.round) == (True, 12, "abc", 1)
    assert result.n_parameters == 11_177_538  # ResNet-18's 11,689,512 with 2 instead of 1,000 classes
    assert result.seconds > 0


def test_neither_the_order_of_the_rows_nor_their_place_nor_torchs_generator_matters(
    trained: TrainingResult, paths: list[str], tmp_path: Path
) -> None:
    moved = [shutil.copy(path, tmp_path / f"{len(paths) - i}.png") for i, path in enumerate(paths)]
    order = np.random.default_rng(1).permutation(len(paths))
    torch.manual_seed(2)
    same = train([moved[i] for i in order], [LABELS[i] for i in order], NAMES, QUICK, seed=3, round_number=1)
    assert same.checkpoint.info == trained.checkpoint.info
    assert same.losses == trained.losses


def test_another_round_gives_another_network_and_so_does_another_seed(
    trained: TrainingResult, paths: list[str]
) -> None:
    other = train(paths, LABELS, NAMES, QUICK, seed=3, round_number=2)
    starts = {untrained(NAMES, QUICK, seed=seed, round_number=1).checkpoint.hash for seed in (3, 4)}
    assert len({trained.checkpoint.hash, other.checkpoint.hash, *starts}) == 4


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_moves_the_weights(paths: list[str], optimizer: Any) -> None:
    options = TrainingOptions(image_size=16, epochs=1, learning_rate=1e-3, optimizer=optimizer)
    start = untrained(NAMES, options, seed=0, round_number=0).checkpoint.state
    end = train(paths[:4], LABELS[:4], NAMES, options, seed=0, round_number=0).checkpoint.state
    assert not torch.equal(start["fc.weight"], end["fc.weight"])
    assert all(value.isfinite().all() for value in end.values())


def test_an_untrained_checkpoint_is_where_training_starts_and_says_so() -> None:
    result = untrained(NAMES, QUICK, seed=3, round_number=1)
    info = result.checkpoint.info
    assert (info.trained, info.n_labels, info.labels_hash, result.losses) == (False, 0, "", [])
    assert result.checkpoint.hash == untrained(NAMES, QUICK, seed=3, round_number=1).checkpoint.hash


@pytest.mark.parametrize("names", [NAMES, ("black", "gray", "white")])
def test_a_head_on_a_start_that_is_there_is_the_same_to_the_bit_and_builds_and_hashes_no_network_again(
    names: tuple[str, ...], paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "start.safetensors"
    untrained(NAMES, QUICK, seed=5, round_number=0).checkpoint.save(weights)
    options = QUICK.but(weights=str(weights), mode="head")
    features = np.random.default_rng(0).normal(size=(len(LABELS), 512)).astype(np.float32)
    given: dict[str, Any] = {"seed": 3, "round_number": 4, "labels_hash": "x", "features": features}
    anew = train(paths, LABELS, names, options, **given)
    start = untrained(("0", "1"), options, seed=3, round_number=0)
    hashed: list[int] = []
    state_hash = checkpoint_module.state_hash

    def noted(state: Any) -> str:
        hashed.append(len(state))
        return state_hash(state)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the network is there already")

    monkeypatch.setattr(checkpoint_module, "state_hash", noted)
    monkeypatch.setattr(train_module, "state_hash", noted)
    monkeypatch.setattr(train_module, "build", never)
    found = train(paths, LABELS, names, options, **given, start=start)
    assert len(hashed) == 1
    assert found.checkpoint.info == anew.checkpoint.info
    assert list(found.checkpoint.state) == list(anew.checkpoint.state)
    assert state_hash(found.checkpoint.state) == found.checkpoint.info.weights_hash, "what it says of itself is so"
    found.checkpoint.save(tmp_path / "found.safetensors")
    assert Checkpoint.load(tmp_path / "found.safetensors").hash == anew.checkpoint.hash
    assert found.n_parameters == anew.n_parameters
    with pytest.raises(InputError, match=r"at 16 px, and the options say .* 32 px: give what `untrained` returns"):
        train(paths, LABELS, names, options.but(image_size=32), **given, start=start)


def test_a_last_single_image_does_not_break_batch_normalisation(paths: list[str]) -> None:
    assert train(paths[:9], LABELS[:9], NAMES, QUICK, seed=0, round_number=0).checkpoint.info.n_labels == 9


@given(n=st.integers(2, 200), size=st.integers(2, 50))
def test_batches_cover_everything_once_and_none_is_single(n: int, size: int) -> None:
    order = np.random.default_rng(n).permutation(n)
    cut = batches(order, size)
    assert np.array_equal(np.concatenate(cut), order)
    assert all(2 <= len(batch) <= size + 1 for batch in cut)
    assert all(len(batch) == size for batch in cut[:-1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["black", "white", "cat"], "outside of the classes: 'cat'; the classes are black, white"),
        (["black", "black", "black"], "at least 2 classes; 3 labels name black"),
        (["black", "white"], "3 images but 2 labels"),
    ],
)
def test_labels_that_cannot_be_learned_from_are_refused(paths: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(paths[:3], labels, NAMES, QUICK, seed=0, round_number=0)


def test_an_image_that_broke_after_the_scan_is_an_error(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError):
        train([*paths[:11], str(tmp_path / "empty.png")], LABELS, NAMES, QUICK, seed=0, round_number=0)


def test_a_loss_that_runs_off_is_an_error_and_no_checkpoint(paths: list[str]) -> None:
    options = TrainingOptions(image_size=16, epochs=5, learning_rate=1e30, optimizer="sgd", batch_size=4)
    with pytest.raises(TrainingError, match=r"The loss became (nan|inf) in epoch \d of 5 with sgd.*lower"):
        train(paths, LABELS, NAMES, options, seed=0, round_number=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"architecture": "vgg"}, "unknown architecture 'vgg'; choose one of resnet18"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; choose one of adam, adamw, sgd"),
        ({"image_size": 8}, "image_size must be a whole number from 16 to 1024, or none, not 8"),
        ({"epochs": 0}, "epochs .* not 0"),
        ({"epochs": 2.5}, "epochs .* not 2.5"),
        ({"batch_size": 1}, "batch_size .* from 2 to 10000, not 1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "not nan"),
    ],
)
def test_options_out_of_range_say_what_is_allowed(option: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingOptions(**option)
