"""Tables of results for the tests of paired statistics."""

import gc
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

BUDGETS = (100, 200, 300)


@pytest.fixture(autouse=True, scope="module")
def frozen_objects() -> None:
    """Keep what earlier tests imported out of garbage collections: statsmodels runs one per Holm correction."""
    gc.collect()
    gc.freeze()


def table(scores: Mapping[str, npt.ArrayLike], budgets: Sequence[int] = BUDGETS) -> pd.DataFrame:
    """Return a table of results from each strategy's scores, seeds × budgets, with a column that is of no concern."""
    frames = []
    for strategy, values in scores.items():
        grid = np.asarray(values, dtype=np.float64)
        frames.append(
            pd.DataFrame(
                {
                    "strategy": strategy,
                    "seed": np.repeat(np.arange(len(grid)), len(budgets)),
                    "n_labels": np.tile(budgets, len(grid)),
                    "accuracy": grid.ravel(),
                    "seconds": 1.0,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def simulated(
    rng: np.random.Generator, speeds: Mapping[str, float], *, seeds: int, budgets: Sequence[int]
) -> pd.DataFrame:
    """Return a table of noisy curves: a start that the strategies of a seed share, and a holdout of 200 of each run."""
    start = rng.normal(0, 0.02, (seeds, 1)) * np.exp(-np.asarray(budgets) / 300)
    curves = {name: truth(speed, budgets) + start + rng.normal(0, 0.01, start.shape) for name, speed in speeds.items()}
    return table({name: np.round(curve.clip(0, 1) * 200) / 200 for name, curve in curves.items()}, budgets)


def truth(speed: float, budgets: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the mean curve of `simulated`: a rise to 0.95 that takes `speed` labels for 63 % of the way."""
    return 0.95 - 0.35 * np.exp(-np.asarray(budgets) / speed)
