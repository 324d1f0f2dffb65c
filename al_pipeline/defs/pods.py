"""What steps ask for on Kubernetes, as the tag that Dagster's launchers and executors there read.

A tag is plain data: nothing of Kubernetes is imported, and without settings there are no tags.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from typing import Any

import dagster as dg
from dagster._utils.tags import normalize_tags

from al_pipeline.settings.pods import KubernetesOptions, PodResources

TAG = "dagster-k8s/config"
# The ops that compute, and the group of settings that says with what.
GROUPS = {
    **dict.fromkeys(("checkpoint", "evaluation", "simulation"), "train"),
    **dict.fromkeys(("embeddings", "feature_parts", "uncertainty_scores", "query_batch"), "features"),
    "refined_checkpoint": "refine",
}


def asked_of_pod(resources: PodResources) -> dict[str, Any]:
    """Return what a pod gets, in the words of `dagster_k8s`; nothing where nothing is set."""
    kept = {"cpu": resources.cpu and f"{resources.cpu:g}", "memory": resources.memory}
    requests = {name: amount for name, amount in kept.items() if amount}
    # Above its cores a pod may use what nobody else does; memory cannot be given back, nor a GPU shared.
    limits = {"memory": resources.memory, "nvidia.com/gpu": resources.gpu and str(resources.gpu)}
    limits = {name: amount for name, amount in limits.items() if amount}
    container = {name: amounts for name, amounts in (("requests", requests), ("limits", limits)) if amounts}
    where: dict[str, Any] = {"node_selector": resources.labels(), "tolerations": resources.bears()}
    where["priority_class_name"] = resources.priority_class
    pod = {name: value for name, value in where.items() if value}
    config = {"container_config": {"resources": container} if container else {}, "pod_spec_config": pod}
    return {name: part for name, part in config.items() if part}


def with_pods(assets: Iterable[Any], options: KubernetesOptions) -> Iterator[Any]:
    """Yield definitions of assets, those of them that compute with what their pods are to get."""
    for asset in assets:
        made = isinstance(asset, dg.AssetsDefinition) and asset.is_executable
        group = GROUPS.get(asset.node_def.name) if made else None
        asked = asked_of_pod(getattr(options, group)) if group else None
        yield _tagged(asset, {TAG: asked}) if asked else asset


def _tagged(asset: dg.AssetsDefinition, tags: dict[str, Any]) -> dg.AssetsDefinition:
    """Return an asset whose op has more tags: Dagster takes those of an asset where it is declared alone."""
    op = copy(asset.node_def)
    op._tags = normalize_tags({**op.tags, **tags})
    attributes: dict[str, Any] = asset.get_attributes_dict()
    del attributes["node_def"]
    return dg.AssetsDefinition.dagster_internal_init(**attributes, node_def=op)
