"""Small pools of features: with duplicates and constant columns, or without any tie."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@st.composite
def grids(draw: st.DrawFn, most: int = 24) -> np.ndarray:
    """Whole numbers: equal rows, equal distances and constant columns are common."""
    n, d = draw(st.integers(1, most)), draw(st.integers(1, 4))
    rows = draw(hnp.arrays(np.int64, (n, d), elements=st.integers(-2, 2)))
    if draw(st.booleans()):
        rows[:, 0] = 1
    return rows.astype(np.float32)


def cloud(n: int, d: int, seed: int, clusters: int = 5) -> np.ndarray:
    """Clusters of different sizes: no two distances are equal."""
    rng = np.random.default_rng(seed)
    centers = 3 * rng.standard_normal((clusters, d))
    which = rng.choice(clusters, size=n, p=np.arange(1, clusters + 1) / np.arange(1, clusters + 1).sum())
    return (centers[which] + rng.standard_normal((n, d))).astype(np.float32)
