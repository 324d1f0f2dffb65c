"""How asset values are stored: tables as Parquet, documents as JSON, checkpoints as safetensors; each file whole."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from upath import UPath

from al_pipeline.core.data.known_pool import read_pool
from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.files import whole_file
from al_pipeline.loop.choose import PART, read_scores, write_scores
from al_pipeline.loop.deployment import Artifacts

POOL, SCORES = dg.AssetKey("image_pool"), dg.AssetKey("uncertainty_scores")
# Said where an asset also yields check results: Dagster cannot read its value's type from the signature then.
TABLE = dg.PythonObjectDagsterType(pd.DataFrame, name="Table")
CHECKPOINT = dg.DagsterType(name="Checkpoint", type_check_fn=lambda _, value: type(value).__name__ == "Checkpoint")


class _OfArtifacts(dg.UPathIOManager):
    """Files of the artifacts, as they are when they are read."""

    def __init__(self, artifacts: Artifacts) -> None:
        super().__init__(base_path=UPath(artifacts.folder))
        self.artifacts = artifacts

    def load_input(self, context: dg.InputContext) -> Any:
        """Read what the newest run has written, wherever it ran."""
        self.artifacts.fresh()
        return super().load_input(context)


class TableIOManager(_OfArtifacts):
    """Data frames as Parquet files."""

    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame, path: UPath) -> None:
        """Write the frame."""
        with whole_file(Path(path.path), "The table") as file:
            if context.has_asset_key and context.asset_key == SCORES:
                write_scores(obj, file)
            else:
                obj.to_parquet(file, index=False, row_group_size=PART)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame:
        """Read the frame; the image pool, which every step looks at, once per process."""
        key = context.asset_key if context.has_asset_key else None
        if key == POOL:
            return read_pool(Path(path.path))
        return read_scores(Path(path.path)) if key == SCORES else pd.read_parquet(Path(path.path))


class DocumentIOManager(_OfArtifacts):
    """Plain dictionaries as JSON files."""

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: UPath) -> None:
        """Write the document."""
        with whole_file(Path(path.path), "The document") as file:
            file.write_text(json.dumps(obj, indent=1, allow_nan=False))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:
        """Read the document."""
        return json.loads(path.read_text())


class CheckpointIOManager(_OfArtifacts):
    """Checkpoints as safetensors files; what was written last is at hand as long as the file is the same."""

    extension = ".safetensors"

    def __init__(self, artifacts: Artifacts) -> None:
        super().__init__(artifacts)
        self._last: tuple[object, Any] = None, None

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write the checkpoint."""
        obj.save(Path(path.path))
        self._last = _stamp(Path(path.path)), obj

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """Read the checkpoint, and verify it."""
        from al_pipeline.core.learning.checkpoint import Checkpoint

        if deleted := self.artifacts.deleted(path.stem):
            raise CheckpointError(deleted)
        stamp, last = self._last
        return last if last is not None and stamp == _stamp(Path(path.path)) else Checkpoint.load(Path(path.path))


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    """Return what is another once a file was written again; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns
