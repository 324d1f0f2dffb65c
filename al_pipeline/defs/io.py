"""How asset values are stored: tables as Parquet, documents as JSON, checkpoints as safetensors; each file whole."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from upath import UPath

from al_pipeline.core.data.known_pool import read_pool
from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.loop.choose import PART, read_scores, write_scores
from al_pipeline.loop.deployment import Artifacts

POOL, SCORES = dg.AssetKey("image_pool"), dg.AssetKey("uncertainty_scores")
# Said where an asset also yields check results: Dagster cannot read its value's type from the signature then.
TABLE = dg.PythonObjectDagsterType(pd.DataFrame, name="Table")
CHECKPOINT = dg.DagsterType(name="Checkpoint", type_check_fn=lambda _, value: type(value).__name__ == "Checkpoint")


class TableIOManager(dg.UPathIOManager):
    """Data frames as Parquet files."""

    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame, path: UPath) -> None:
        """Write the frame."""
        with whole_file(local(path), "The table") as file:
            if context.has_asset_key and context.asset_key == SCORES:
                write_scores(obj, file)
            else:
                obj.to_parquet(file, index=False, row_group_size=PART)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame:
        """Read the frame; the image pool, which every step looks at, once per process."""
        key = context.asset_key if context.has_asset_key else None
        if key == POOL:
            return read_pool(local(path))
        return read_scores(local(path)) if key == SCORES else pd.read_parquet(local(path))


class DocumentIOManager(dg.UPathIOManager):
    """Plain dictionaries as JSON files."""

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: UPath) -> None:
        """Write the document."""
        with whole_file(local(path), "The document") as file:
            file.write_text(json.dumps(obj, indent=1, allow_nan=False))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:
        """Read the document."""
        return json.loads(path.read_text())


class CheckpointIOManager(dg.UPathIOManager):
    """Checkpoints as safetensors files; what was written last is at hand as long as the file is the same."""

    extension = ".safetensors"

    def __init__(self, base_path: UPath) -> None:
        super().__init__(base_path)
        self._last: tuple[object, Any] = None, None

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write the checkpoint."""
        obj.save(local(path))
        self._last = _stamp(local(path)), obj

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """Read the checkpoint, and verify it."""
        from al_pipeline.core.learning.checkpoint import Checkpoint

        if deleted := Artifacts(local(path).parent.parent).deleted(path.stem):
            raise CheckpointError(deleted)
        stamp, last = self._last
        return last if last is not None and stamp == _stamp(local(path)) else Checkpoint.load(local(path))


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    """Return what is another once a file was written again; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns


def local(path: UPath) -> Path:
    """Return the path of a local file; artifacts lie in AL_HOME.

    Raises
    ------
    InputError
        It is in no local folder: without its scheme it would become one.
    """
    if path.protocol not in ("", "file"):
        raise InputError(
            f"{path} cannot hold what a round writes: artifacts lie in a folder of this machine, in AL_HOME. Name a "
            "folder; images and embeddings alone can lie in a bucket"
        )
    return Path(path.path)
