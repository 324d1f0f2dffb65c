"""BatchBALD: the joint mutual information of a batch's labels and the weights, maximised greedily."""

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from al_pipeline.core.strategies.query import Floats, Proposals, Query
from al_pipeline.core.strategies.utilities import entropy

# Cells of the largest temporary array, 64 MiB.
CELLS = 1 << 23


def joint_information(query: Query, configurations: int) -> Proposals:
    """Propose rows to `Query.take_proposed`, each for its gain in information (nats).

    I(y_1 … y_b; w) = H(y_1 … y_b) − E_w[Σ H(y_i | w)], equations 5 to 12 of Kirsch, van Amersfoort & Gal (2019).
    """
    samples = query.samples
    passes, n, _ = samples.shape
    within = np.mean([entropy(one) for one in samples], axis=0)
    # P(labels of the batch so far | pass), one row per configuration; all of them while they are few, then a sample.
    joint = np.ones((1, passes))
    exact, information = True, 0.0
    open_ = np.ones(n, dtype=bool)
    open_[query.taken] = False
    conditional = 0.0
    while open_.any():
        total = _joint_entropy(samples, joint, exact) - within - conditional
        total[~open_] = -np.inf
        # Rounding must not decide between equals: the first of them does.
        row = int(np.flatnonzero(total >= total.max() - 1e-9)[0])
        open_[row] = False
        if not (yield row, float(total[row] - information)):
            continue
        information, conditional = float(total[row]), conditional + float(within[row])
        joint, exact = _extend(joint, samples[:, row, :].astype(np.float64), exact, configurations, query.rng)


def _joint_entropy(samples: Floats, joint: npt.NDArray[np.float64], exact: bool) -> npt.NDArray[np.float64]:
    """Return H(batch so far, y_i) of every candidate i, shape (n,)."""
    passes, n, classes = samples.shape
    # Drawn configurations are weighed by how likely they were drawn: by their own probability.
    own = joint.mean(axis=1)
    result = np.empty(n)
    rows = max(1, CELLS // (len(joint) * classes))
    for start in range(0, n, rows):
        block = samples[:, start : start + rows, :].astype(np.float64)
        width = block.shape[1]
        probability = joint @ block.reshape(passes, width * classes) / passes
        if exact:
            terms = entr(probability).sum(axis=0)
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                terms = (entr(probability) / own[:, None]).sum(axis=0) / len(joint)
        result[start : start + width] = terms.reshape(width, classes).sum(axis=1)
    return result


def _extend(
    joint: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.float64],
    exact: bool,
    configurations: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float64], bool]:
    """Add a sample's label, `chosen` of shape (T, K), to the configurations."""
    classes = chosen.shape[1]
    if exact and len(joint) * classes <= configurations:
        return (joint[:, None, :] * chosen.T[None, :, :]).reshape(-1, len(chosen)), True
    if exact:
        # From here on configurations are drawn: first those so far, in proportion to their probability.
        own = joint.mean(axis=1)
        joint = joint[rng.choice(len(joint), size=configurations, p=own / own.sum())]
    # The label of each drawn configuration, given what it holds already.
    weights = joint @ chosen / joint.sum(axis=1, keepdims=True)
    label = (rng.random(len(joint))[:, None] > np.cumsum(weights, axis=1)[:, :-1]).sum(axis=1)
    return joint * chosen[:, label].T, False
