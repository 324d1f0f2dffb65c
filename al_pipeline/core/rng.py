"""All randomness comes from one seed: one independent generator per (seed, round, purpose)."""

import hashlib

import numpy as np


def generator(seed: int, round_number: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose in one round; the same three values always give the same stream.

    Parameters
    ----------
    seed : int
        The seed of a loop or a study, >= 0.
    round_number : int
        0, 1, 2, …
    purpose : str
        For example ``"draw"``, ``"query"``, ``"holdout"``, ``"train"``: streams of different purposes are independent.
    """
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([seed, round_number, word]))


def torch_seed(seed: int, round_number: int, purpose: str) -> int:
    """Return a 63-bit seed for ``torch.manual_seed``, drawn from the generator of the same three values."""
    return int(generator(seed, round_number, purpose).integers(0, 2**63 - 1))
