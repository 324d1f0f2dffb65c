"""A refined network is the same every time, also after a kill, and serves where held-out labels speak for it alone."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.checkpoint import build, state_hash
from al_pipeline.core.learning.finetune import Examples, finetune
from al_pipeline.core.learning.head import NEVER, Head, head_logits
from al_pipeline.core.learning.head_training import with_classifier_of
from al_pipeline.core.learning.kept_training import KeptTraining, key_of
from al_pipeline.core.learning.options import TrainingOptions, worth_refining
from al_pipeline.core.learning.predict import embed, predict
from al_pipeline.core.learning.refine import NETWORKS, Refined, refine
from al_pipeline.core.learning.train import untrained
from al_pipeline_tests.core.data.pictures import draw

NAMES = ("black", "white")
LABELS = list(NAMES) * 12
TARGETS = np.array([NAMES.index(label) for label in LABELS], dtype=np.int64)
# What says nothing of the pictures: a head on it can but guess.
NOISE = np.random.default_rng(0).normal(size=(len(LABELS), 512)).astype(np.float32)


class KilledError(Exception):
    """Ends a run between two steps, as a kill would."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return draw(tmp_path_factory.mktemp("pool"), LABELS)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainingOptions:
    quick = TrainingOptions(image_size=16, epochs=1, learning_rate=1e-3, batch_size=8, precision="float32")
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    untrained(NAMES, quick, seed=5, round_number=0).checkpoint.save(path)
    return quick.but(weights=str(path))


@pytest.fixture(scope="module")
def features(paths: list[str], options: TrainingOptions) -> np.ndarray:
    return embed(untrained(NAMES, options, seed=0, round_number=1).checkpoint, paths)


@pytest.fixture(scope="module")
def refined(paths: list[str], options: TrainingOptions, features: np.ndarray) -> Refined:
    return run(paths, options, features)


def run(paths: list[str], options: TrainingOptions, features: np.ndarray, **more: Any) -> Refined:
    return refine(paths, TARGETS, NAMES, options, features=features, seed=3, number=1, labels_hash="abc", **more)


def test_a_refined_network_says_where_it_came_from_and_predicts(refined: Refined, paths: list[str]) -> None:
    info = refined.checkpoint.info
    assert (info.mode, info.trained, info.n_labels, info.labels_hash) == ("finetune", True, len(LABELS), "abc")
    assert predict(refined.checkpoint, paths).shape == (len(LABELS), 2)
    assert refined.evidence.n == len(LABELS)


# Refines in a process of its own, which is killed when the second network is written but for its name.
KILLED = """
import os, pickle, signal, sys
from pathlib import Path

from al_pipeline.core.learning.refine import refine


def killed(path, target, rename=Path.rename):
    if target.name == "network-1.pt":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)


Path.rename = killed
given, named = pickle.load(sys.stdin.buffer)
refine(*given, **named)
"""


def test_neither_the_order_of_the_labels_nor_a_kill_in_between_changes_a_bit(
    refined: Refined, paths: list[str], options: TrainingOptions, features: np.ndarray, tmp_path: Path
) -> None:
    steps = 0

    def counted() -> None:
        nonlocal steps
        steps += 1

    named = {"features": features, "seed": 3, "number": 1, "labels_hash": "abc", "state": tmp_path}
    work = pickle.dumps(((paths, TARGETS, NAMES, options), named))
    assert subprocess.run([sys.executable, "-c", KILLED], input=work, check=False).returncode == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left[1:] == ["network-0.pt"]
    assert left[0].startswith(".network-1.pt."), "all of it is written"
    steps, order = 0, np.random.default_rng(1).permutation(len(LABELS))
    again = refine(
        [paths[i] for i in order],
        TARGETS[order],
        NAMES,
        options,
        features=features[order],
        seed=3,
        number=1,
        labels_hash="abc",
        state=tmp_path,
        give_way=counted,
    )
    # Two steps a network: the first one was done.
    assert steps == 2 * (NETWORKS - 1)
    assert again.checkpoint.hash == refined.checkpoint.hash
    assert again.evidence == refined.evidence


def test_training_goes_on_from_the_last_epoch_that_was_kept(paths: list[str], tmp_path: Path) -> None:
    rng, steps = np.random.default_rng(0), 0
    examples = Examples(torch.from_numpy(rng.integers(0, 256, (8, 16, 16, 3), np.uint8)), torch.from_numpy(TARGETS[:8]))
    options = TrainingOptions(
        image_size=16, epochs=3, batch_size=4, schedule="one_cycle", validation=0.25, precision="float32"
    )

    def trained(kept: KeptTraining | None, last: int = 100) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps, model = 0, build("resnet18", 2, seed=0)

        def counted() -> None:
            nonlocal steps
            steps += 1
            if steps > last:
                raise KilledError

        place = torch.device("cpu")
        finetune(model, examples, options, np.random.default_rng(1), place=place, give_way=counted, kept=kept)
        return model.state_dict()

    at_once, kept = trained(None), KeptTraining(tmp_path / "running.pt", "key")
    assert steps == 6
    with pytest.raises(KilledError):
        trained(kept, last=5)
    goes_on = trained(KeptTraining(kept.path, "key"))
    assert steps == 2
    assert state_hash(goes_on) == state_hash(at_once)


