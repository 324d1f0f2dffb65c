"""Query strategies: which candidates to ask people about.

    >>> import numpy as np
    >>> from al_pipeline.core.strategies import select
    >>> probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.3, 0.7]])
    >>> select("low_certainty", probabilities=probabilities, batch_size=2, rng=np.random.default_rng(7)).indices
    array([1, 2])

A new strategy is one function in a module of its family, decorated with `registry.strategy` and imported here.
"""

from al_pipeline.core.strategies import certainty as _certainty  # noqa: F401 (registers the family)
from al_pipeline.core.strategies import diversity as _diversity  # noqa: F401
from al_pipeline.core.strategies import hybrid as _hybrid  # noqa: F401
from al_pipeline.core.strategies import uncertainty as _uncertainty  # noqa: F401
from al_pipeline.core.strategies.registry import StrategyInfo, available, cold_start
from al_pipeline.core.strategies.selection import Selection, certainty, select

__all__ = ["Selection", "StrategyInfo", "available", "certainty", "cold_start", "select"]
