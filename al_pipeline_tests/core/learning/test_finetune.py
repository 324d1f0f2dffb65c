"""Every choice of fine-tuning does what it says, and the same seed gives the same weights in any process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.augment import augmented, strong, weak
from al_pipeline.core.learning.calibration import fit_temperature, softmax
from al_pipeline.core.learning.checkpoint import MEAN, STD, Checkpoint, build, normalize
from al_pipeline.core.learning.finetune import Examples, compute_precision, finetune
from al_pipeline.core.learning.folds import validation_split
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict, predict_features
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.thresholds import fit_thresholds
from al_pipeline.core.learning.train import TrainingResult, Unlabeled, train, untrained
from al_pipeline_tests.core.data.pictures import draw

NAMES = ("black", "gray", "white")
LABELS = ["black", "gray", "white"] * 4
# The precision is named: by itself it depends on the processor.
QUICK = TrainingOptions(image_size=16, epochs=2, learning_rate=1e-3, batch_size=6, precision="float32")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return draw(tmp_path_factory.mktemp("pool"), LABELS)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return draw(tmp_path_factory.mktemp("others"), LABELS * 2, seed=1)


@pytest.fixture(scope="module")
def weights(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights that have seen such pictures before."""
    options = QUICK.but(epochs=10)
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    train(paths, LABELS, NAMES, options, seed=9, round_number=0).checkpoint.save(path)
    return str(path)


def fit(paths: list[str], labels: list[str] = LABELS, *, more: dict[str, Any] | None = None, **options: Any):
    return train(paths, labels, NAMES, QUICK.but(**options), seed=3, round_number=1, **(more or {}))


def test_a_tiny_set_is_learned_by_heart(paths: list[str]) -> None:
    result = fit(paths, epochs=12)
    assert (predict(result.checkpoint, paths).argmax(axis=1) == [NAMES.index(label) for label in LABELS]).all()


def weights_hashes(paths: list[str], weights: str) -> list[str]:
    """Train by both modes, and return the hashes of what was learned."""
    options = TrainingOptions(
        image_size=16, epochs=1, batch_size=6, weights=weights, augmentation="crop", validation=0.25
    )
    return [
        train(paths, LABELS, NAMES, options.but(mode=mode), seed=3, round_number=1).checkpoint.info.weights_hash
        for mode in ("finetune", "head")
    ]


def test_the_same_seed_gives_the_same_bits_in_a_fresh_process(paths: list[str], weights: str) -> None:
    program = (
        f"import json, sys; from {__name__} import weights_hashes; print(*weights_hashes(*json.loads(sys.argv[1])))"
    )
    # Threads that share a sum are what could make a difference.
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([paths, weights])],
        env=os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[3])},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    ours = weights_hashes(paths, weights)
    assert done.stdout.split() == ours
    assert len(set(ours)) == 2


def test_a_head_is_written_into_an_ordinary_resnet(paths: list[str], others: list[str], weights: str) -> None:
    result = fit(paths, mode="head", weights=weights)
    start = untrained(NAMES, QUICK.but(weights=weights), seed=0, round_number=0).checkpoint
    info = result.checkpoint.info
    assert info.mode == "head"
    assert info.backbone_hash == start.info.backbone_hash
    np.testing.assert_allclose(
        predict(result.checkpoint, others), predict_features(result.checkpoint, embed(start, others)), atol=1e-5
    )
    assert (predict(result.checkpoint, paths).argmax(axis=1) == [NAMES.index(label) for label in LABELS]).all()


def test_a_head_needs_no_image_where_features_are_given(paths: list[str], weights: str) -> None:
    start = untrained(NAMES, QUICK.but(weights=weights), seed=0, round_number=0).checkpoint
    gone = [f"{path}.gone" for path in paths]
    result = fit(gone, mode="head", weights=weights, more={"features": embed(start, paths)})
    assert result.checkpoint.hash == fit(paths, mode="head", weights=weights).checkpoint.hash


@pytest.mark.parametrize(
    ("options", "each", "device", "expected"),
    [
        ({}, 100, "cpu", "finetune"),
        ({"weights": "x.pt"}, 100, "cpu", "head"),
        ({"weights": "x.pt"}, 100, "cuda", "finetune"),
        ({"weights": "x.pt"}, 9, "cuda", "head"),
        ({"weights": "x.pt", "semi_supervised": "fixmatch"}, 9, "cpu", "finetune"),
        ({"weights": "x.pt", "warm_start": True}, 9, "cpu", "finetune"),
        ({"weights": "x.pt", "mode": "finetune"}, 9, "cpu", "finetune"),
    ],
)
def test_auto_chooses_the_mode(options: dict[str, Any], each: int, device: str, expected: str) -> None:
    assert TrainingOptions(**options).resolve_mode([each, each, 0], device) == expected


def test_one_label_of_a_new_class_does_not_choose_the_mode() -> None:
    options = TrainingOptions(weights="x.pt")
    assert options.resolve_mode([200, 200, 200, 1], "cuda") == "finetune"
    assert options.resolve_mode([200, 4, 4, 4], "cuda") == "head"


