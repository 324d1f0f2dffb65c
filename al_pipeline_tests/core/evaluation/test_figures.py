"""Pictures are small, whatever they show, and show what they are given."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.evaluation import figures
from al_pipeline.core.evaluation.evaluate import Evaluation, evaluate

KINDS = (figures.roc_curve, figures.confusion_matrix, figures.reliability)


def evaluation_of(names: list[str], *, n: int = 400, strength: float = 1.5, seed: int = 0) -> Evaluation:
    """Evaluate made-up predictions."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(len(names)), rng.integers(0, len(names), max(0, n - len(names)))])
    logits = rng.normal(size=(len(truth), len(names)))
    logits[np.arange(len(truth)), truth] += strength
    odds = np.exp(logits)
    return evaluate(odds / odds.sum(axis=1, keepdims=True), [names[i] for i in truth], names)


def opened(png: bytes) -> Image.Image:
    """Open a picture that is small enough for metadata and large enough to be read."""
    assert len(png) < 100_000
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    assert min(image.size) >= 250
    return image


def share_of(image: Image.Image, color: str, *, tolerance: int = 30) -> float:
    """Return the share of pixels of about this colour."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(np.asarray(image.convert("RGB"), dtype=int) - wanted).max(axis=2) <= tolerance).mean())


@pytest.mark.parametrize("k", [2, 20, 60])
def test_evaluations_of_any_number_of_classes_are_drawn(k: int) -> None:
    result = evaluation_of([f"class {i}" for i in range(k)])
    for draw in KINDS:
        opened(draw(result))


def test_a_thousand_classes_fit_into_a_picture() -> None:
    opened(figures.confusion_matrix(evaluation_of([f"c{i}" for i in range(1000)], n=1500)))


@pytest.mark.parametrize("name", ["price $5 and $6", "寿司", "grüner_Wald^{", "x" * 200, "%d {0}"])
def test_names_are_text_never_markup(name: str) -> None:
    result = evaluation_of([name, "other", "third"])
    for draw in KINDS:
        opened(draw(result))


def test_a_better_network_gives_another_picture() -> None:
    good, bad = (evaluation_of(["a", "b"], strength=strength) for strength in (4, 0))
    for draw in KINDS:
        assert draw(good) == draw(good) != draw(bad)


def test_an_evaluation_without_auc_is_still_drawn() -> None:
    result = evaluate([[0.8, 0.2], [0.6, 0.4]], ["a", "a"], ["a", "b"])
    for draw in KINDS:
        opened(draw(result))


@pytest.mark.parametrize("losses", [[0.7], [2.3, 1.2, 0.4], list(np.linspace(3, 0, 500))])
def test_a_loss_curve_is_drawn_from_one_epoch_on(losses: list[float]) -> None:
    assert share_of(opened(figures.loss_curve(losses)), figures.COLORS[0]) > 0


@pytest.mark.parametrize(
    "certainty", [np.array([]), np.array([0.5]), np.zeros(7), np.random.default_rng(0).random(10**5)]
)
def test_a_histogram_takes_any_number_of_scores(certainty: np.ndarray) -> None:
    opened(figures.score_histogram(certainty))


def test_the_learning_curve_draws_what_is_known() -> None:
    rows = pd.DataFrame(
        {
            "round": ["r0000", "r0001", "r0002"],
            "n_labels": [0, 8, 16],
            "accuracy": [None, 0.7, 0.8],
            "accuracy_low": [None, 0.6, 0.75],
            "accuracy_high": [None, 0.8, 0.85],
            "roc_auc": [None, None, None],
            "roc_auc_low": [None, None, None],
            "roc_auc_high": [None, None, None],
        }
    )
    accuracy_only = opened(figures.learning_curve_picture(rows))
    assert share_of(accuracy_only, figures.COLORS[0]) > 0
    assert share_of(accuracy_only, figures.COLORS[1]) == 0
    both = rows.assign(roc_auc=[0.5, 0.8, 0.9], roc_auc_low=[0.4, 0.7, 0.8], roc_auc_high=[0.6, 0.9, 0.95])
    assert share_of(opened(figures.learning_curve_picture(both)), figures.COLORS[1]) > 0
    opened(figures.learning_curve_picture(rows.iloc[:1]))


def test_a_picture_that_would_be_too_large_loses_colours_not_its_size_limit() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    assert min(len(png) for png in figures._fewer_colors(buffer.getvalue())) < figures.MAX_BYTES
