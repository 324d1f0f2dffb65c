"""What a checkpoint's file says of itself, read without torch."""

import json
from pathlib import Path
from typing import Any

import safetensors

from al_pipeline.core.files import content

# The key of the provenance in the file's metadata; its presence tells our files from other safetensors files.
INFO_KEY = "al_pipeline.checkpoint"


def provenance(path: Path) -> dict[str, Any]:
    """Return the fields of a checkpoint's `CheckpointInfo` as they were written; none of a damaged file."""
    try:
        with safetensors.safe_open(content(path), framework="np") as file:
            found = json.loads((file.metadata() or {})[INFO_KEY])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
