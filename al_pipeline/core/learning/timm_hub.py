"""Weights of timm's networks: those in the cache of Hugging Face's hub, or downloaded there."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.learning.architectures import config

# Seconds until the hub answers.
PATIENCE = 10.0
# What timm's files are called, the safe format first.
FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_timm(architecture: str, hub: str | None, progress: Callable[[int, int], None]) -> Path:
    """Return the file with the weights that go with a network's name; it is downloaded if the cache lacks it.

    Parameters are those of `hub.fetch`.

    Raises
    ------
    InputError
        timm is missing, or has no such network.
    CheckpointError
        There are none, or they could not be downloaded.
    """
    found = config(architecture)
    if not found.hf_hub_id:
        raise CheckpointError(
            f"timm names no weights for {architecture}: add the tag of some to training.architecture, or set "
            "training.weights to none or to the path of a .safetensors or .pt file"
        )
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    repository = found.hf_hub_id
    for name in FILES:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    try:
        name = _offered(repository, hub)
        return Path(hf_hub_download(repository, name, endpoint=hub, tqdm_class=_telling(progress)))
    # Of the versions of its library each has another kind of error for a network that is not there.
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"The weights of {architecture} could not be downloaded from {repository} on {hub or constants.ENDPOINT} "
            f"({reason}). Try again with a network, bring the cache of a machine that has one to "
            f"{constants.HF_HUB_CACHE}, name another address in AL_WEIGHTS_URL, or set training.weights to none or to "
            "the path of a .safetensors or .pt file"
        ) from error


def _offered(repository: str, hub: str | None) -> str:
    """Return the first of the files that the hub has, asking once: it would ask again for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for name in FILES:
        with suppress(EntryNotFoundError):
            get_hf_file_metadata(hf_hub_url(repository, name, endpoint=hub), timeout=PATIENCE, endpoint=hub)
            return name
    raise FileNotFoundError(f"it has neither {' nor '.join(FILES)}")


def _telling(progress: Callable[[int, int], None]) -> Any:
    """Return a kind of progress bar that draws nothing and hands on how far it is."""
    from tqdm import tqdm

    class Telling(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"disable": True}))
            self.come, self.whole = int(kwargs.get("initial") or 0), int(kwargs.get("total") or 0)
            progress(self.come, self.whole)

        def update(self, n: float | None = 1) -> None:
            self.come += int(n or 0)
            progress(self.come, self.whole)

    return Telling
