"""One seed, independent streams."""

import numpy as np

from al_pipeline.core.rng import generator, torch_seed


def test_the_same_three_values_give_the_same_stream() -> None:
    assert (
        generator(7, 3, "draw").integers(2**62, size=8).tolist()
        == generator(7, 3, "draw").integers(2**62, size=8).tolist()
    )
    assert torch_seed(7, 3, "train") == torch_seed(7, 3, "train")


def test_another_seed_round_or_purpose_gives_another_stream() -> None:
    streams = {
        tuple(generator(seed, number, purpose).integers(2**62, size=4))
        for seed in range(4)
        for number in range(4)
        for purpose in ("draw", "query", "holdout", "train")
    }
    assert len(streams) == 64


def test_streams_are_uncorrelated() -> None:
    a, b = generator(0, 1, "draw").random(20_000), generator(0, 1, "query").random(20_000)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