def test_what_is_kept_of_another_run_or_damaged_is_not_there(tmp_path: Path) -> None:
    kept = KeptTraining(tmp_path / "running.pt", "key", every=60)
    assert kept.read() is None
    kept.write({"model": {"weight": torch.ones(2)}, "epoch": 3})
    assert not kept.due
    assert KeptTraining(kept.path, "key").due
    assert (kept.read() or {})["epoch"] == 3
    assert KeptTraining(kept.path, "another").read() is None
    for damaged in (b"", b"PK", kept.path.read_bytes()[:-400]):
        kept.path.write_bytes(damaged)
        assert kept.read() is None
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc")


def test_frozen_norms_keep_their_statistics() -> None:
    options = TrainingOptions(image_size=16, epochs=1, batch_size=4, precision="float32")
    examples = Examples(torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    for frozen in (True, False):
        model = build("resnet18", 2, seed=0)
        rng, place = np.random.default_rng(0), torch.device("cpu")
        finetune(model, examples, options, rng, place=place, frozen_norms=frozen)
        state = model.state_dict()
        assert bool((state["bn1.running_mean"] == 0).all()) is frozen
        assert not torch.equal(state["bn1.weight"], torch.ones(64))


def test_the_network_serves_where_the_head_can_but_guess_and_not_where_the_head_knows(
    paths: list[str], options: TrainingOptions
) -> None:
    learned = run(paths, options.but(epochs=3), NOISE).evidence
    assert learned.better
    assert learned.network.log_loss < learned.head.log_loss
    assert "the network is better, and serves" in learned.sentence
    # Labels that have nothing to do with the pictures, and features that know them.
    drawn = np.random.default_rng(1).permutation(TARGETS)
    known = NOISE + 100 * drawn[:, None].astype(np.float32)
    guessed = refine(paths, drawn, NAMES, options, features=known, seed=3, number=1).evidence
    assert not guessed.better
    assert "the head serves" in guessed.sentence


def test_labels_too_few_to_hold_any_out_speak_for_nothing(
    paths: list[str], options: TrainingOptions, features: np.ndarray
) -> None:
    few = refine(paths[:4], TARGETS[:4], NAMES, options, features=features[:4], seed=3, number=1)
    assert (few.evidence.n, few.evidence.better) == (0, False)
    assert "too few" in few.evidence.sentence


def test_what_cannot_be_refined_is_refused(paths: list[str], options: TrainingOptions, features: np.ndarray) -> None:
    with pytest.raises(InputError, match="weights are none: set training"):
        run(paths, options.but(weights="none"), features)
    with pytest.raises(InputError, match="24 labels, 24 images and 23 features"):
        run(paths, options, features[1:])


def test_a_head_is_averaged_with_the_networks_own_classifier_class_by_class(refined: Refined) -> None:
    rng = np.random.default_rng(0)
    names = ("gray", "white", "black")
    head = Head(rng.normal(size=(3, 512)).astype(np.float32), np.zeros(3, np.float32), 2.0, 30.0, 5)
    network, info = refined.checkpoint.state, refined.checkpoint.info
    mixed = with_classifier_of(refined.checkpoint, head, names)
    seen = rng.normal(size=(4, 512)).astype(np.float32)
    own = head_logits(seen, network["fc.weight"].numpy(), network["fc.bias"].numpy()) / info.temperature
    expected = head_logits(seen, head.weight, head.bias) / 2
    # White and black are the network's second and first class; gray it has never met.
    expected[:, 1:] = (expected[:, 1:] + own[:, ::-1]) / 2
    assert head_logits(seen, mixed.weight, mixed.bias) == pytest.approx(expected, abs=1e-4)
    assert mixed.temperature == 1
    assert with_classifier_of(None, head, names) is head


def test_a_class_that_the_network_had_no_label_of_is_left_to_the_head(refined: Refined) -> None:
    network = refined.checkpoint
    network.state["fc.bias"][1], before = NEVER, network.state["fc.bias"][1].clone()
    head = Head(np.ones((2, 512), np.float32), np.zeros(2, np.float32), 1.0, 30.0, 5)
    mixed = with_classifier_of(network, head, NAMES)
    network.state["fc.bias"][1] = before
    assert mixed.bias[1] == 0
    assert torch.equal(torch.from_numpy(mixed.weight[1]), torch.ones(512))


def test_a_few_labels_more_are_not_worth_another_refining() -> None:
    assert worth_refining(20, 0)
    assert worth_refining(120, 100)
    assert not worth_refining(119, 100)
