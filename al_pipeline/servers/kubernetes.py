"""Runs as Jobs of Kubernetes: Dagster's launcher, for runs whose steps are in one process.

With Dagster's `K8sRunLauncher` the tags of ops count for nobody unless each step is a pod of its own, and a round is
one process: here a run's pod gets what its steps ask for together, of each the most.

A cluster that does not say how a run is, is no run that failed. Dagster reports one as failed, and runs it again, while
its pod goes on: two pods at once would work on one round.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from kubernetes.utils.quantity import parse_quantity

from al_pipeline.defs.pods import TAG

logger = logging.getLogger(__name__)


class RunLauncher(K8sRunLauncher):
    """Dagster's launcher with the same configuration."""

    def get_container_context_for_run(self, dagster_run: dg.DagsterRun) -> K8sContainerContext:
        """Return what a run's pod is made of; what the run's own tag says counts more than its steps."""
        if TAG not in dagster_run.tags and (asked := self._asked(dagster_run)):
            dagster_run = dagster_run.with_tags({**dagster_run.tags, TAG: json.dumps(together(asked))})
        context = super().get_container_context_for_run(dagster_run)
        cores = context.run_k8s_config.container_config.get("resources", {}).get("requests", {}).get("cpu")
        if cores is None:
            return context
        # A process counts the cores of its node, of which most are not its own.
        threads = {"name": "OMP_NUM_THREADS", "value": str(max(1, int(parse_quantity(cores))))}
        return context.merge(K8sContainerContext(env=[threads]))

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Say how a run's pod is: it goes on unless the cluster says otherwise."""
        found = super().check_run_worker_health(run)
        # What has no Job any more is known to be gone.
        if found.status == WorkerStatus.UNKNOWN and not str(found.msg).endswith("could not be found"):
            why = str(found.msg).partition("\n")[0]
            logger.warning("The cluster does not say how run %s is, it counts as in progress: %s", run.run_id, why)
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)
        return found

    def _asked(self, run: dg.DagsterRun) -> list[dict[str, Any]]:
        """Return what the steps that a run executes ask for."""
        plan = run.execution_plan_snapshot_id and self._instance.get_execution_plan_snapshot(
            run.execution_plan_snapshot_id
        )
        if not plan:
            return []
        executed = {step.key: step.tags or {} for step in plan.steps if step.key in plan.step_keys_to_execute}
        return [json.loads(tags[TAG]) for tags in executed.values() if TAG in tags]


def together(asked: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what one pod gets that does all which several ask for: of each resource the most, what any of them bears.

    Parameters
    ----------
    asked : sequence of mapping
        As in the tag ``dagster-k8s/config``.
    """
    resources: dict[str, dict[str, str]] = {}
    pod: dict[str, Any] = {}
    for config in asked:
        for kind, amounts in config.get("container_config", {}).get("resources", {}).items():
            most = resources.setdefault(kind, {})
            for name, amount in amounts.items():
                most[name] = max(most.get(name, "0"), amount, key=parse_quantity)
        where = config.get("pod_spec_config", {})
        if labels := where.get("node_selector"):
            pod["node_selector"] = pod.get("node_selector", {}) | labels
        if bears := where.get("tolerations"):
            pod["tolerations"] = pod.get("tolerations", []) + [
                each for each in bears if each not in pod.get("tolerations", [])
            ]
    classes = {config.get("pod_spec_config", {}).get("priority_class_name") for config in asked}
    # What others wait for is not ended for the sake of a part of it.
    if len(classes) == 1 and None not in classes:
        pod["priority_class_name"] = classes.pop()
    return {"container_config": {"resources": resources}, "pod_spec_config": pod}