def test_with_a_validation_share_the_best_epoch_is_kept_and_the_temperature_fitted(paths: list[str]) -> None:
    result = fit(paths, epochs=12, validation=0.25, patience=3, learning_rate=3e-3)
    assert result.fit is not None
    losses = result.fit.validation_losses
    assert result.fit.kept_epoch == 1 + int(np.argmin(losses))
    assert len(losses) <= result.fit.kept_epoch + 3
    assert result.checkpoint.info.temperature == result.fit.temperature != 1


def test_the_temperature_is_fitted_to_predictions_as_they_are_made() -> None:
    """With `test_time_flip` those are the mean over an image and its mirror image."""
    rng = np.random.default_rng(5)
    targets = np.arange(48) % 3
    # The left half alone tells the class, and not in every image.
    noisy = rng.integers(0, 256, (48, 16, 16, 3))
    noisy[:36, :, :8] = 60 + 70 * targets[:36, None, None, None]
    pixels = torch.from_numpy(noisy.astype(np.uint8))
    options = QUICK.but(epochs=8, validation=0.5, test_time_flip=True)
    model = build("resnet18", 3, seed=1)
    result = finetune(
        model, Examples(pixels, torch.from_numpy(targets)), options, np.random.default_rng(7), place=torch.device("cpu")
    )
    _, held = validation_split(targets, 0.5, np.random.default_rng(7))
    with torch.inference_mode():
        seen = [model.eval()(normalize(images, MEAN, STD)).numpy() for images in (pixels[held], pixels[held].flip(2))]
    assert result.temperature == pytest.approx(fit_temperature((seen[0] + seen[1]) / 2, targets[held]), rel=1e-3)
    assert result.temperature != pytest.approx(fit_temperature(seen[0], targets[held]), rel=1e-3)


def test_thresholds_are_fitted_on_the_validation_share_where_classes_are_weighed() -> None:
    rng = np.random.default_rng(5)
    targets = np.r_[np.zeros(66, np.int64), np.ones(6, np.int64)]
    # The network stays as it was drawn: on any machine it takes all for one class, a threshold parts black from grey.
    grey = rng.integers(60, 90, 72) - 60 * targets
    pixels = torch.from_numpy(np.broadcast_to(grey[:, None, None, None], (72, 16, 16, 3)).astype(np.uint8))
    found = {}
    for word in ("auto", "false"):
        options = QUICK.but(epochs=1, validation=0.5, class_weights=word, learning_rate=1e-9)
        model, labeled = build("resnet18", 2, seed=1), Examples(pixels, torch.from_numpy(targets))
        result = finetune(model, labeled, options, np.random.default_rng(7), place=torch.device("cpu"))
        _, held = validation_split(targets, 0.5, np.random.default_rng(7))
        with torch.inference_mode():
            logits = model.eval()(normalize(pixels[held], MEAN, STD)).numpy()
        found[word] = result.thresholds, fit_thresholds(softmax(logits, result.temperature), targets[held])
    assert found["auto"][0] == pytest.approx(found["auto"][1])
    assert found["auto"][0] != ()
    assert found["false"][0] == ()


def test_a_validation_share_never_takes_the_last_label_of_a_class() -> None:
    targets = np.array([0] * 20 + [1] * 5 + [2])
    learned, held = validation_split(targets, 0.4, np.random.default_rng(0))
    assert sorted([*learned, *held]) == list(range(26))
    assert np.bincount(targets[held], minlength=3).tolist() == [8, 2, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "one_cycle", "optimizer": "adamw"},
        {"clip_norm": 1e-6},
        {"class_weights": True},
        {"augmentation": "crop_flip"},
        {"precision": "bfloat16"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_each_option_changes_the_weights_and_still_learns_the_same_every_time(
    paths: list[str], options: dict[str, Any]
) -> None:
    labels = [*LABELS[:-1], "black"]
    plain, first, second = (fit(paths, labels, epochs=1, **more) for more in ({}, options, options))
    assert plain.checkpoint.hash != first.checkpoint.hash
    assert first.checkpoint.hash == second.checkpoint.hash
    assert all(np.isfinite(first.losses))


def test_the_weights_are_the_same_whatever_the_number_of_threads(paths: list[str]) -> None:
    found = []
    with computing_on(torch.get_num_threads()):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(fit(paths, epochs=1).checkpoint.hash)
            assert torch.get_num_threads() == threads
    assert found[0] == found[1]
    # It is the fixed number that does it: another one gives other bits.
    assert fit(paths, epochs=1, threads=2).checkpoint.hash != found[0]


def test_clipping_holds_the_weights_back(paths: list[str]) -> None:
    start = untrained(NAMES, QUICK, seed=3, round_number=1).checkpoint.state["fc.weight"]
    far, near = (
        float((fit(paths, optimizer="sgd", clip_norm=norm).checkpoint.state["fc.weight"] - start).norm())
        for norm in (None, 1e-3)
    )
    assert 0 < near < far / 10


@pytest.mark.parametrize(
    ("has", "expected"), [("avx2", torch.float32), ("avx512_bf16", torch.bfloat16), ("amx_bf16", torch.bfloat16)]
)
def test_the_processor_chooses_the_precision(has: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True})
    cpu = torch.device("cpu")
    assert compute_precision("auto", cpu) == expected
    assert compute_precision("bfloat16", cpu) == torch.bfloat16


