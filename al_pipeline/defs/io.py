"""How asset values are stored: tables as Parquet, documents as JSON, checkpoints as safetensors; each file whole."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from upath import UPath

from al_pipeline.core.rounds import is_round

# Said where an asset also yields check results: Dagster cannot read its value's type from the signature then.
TABLE = dg.PythonObjectDagsterType(pd.DataFrame, name="Table")
CHECKPOINT = dg.DagsterType(name="Checkpoint", type_check_fn=lambda _, value: type(value).__name__ == "Checkpoint")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary file beside `path`, then rename it there: readers see the old file or the new one.

    If writing fails (a full disk) the temporary file goes and the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def stored_rounds(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the documents that a partitioned asset has stored, by round, oldest first."""
    paths = sorted(path for path in folder.glob("*.json") if is_round(path.stem))
    return {path.stem: json.loads(path.read_text()) for path in paths}


class TableIOManager(dg.UPathIOManager):
    """Data frames as Parquet files."""

    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame, path: UPath) -> None:
        """Write the frame."""
        write_whole(local(path), lambda file: obj.to_parquet(file, index=False))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame:
        """Read the frame."""
        return pd.read_parquet(local(path))


class DocumentIOManager(dg.UPathIOManager):
    """Plain dictionaries as JSON files."""

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: UPath) -> None:
        """Write the document."""
        write_whole(local(path), lambda file: _write_text(file, json.dumps(obj, indent=1, allow_nan=False)))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:
        """Read the document."""
        return json.loads(path.read_text())


class CheckpointIOManager(dg.UPathIOManager):
    """Checkpoints as safetensors files."""

    extension = ".safetensors"

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write the checkpoint."""
        local(path).parent.mkdir(parents=True, exist_ok=True)
        obj.save(local(path))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """Read the checkpoint."""
        from al_pipeline.core.learning.checkpoint import Checkpoint

        return Checkpoint.load(local(path))


def local(path: UPath) -> Path:
    """Return the path of a local file; artifacts lie in AL_HOME."""
    return Path(path.path)


def _write_text(file: Path, text: str) -> None:
    file.write_text(text)
