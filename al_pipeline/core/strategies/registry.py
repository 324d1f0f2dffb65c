"""The registry of query strategies: one decorator adds a strategy, `select` finds it by name."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies.query import Picks

P = ParamSpec("P")

NEEDS = frozenset({"probabilities", "passes", "embeddings"})


@dataclass(frozen=True)
class StrategyInfo:
    """What a person should know before choosing a strategy.

    Attributes
    ----------
    description : str
        One line.
    needs : frozenset of str
        The inputs it cannot do without: ``"probabilities"``, ``"passes"`` (probabilities of several stochastic passes
        or heads), ``"embeddings"``, or none.
    uses : frozenset of str
        These, and the inputs that it makes use of when they are given.
    source : str
        Where the method comes from.
    balanced : bool
        Whether it can give each predicted class an equal share of the batch.
    """

    description: str
    needs: frozenset[str]
    uses: frozenset[str]
    source: str
    balanced: bool


@dataclass(frozen=True)
class Strategy:
    """A registered strategy: its description, its function and the names of its options."""

    info: StrategyInfo
    pick: Callable[..., Picks]
    options: tuple[str, ...]


_registry: dict[str, Strategy] = {}


def strategy(
    *,
    description: str,
    source: str,
    needs: Iterable[str] = ("probabilities",),
    uses: Iterable[str] = (),
    balanced: bool = False,
) -> Callable[[Callable[P, Picks]], Callable[P, Picks]]:
    """Register the decorated function as the query strategy of the same name.

    The function takes the `Query` and, keyword-only and with defaults, its options. It validates their values itself
    and chooses with `Query.take`, which knows about ties and balance (then `balanced` is True), or row by row with
    `Query.admit`.

    Raises
    ------
    InputError
        The name is taken, or `needs` or `uses` name something that `select` cannot supply.
    """
    required = frozenset(needs)
    used = required | frozenset(uses)
    if unknown := used - NEEDS:
        raise InputError(f"a strategy cannot need {sorted(unknown)}; possible needs are {sorted(NEEDS)}")

    def register(pick: Callable[P, Picks]) -> Callable[P, Picks]:
        name = pick.__name__
        if name in _registry:
            raise InputError(f"a query strategy named {name!r} is registered already: rename the new one")
        options = tuple(
            parameter.name
            for parameter in inspect.signature(pick).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        )
        _registry[name] = Strategy(StrategyInfo(description, required, used, source, balanced), pick, options)
        return pick

    return register


def available() -> dict[str, StrategyInfo]:
    """Return every query strategy by name, in the order of registration."""
    return {name: entry.info for name, entry in _registry.items()}


def cold_start(name: str) -> str:
    """Return the strategy that chooses in the place of the named one while there is no model.

    That is the strategy itself if it can do without probabilities, and `random` otherwise.
    """
    return "random" if "probabilities" in find(name, {}).info.needs else name


def find(name: str, options: dict[str, Any]) -> Strategy:
    """Return the strategy of that name.

    Raises
    ------
    InputError
        No strategy has the name, or it does not take one of the options; the message lists the valid ones.
    """
    if name not in _registry:
        raise InputError(f"unknown query strategy {name!r}; choose one of {', '.join(sorted(_registry))}")
    entry = _registry[name]
    if unknown := [option for option in options if option not in entry.options]:
        takes = f"its options are {', '.join(entry.options)}" if entry.options else "it takes no options"
        raise InputError(f"unknown option {unknown[0]!r} for the query strategy {name!r}; {takes}")
    return entry