def test_augmented_images_are_new_and_torchs_generator_is_left_alone() -> None:
    images = torch.arange(9 * 16 * 16 * 3).reshape(9, 16, 16, 3).remainder(251).to(torch.uint8)
    state = torch.random.get_rng_state()
    for augment in (weak("crop", 16), weak("crop_flip", 16), strong(16)):
        assert augment is not None
        first, second = (augmented(images, augment, np.random.default_rng(seed)) for seed in (0, 0))
        assert first.shape == images.shape
        assert first.dtype == torch.uint8
        assert torch.equal(first, second)
        assert not torch.equal(first, images)
        assert not torch.equal(first, augmented(images, augment, np.random.default_rng(1)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert weak("none", 16) is None


def test_a_warm_start_goes_on_where_the_last_round_ended(paths: list[str]) -> None:
    cold = fit(paths)
    warm = fit(paths, warm_start=True, more={"previous": cold.checkpoint})
    assert warm.losses[0] < cold.losses[0]
    # Without a last round it is a cold one.
    assert fit(paths, warm_start=True).checkpoint.hash == cold.checkpoint.hash


def test_a_class_that_is_new_gets_a_row_of_its_own(paths: list[str]) -> None:
    known = [label for label in LABELS if label != "gray"]
    some = [path for path, label in zip(paths, LABELS, strict=True) if label != "gray"]
    before = train(some, known, ("black", "white"), QUICK, seed=3, round_number=0).checkpoint
    result = fit(paths, warm_start=True, epochs=12, more={"previous": before})
    assert result.checkpoint.info.class_names == NAMES
    assert (predict(result.checkpoint, paths).argmax(axis=1) == [NAMES.index(label) for label in LABELS]).mean() > 0.6
    assert result.unseen == ()
    assert fit(some, known).unseen == ("gray",)


def test_another_architecture_cannot_be_started_from(paths: list[str]) -> None:
    before = fit(paths).checkpoint
    other = Checkpoint(replace(before.info, architecture="resnet34"), before.state)
    with pytest.raises(InputError, match=r"a warm start of resnet18 .* round 1, a resnet34.*training\.warm_start"):
        fit(paths, warm_start=True, more={"previous": other})


@pytest.mark.parametrize(
    ("arm", "mode"),
    [
        ("pseudo_label", "finetune"),
        ("pseudo_label", "head"),
        ("label_propagation", "finetune"),
        ("label_propagation", "head"),
        ("fixmatch", "finetune"),
    ],
)
def test_unlabeled_samples_are_learned_from(
    paths: list[str], others: list[str], weights: str, arm: str, mode: str
) -> None:
    options = {"mode": mode, "weights": weights, "semi_supervised": arm, "confidence": 0.6, "epochs": 1}
    results: list[TrainingResult] = [
        fit(paths, **options, more={"unlabeled": Unlabeled(others[:n])}) for n in (12, 12, 3)
    ]
    assert results[0].checkpoint.info.semi_supervised == arm
    assert results[0].checkpoint.hash == results[1].checkpoint.hash
    assert results[0].checkpoint.hash != results[2].checkpoint.hash
    if arm != "fixmatch":
        assert 0 < results[0].n_guessed <= 12


def test_semi_supervised_learning_without_unlabeled_samples_is_refused(paths: list[str]) -> None:
    with pytest.raises(InputError, match=r"pseudo_label learns from unlabeled samples too, and none were given"):
        fit(paths, semi_supervised="pseudo_label")


def test_features_and_labels_must_be_as_many(paths: list[str], weights: str) -> None:
    with pytest.raises(InputError, match="12 labels but 5 features"):
        fit(paths, mode="head", weights=weights, more={"features": np.ones((5, 512), np.float32)})


def test_features_of_another_network_are_refused(paths: list[str], weights: str) -> None:
    checkpoint = fit(paths, mode="head", weights=weights).checkpoint
    with pytest.raises(InputError, match=r"features of shape \(2, 2048\) are not of this checkpoint's resnet18"):
        predict_features(checkpoint, np.ones((2, 2048), np.float32))


class LittleMemory(torch.nn.Module):
    """A classifier on a device that holds no more than eight images at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = torch.nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.classify(images.mean(dim=(2, 3)))


def test_when_memory_runs_out_the_batch_is_halved_and_training_starts_anew() -> None:
    images = torch.randint(0, 255, (40, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    examples = Examples(images, torch.arange(40) % 2)
    model = LittleMemory()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    states = []
    for batch_size in (32, 8):
        model.load_state_dict(start)
        options = QUICK.but(batch_size=batch_size)
        found = finetune(model, examples, options, np.random.default_rng(0), place=torch.device("cpu"))
        assert found.batch_size == 8
        states.append(model.classify.weight.detach().clone())
    assert torch.equal(*states)
