"""A deployment on a small folder of images that a network can tell apart, and a real Dagster instance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image

from al_pipeline.defs import build
from al_pipeline.loop.deployment import Deployment
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.templates import new_instance

CLASSES = ("dark horse", "grüner Wald")
# Of every world, unless its test says otherwise.
USUAL: dict[str, Any] = {
    "round": {"strategy": "low_certainty", "batch_size": 4, "sample_size": None},
    "training": {"image_size": 32, "epochs": 2},
}


def write_images(folder: Path, count: int, *, seed: int, split: str | None = "pool") -> None:
    """Write `count` images per class: noise around a dark gray or a green, the same in all channels.

    Of noise in each channel the pictures that rounds show would have ten times as many colours to choose a palette for.
    """
    rng = np.random.default_rng(seed)
    for name, colour in zip(CLASSES, ((60, 60, 60), (60, 160, 60)), strict=True):
        target = (folder / split if split else folder) / name
        target.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = rng.integers(-50, 50, (24, 24, 1))
            Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(
                target / f"{name} {seed}-{i}.png"
            )


def write_usual_images(folder: Path) -> None:
    """Write 12 images per class to label, and 6 of a holdout."""
    write_images(folder, 12, seed=0)
    write_images(folder, 6, seed=1, split="holdout")


@dataclass
class World:
    """Everything a Dagster test needs."""

    settings: Settings
    defs: dg.Definitions
    instance: dg.DagsterInstance

    @property
    def deployment(self) -> Deployment:
        """The deployment that the definitions use."""
        return Deployment(self.settings)

    def run(self, job: str, key: str | None = None, **resources: dict[str, Any]) -> dg.ExecuteInProcessResult:
        """Run a job in this process; a failure raises."""
        if key is not None and not self.instance.has_dynamic_partition("rounds", key):
            self.instance.add_dynamic_partitions("rounds", [key])
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=key,
            run_config={"resources": {name: {"config": config} for name, config in resources.items()}},
            raise_on_error=True,
        )

    def materialize(self, *assets: str) -> dg.ExecuteInProcessResult:
        """Materialize assets that have no partitions."""
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, asset_selection=[dg.AssetKey(name) for name in assets]
        )

    def value(self, asset: str, key: str | None = None) -> Any:
        """Load what an asset stored."""
        path = self.deployment.artifacts.folder / asset
        return pd.read_parquet(path / f"{key}.parquet" if key else path.with_suffix(".parquet"))


def open_world(folder: Path, settings: dict[str, Any]) -> World:
    """Return a world whose Dagster keeps everything in `folder`; no batch is ahead, unless the settings say so."""
    loaded = load_settings(**settings | {"policy": {"prefetch": False} | settings.get("policy", {})})
    return World(loaded, build(loaded), open_instance(folder))


def open_instance(folder: Path) -> dg.DagsterInstance:
    """Return the instance that keeps everything in `folder`, which may be that of a process before."""
    if not (folder / "history").exists():
        new_instance(folder)
    return instance_in(folder)


def instance_in(folder: Path) -> dg.DagsterInstance:
    """Return the instance of a folder; what is not there is made."""
    # The event log that dagster.yaml names.
    log = {"module": "al_pipeline.servers.event_log", "class": "OpenEventLog", "config": {"base_dir": str(folder)}}
    return dg.DagsterInstance.local_temp(str(folder), overrides={"event_log_storage": log})
