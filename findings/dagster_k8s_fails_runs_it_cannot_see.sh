#!/usr/bin/env bash
# dagster-k8s 0.29.27: while the cluster's API is away for a moment, a run whose pod goes on is failed, and launched again.
#
# Behaviour: run monitoring asks `K8sRunLauncher.check_run_worker_health` of each started run. If the API server cannot be
#   reached the answer is UNKNOWN, at the first refused connection (only some HTTP statuses are asked again), and the
#   monitor takes whatever is neither RUNNING nor SUCCESS for a dead worker: the run is reported as failed at once, or
#   "resumed" by a second Job with max_resume_run_attempts. The first pod is not ended: nobody could.
# Why it surprises: UNKNOWN is not FAILED, and the launcher has both; the API of one control plane is away for minutes
#   whenever that is upgraded, while all pods go on.
# Who is hurt: whoever has run_retries or resuming switched on: the same work is done twice at the same time, by two pods
#   which each believe to be the only one; pools free the slot of the first, so they do not keep them apart.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cd "$temporary"
PATH="$PATH:$temporary/bootstrap/bin"
command -v uv >/dev/null || { python3 -m venv bootstrap && bootstrap/bin/pip install --quiet uv; }
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python dagster==1.13.27 dagster-k8s==0.29.27

# A cluster of which only the address is left: nothing listens at port 1.
cat >kubeconfig <<'YAML'
{apiVersion: v1, kind: Config, current-context: c, users: [], clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}],
 contexts: [{name: c, context: {cluster: c, user: ""}}]}
YAML
cat >dagster.yaml <<YAML
telemetry: {enabled: false}
run_monitoring: {enabled: true}
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
  config: {service_account_name: x, instance_config_map: x, load_incluster_config: false, kubeconfig_file: $temporary/kubeconfig}
YAML
venv/bin/python - <<'PYTHON' 2>/dev/null
import logging
import os
import sys
import time

import dagster as dg
from dagster import DagsterRunStatus as Status
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

with dg.DagsterInstance.from_config(os.getcwd()) as instance:
    run = instance.create_run_for_job(dg.GraphDefinition(name="job").to_job(), status=Status.STARTED)
    record = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))[0]
    began = time.monotonic()
    monitor_started_run(instance, None, record, logging.getLogger("quiet"))
    seconds = time.monotonic() - began
    health = instance.run_launcher.check_run_worker_health(run).status
    now = instance.get_run_by_id(run.run_id).status
    print(f"The worker is {health.name}, and after {seconds:.1f} s the run is {now.name}")
    sys.exit(0 if (health.name, now) == ("UNKNOWN", Status.FAILURE) else "This has changed.")
PYTHON
