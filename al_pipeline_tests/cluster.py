"""The API of a Kubernetes cluster in memory: Jobs and their pods, for those alone whom a Role allows it."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from al_pipeline_tests.labelstudio.servers import Answer, Request, answering

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>[^/]+)(?:/(?P<name>[^/]+))?(?P<part>/\w+)?"
)
# How the world's clusters write a moment.
THEN = "2026-01-01T00:00:00Z"


@dataclass
class Cluster:
    """What a cluster knows.

    Parameters
    ----------
    rules : sequence of dict
        Of a Role: what its account may do.
    started : callable
        Told each Job that is created.
    """

    rules: Sequence[dict[str, Any]]
    started: Callable[[dict[str, Any]], object] = lambda _: None
    url: str = ""
    # By name: the Job as it was created, and its status.
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: set[tuple[str, str, str]] = field(default_factory=set)
    # Whether it answers at all.
    up: bool = True

    def answer(self, request: Request) -> Answer | None:
        """Return what the API server says."""
        if not self.up:
            return None
        place, query = urlsplit(request.path), parse_qs(urlsplit(request.path).query)
        found = PATH.fullmatch(place.path)
        assert found is not None, request.path
        name, kind = found["name"], found["kind"] + (found["part"] or "")
        verb = {"POST": "create", "DELETE": "delete", "GET": "get" if name else "list"}[request.method]
        self.asked.add((found["group"] or "", kind, verb))
        if not self.allows(found["group"] or "", kind, verb):
            return Answer(403, {"kind": "Status", "reason": "Forbidden"})
        if (kind, verb) == ("jobs", "create"):
            job = json.loads(request.body)
            self.jobs[job["metadata"]["name"]] = job
            self.statuses[job["metadata"]["name"]] = {"active": 1, "startTime": THEN}
            self.started(job)
            return Answer(201, job)
        if kind.startswith("jobs") and name:
            if name not in self.jobs:
                return Answer(404, {"kind": "Status", "reason": "NotFound"})
            job = self.jobs[name] | {"status": self.statuses[name]}
            if verb == "delete":
                del self.jobs[name]
            return Answer(200, job)
        if kind == "pods/log":
            return Answer(200, b"", kind="text/plain")
        if (kind, verb) == ("pods", "delete"):
            return Answer(200, {})
        # Of a list what is asked for by name.
        selected = [each.partition("=")[2] for key in ("labelSelector", "fieldSelector") for each in query.get(key, [])]
        items = {
            "jobs": [job | {"status": self.statuses[name]} for name, job in self.jobs.items()],
            "pods": [self._pod(job) for job in self.jobs.values()],
            "events": [],
        }[kind]
        return Answer(200, {"items": [each for each in items if each["metadata"]["name"] in selected]})

    def allows(self, group: str, kind: str, verb: str) -> bool:
        """Say whether a Role does."""
        return any(
            group in rule["apiGroups"] and kind in rule["resources"] and verb in rule["verbs"] for rule in self.rules
        )

    def _pod(self, job: dict[str, Any]) -> dict[str, Any]:
        state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        container = {"name": "dagster", "ready": False, "restartCount": 0, "image": "", "imageID": "", "state": state}
        status = {"phase": "Failed", "containerStatuses": [container]}
        return {
            "metadata": {"name": job["metadata"]["name"]},
            "spec": job["spec"]["template"]["spec"],
            "status": status,
        }


@contextmanager
def cluster_of(rules: Sequence[dict[str, Any]]) -> Iterator[Cluster]:
    """Run a cluster whose account may do what the rules say."""
    cluster = Cluster(rules)
    with answering(cluster.answer) as server:
        cluster.url = server.url
        yield cluster
