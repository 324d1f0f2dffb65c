"""The pool on a plane: features on their two main components, coloured by what is known of each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.classes import translated
from al_pipeline.loop.samples import stored_features
from al_pipeline.web.page.batch import blind

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment

# Of the drawing, in its own units.
WIDTH, HEIGHT, EDGE = 800, 560, 12
# Samples of the pool that are drawn at random, and others of each kind: labeled, scored.
MOST, MOST_OTHERS = 1500, 600
# Labeled images that are shown as like one that was chosen.
NEIGHBOURS = 3
# Classes with a colour of their own; bins of certainty.
COLOURS, BINS = 8, 5
COLOURED = {"label": "label", "guess": "guess", "certainty": "certainty", "chosen": "chosen in this round"}
TEST = "test image"


@dataclass(frozen=True)
class Places:
    """Where samples lie, from 0 to 1 in both directions, and which labeled ones each chosen one is most like."""

    at: Mapping[str, tuple[float, float]]
    near: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Dots:
    """The samples of one colour: its name in the style sheet, what it means, and where they lie in the drawing."""

    style: str
    title: str
    points: list[tuple[float, float, str]]


def places(deployment: "Deployment", key: str) -> Places:
    """Return where a part of the pool lies in a round; it takes seconds. Images without stored features have no place.

    Parameters
    ----------
    deployment : Deployment
    key : str
        Of the round, whose batch, candidates and labels are part of it.
    """
    path, store = deployment.artifacts.image_pool, stored_features(deployment)
    if store is None or not path.exists():
        return Places({}, {})
    ledger, rng = deployment.ledger, generator(deployment.settings.round.seed, round_number(key), "map")
    manifest = pd.read_parquet(path, columns=["sample_id", "split"], filters=[("split", "==", "pool")])
    # In an order that does not depend on where files lie.
    pool = np.sort(manifest["sample_id"].to_numpy(dtype=str))

    def some(ids: Sequence[str], most: int) -> list[str]:
        return [ids[int(i)] for i in rng.permutation(len(ids))[:most]]

    chosen, labeled = _chosen(deployment, key), ledger.frozen_labels(key)["sample_id"].tolist()
    scored = _scores(deployment, key).index.tolist()
    asked = [*some(pool.tolist(), MOST), *some(labeled, MOST_OTHERS), *some(scored, MOST_OTHERS), *chosen]
    ids = list(dict.fromkeys([*asked, *labeled]))
    vectors, found = store.read(ids)
    if found.sum() < 2:
        return Places({}, {})
    there = [each for each, so in zip(ids, found, strict=True) if so]
    vectors, rows = vectors[found].astype(np.float64), {each: row for row, each in enumerate(there)}
    drawn = [each for each in dict.fromkeys(asked) if each in rows]
    plane = _plane(vectors[[rows[each] for each in drawn]])
    near = _near(vectors, rows, [each for each in chosen if each in rows], [each for each in labeled if each in rows])
    return Places({each: (float(x), float(y)) for each, (x, y) in zip(drawn, plane, strict=True)}, near)


def _plane(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the two main components, from 0 to 1; the farthest hundredth lies on the edge."""
    centered = vectors - vectors.mean(axis=0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, :-3:-1]
    # Either direction is as good; the same one every time.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    plane = centered @ axes
    low, high = np.percentile(plane, [0.5, 99.5], axis=0)
    return ((plane - low) / np.maximum(high - low, 1e-12)).clip(0, 1)


def _near(
    vectors: npt.NDArray[np.float64], rows: Mapping[str, int], chosen: Sequence[str], labeled: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    if not labeled:
        return {}
    known = vectors[[rows[each] for each in labeled]]
    found = {}
    for each in chosen:
        distances = ((known - vectors[rows[each]]) ** 2).sum(axis=1)
        nearest = [labeled[i] for i in distances.argsort(kind="stable")[: NEIGHBOURS + 1]]
        found[each] = tuple(other for other in nearest if other != each)[:NEIGHBOURS]
    return found


def coloured(deployment: "Deployment", key: str, by: str, at: Mapping[str, tuple[float, float]]) -> list[Dots]:
    """Return the samples by colour, the many of which nothing is known first.

    Of test images nothing is told but that they are; those that people are still to label are left out.

    Parameters
    ----------
    deployment : Deployment
    key : str
        Of the round.
    by : str
        A name of `COLOURED`.
    at : mapping
        Where samples lie.
    """
    tests, classes, hidden = deployment.ledger.holdout(), deployment.ledger.class_set(), blind(deployment)
    at = {sample: place for sample, place in at.items() if sample not in hidden}
    names = [] if classes is None else list(classes.names)
    if by == "chosen":
        chosen, labels = set(_chosen(deployment, key)), deployment.ledger.frozen_labels(key)["sample_id"]
        known = dict.fromkeys(labels, "labeled before") | dict.fromkeys(chosen, "chosen")
        styles = {"labeled before": "before", "chosen": "chosen"}
    elif by == "certainty":
        certainty = _scores(deployment, key)["certainty"]
        most = max(1 - 1 / max(2, len(names)), float(certainty.max()) if len(certainty) else 0.0)
        bins = (certainty / most * BINS).astype(int).clip(0, BINS - 1)
        titles = [f"{i * most / BINS:.2f} to {(i + 1) * most / BINS:.2f}" for i in range(BINS)]
        known = {str(sample): titles[number] for sample, number in bins.items()}
        styles = {title: f"bin{i}" for i, title in enumerate(titles)}
    else:
        if by == "label":
            found = deployment.ledger.frozen_labels(key).set_index("sample_id")["label"]
        else:
            found = _scores(deployment, key)["predicted"]
        found = (found if classes is None else translated(found, classes)).dropna()
        known = {str(sample): str(name) for sample, name in found.items()}
        styles = {name: f"class{i}" if i < COLOURS else "more" for i, name in enumerate(names)}
    known = {sample: what for sample, what in known.items() if sample not in tests and what in styles}
    return _dots(at, dict.fromkeys(tests, TEST) | known, {TEST: "test"} | styles)


def _dots(at: Mapping[str, tuple[float, float]], known: Mapping[str, str], styles: Mapping[str, str]) -> list[Dots]:
    found: dict[str, list[tuple[float, float, str]]] = {title: [] for title in ("other", *styles)}
    for sample, (x, y) in at.items():
        place = (round(EDGE + x * (WIDTH - 2 * EDGE), 1), round(HEIGHT - EDGE - y * (HEIGHT - 2 * EDGE), 1))
        found[known.get(sample, "other")].append((*place, sample))
    return [Dots(styles.get(title, "other"), title, points) for title, points in found.items() if points]


def _chosen(deployment: "Deployment", key: str) -> list[str]:
    planned = deployment.ledger.planned(key, columns=("sample_id", "purpose"))
    return planned.loc[planned["purpose"].isin(["query", REVIEW]), "sample_id"].tolist()


def _scores(deployment: "Deployment", key: str) -> pd.DataFrame:
    """Return ``predicted, certainty`` of the candidates of a round by sample id; of an untrained model nothing."""
    path, columns = deployment.artifacts.uncertainty_scores / f"{key}.parquet", ["sample_id", "predicted", "certainty"]
    if not path.exists():
        return pd.DataFrame(columns=columns).set_index("sample_id").astype({"certainty": float})
    found = pd.read_parquet(path, columns=[*columns, "trained"])
    return found[found["trained"]].drop(columns="trained").set_index("sample_id")
