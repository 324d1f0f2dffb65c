"""Settings of which each works, but not both: what to say, with the remedy."""

from typing import TYPE_CHECKING

from al_pipeline.core.data.places import Place, place_of
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning import compute
from al_pipeline.settings.addresses import bucket_of

if TYPE_CHECKING:
    from al_pipeline.settings import Settings


def conflict(settings: "Settings") -> str | None:
    """Return why settings do not go together, and which to change; None if they do."""
    one_key, grid = settings.submit == "key", f"grid {settings.grid}" if settings.grid > 1 else ""
    if settings.policy.min_votes > settings.overlap:
        return (
            f"policy.min_votes {settings.policy.min_votes} is more than overlap {settings.overlap}: no sample would "
            "ever get enough votes; raise AL_OVERLAP"
        )
    if one_key and settings.predictions:
        return (
            "submit key does not go with predictions: whoever sees a guess is to look before the answer is given; set "
            "AL_PREDICTIONS=false, or AL_SUBMIT=enter"
        )
    if one_key and settings.policy.min_seconds is None:
        return (
            "submit key needs policy.min_seconds: a key that is held would answer image after image; set "
            "AL_POLICY__MIN_SECONDS=0.3, or AL_SUBMIT=enter"
        )
    if one_key and grid:
        return (
            f"submit key does not go with {grid}: the key of one image would submit all; set AL_GRID=1, or "
            "AL_SUBMIT=enter"
        )
    for name in ("ask_groups", "predictions"):
        if grid and getattr(settings, name):
            return f"{grid} and {name} cannot be combined: set AL_GRID=1 or AL_{name.upper()}=false"
    try:
        published, features = settings.published, place_of(settings.embedding_store)
    except InputError as error:
        return (
            f"embeddings cannot be kept in {settings.embeddings} (AL_EMBEDDINGS): {error}. Name a folder, a bucket, or "
            "AL_EMBEDDINGS= for the folder in AL_HOME"
        )
    if (artifacts := settings.artifacts) is not None and (told := _beside(artifacts, settings)):
        return told
    if published is not None and isinstance(features, Place) and bucket_of(features) == bucket_of(published):
        return (
            f"embeddings {features} (AL_EMBEDDINGS) are in the bucket of published {published} (AL_PUBLISHED), and "
            "whoever labels can open any key of that: name another bucket for one of them"
        )
    pods = settings.kubernetes
    ours, theirs = pods.train.labels(), pods.features.labels()
    if other := [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]:
        return (
            f"kubernetes.train.node_selector and kubernetes.features.node_selector want different nodes ({other[0]}), "
            "and a round is one pod that does both: set it in one of them, or alike"
        )
    return compute.conflict(settings.compute)


def _beside(artifacts: Place, settings: "Settings") -> str | None:
    """Say why artifacts cannot lie there: all below is theirs, and not for those who label."""
    published, images = settings.published, settings.images
    if published is not None and bucket_of(artifacts) == bucket_of(published):
        return (
            f"artifacts {artifacts} (AL_ARTIFACTS) are in the bucket of published {published} (AL_PUBLISHED), and "
            "whoever labels can open any key of that: name another bucket for one of them"
        )
    # By default they are where nobody takes them for artifacts.
    features = place_of(settings.embedding_store)
    features = None if features == artifacts / "embedding_store" else features
    for name, place in {"images": images, "embeddings": features}.items():
        one, other = f"{artifacts}/", f"{place}/"
        if isinstance(place, Place) and (one.startswith(other) or other.startswith(one)):
            return (
                f"artifacts {artifacts} (AL_ARTIFACTS) and {name} {place} (AL_{name.upper()}) lie in each other: name "
                "places beside each other"
            )
    return None
