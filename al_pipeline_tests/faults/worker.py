"""What runs in a process of its own, to be killed there."""

import logging
import pickle
import tempfile
from functools import lru_cache
from pathlib import Path

import dagster as dg
import label_studio_sdk  # noqa: F401
import torchvision  # noqa: F401

from al_pipeline.defs import build
from al_pipeline.defs.sensors import annotations_landed
from al_pipeline.loop.deployment import Deployment
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.defs.rounds import freeze
from al_pipeline_tests.defs.worlds import World, open_instance, open_world, write_images
from al_pipeline_tests.faults.points import Point

LABELS, MODEL = ["labeled_pool"], ["checkpoint"]
SCORES, PUSH = ["uncertainty_scores"], ["query_batch", "labeling_tasks"]


@lru_cache
def project(path: str) -> tuple[Path, Settings, dg.Definitions, dg.JobDefinition]:
    """Return Dagster's folder, settings, definitions and the job that has all assets, of a project kept in a file."""
    folder, options = pickle.loads(Path(path).read_bytes())
    settings = load_settings(**options)
    definitions = build(settings)
    return folder, settings, definitions, definitions.resolve_implicit_global_asset_job_def()


def run(path: str, key: str, assets: list[str], point: Point | None) -> None:
    """Materialize assets of a round, or look at the sensor if there are none; die at the point."""
    logging.disable()
    folder, settings, _, job = project(path)
    instance = open_instance(folder)
    if point is not None:
        point.arm()
    if assets:
        selection = [dg.AssetKey(name) for name in assets]
        job.execute_in_process(instance=instance, partition_key=key, asset_selection=selection)
    else:
        resources = {"deployment": Deployment(settings), "policy": settings.policy}
        annotations_landed(settings)(dg.build_sensor_context(instance=instance, resources=resources))


def materialize(world: World, key: str, assets: list[str]) -> None:
    """Materialize assets of a round; an error raises."""
    world.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=world.instance, partition_key=key, asset_selection=[dg.AssetKey(name) for name in assets]
    )


def write_weights(path: Path) -> None:
    """Write the weights of an untrained ResNet-18."""
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18(num_classes=2).state_dict(), path)


def warm_up() -> None:
    """Run the half of a round that needs no server, so that the processes forked from this one start in milliseconds.

    Nothing is trained by gradient: torch cannot do so after a fork from a process that has.
    """
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", 6, seed=0)
        write_weights(folder / "start.safetensors")
        training = {"mode": "head", "image_size": 32, "weights": str(folder / "start.safetensors")}
        settings = {"home": folder / "home", "images": folder / "images", "training": training}
        world = open_world(folder / "dagster", settings)
        world.materialize("image_pool", "embeddings")
        freeze(world, "r0000", per_class=3)
        world.instance.add_dynamic_partitions("rounds", ["r0000"])
        materialize(world, "r0000", LABELS + MODEL + SCORES + PUSH[:-1])
        world.instance.dispose()
    from al_pipeline.labelstudio.client import LabelStudio

    assert LabelStudio("http://127.0.0.1:9", "token").connection.sdk
