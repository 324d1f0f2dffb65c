"""One measurement of `select`: `python -m benchmarks.strategies_ours '{"name": …}'`."""

import json
import sys
from typing import Any

import numpy as np

from al_pipeline.core.strategies import available, select
from benchmarks.pools import BATCH, SEED, SIGMA, answer, measure, pool, probabilities


def main() -> None:
    """Measure one call."""
    task = json.loads(sys.argv[1])
    name, n, classes = task["name"], task["n"], task.get("classes", 2)
    options: dict[str, Any] = dict(task.get("options", {}))
    if "herding" in name:
        options.setdefault("radius", SIGMA)
    uses = available()[name].uses

    def generator(candidates: int) -> np.random.Generator:
        """The peer's own stream of random numbers where picks are compared draw by draw."""
        if not task.get("peers_stream"):
            return np.random.default_rng(task.get("seed", SEED))
        seed = (np.random.RandomState(SEED).randint(1, 2**31) * (candidates + 1)) % 2**31
        return np.random.Generator(np.random.RandomState(seed)._bit_generator)  # type: ignore[attr-defined]

    def inputs(candidates: int) -> dict[str, Any]:
        known: dict[str, Any] = {"rng": generator(candidates)}
        if "embeddings" in uses or "dedup" in options:
            known["embeddings"], known["labeled_embeddings"] = pool(candidates)
        if not uses or "probabilities" in uses:
            known["probabilities"] = probabilities(candidates, classes)
        return known

    batch = task.get("batch", BATCH)
    # A small call first: imports and one-time work are nobody's speed.
    select(name, batch_size=BATCH, **inputs(150), **options)
    given = inputs(n)
    held = sum(array.nbytes for array in given.values() if isinstance(array, np.ndarray)) / 2**20
    measured = measure(lambda: select(name, batch_size=batch, **given, **options).indices)
    answer(measured, input_mib=held)


if __name__ == "__main__":
    main()
