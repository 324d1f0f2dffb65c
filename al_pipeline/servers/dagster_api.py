"""Launch and watch runs through Dagster's GraphQL API, as its UI does."""

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from al_pipeline.core.errors import ALError

LOCATION = "al_pipeline"
# In DAGSTER_HOME: the servers were told to end, and what ran then has not failed.
STOPPED = "stopped"
REPOSITORY = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}
# A run that is not found was deleted.
ENDED = {"SUCCESS", "FAILURE", "CANCELED", "NOT_FOUND"}
# On a run that has crashed: Dagster will launch it again, and did as this one.
WILL_RETRY_TAG, RETRY_TAG = "dagster/will_retry", "dagster/auto_retry_run_id"
# Seconds in which its daemon does so.
RETRY_COMES = 120.0

_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
_RUN = "query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status tags { key value } } } }"
_ERROR = "error { message errorChain { error { message } } }"
_ERRORS = f"""
query($id: ID!) {{ logsForRun(runId: $id) {{ ... on EventConnection {{ events {{
  ... on ExecutionStepFailureEvent {{ stepKey {_ERROR} }}
  ... on EngineEvent {{ {_ERROR} }}
  ... on RunFailureEvent {{ {_ERROR} }} }} }} }} }}"""
_LOCATIONS = """
query { workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
  __typename ... on PythonError { message } } } } } }"""
_RELOAD = f'mutation {{ reloadRepositoryLocation(repositoryLocationName: "{LOCATION}") {{ __typename }} }}'
_QUEUE = """
query { instance { daemonHealth { daemonStatus(daemonType: "QUEUED_RUN_COORDINATOR") { required healthy } } } }"""
_NEWEST = "query { runsOrError(limit: 1) { ... on Runs { results { runId } } } }"


class DagsterError(ALError):
    """Dagster refused a request, or a run did not succeed."""


@dataclass(frozen=True)
class DagsterApi:
    """One Dagster web server, for example ``http://127.0.0.1:3000``."""

    url: str

    @cached_property
    def _http(self) -> httpx.Client:
        # To make one takes longer than most requests do.
        client = httpx.Client(base_url=self.url, timeout=60)
        weakref.finalize(self, client.close)
        return client

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Send one GraphQL request and return its data."""
        try:
            answer = self._http.post("/graphql", json={"query": text, "variables": variables})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise DagsterError(f"Dagster at {self.url} did not answer: {error}. Is `al up` running?") from error
        body = answer.json()
        if body.get("errors"):
            raise DagsterError(f"Dagster at {self.url} refused a request: {body['errors'][0]['message']}")
        return body["data"]

    def loaded(self) -> bool:
        """Say whether the code location is loaded; raise if it failed to load."""
        try:
            entries = self.query(_LOCATIONS)["workspaceOrError"]["locationEntries"]
        except DagsterError:
            return False
        for entry in entries:
            result = entry["locationOrLoadError"]
            if result and result["__typename"] == "PythonError":
                raise DagsterError(f"Dagster could not load the code location: {result['message']}")
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def obstacle(self) -> str | None:
        """Say in a sentence why nothing can be launched now, None if it can.

        A server that began before its code server does not look again by itself: it is told to.
        """
        try:
            entries = self.query(_LOCATIONS)["workspaceOrError"].get("locationEntries", [])
            entry = next((entry for entry in entries if entry["name"] == LOCATION), None)
            if entry is None:
                others = ", ".join(sorted(entry["name"] for entry in entries)) or "none"
                return f"Dagster at {self.url} has no code location {LOCATION}; it has: {others}"
            result = entry["locationOrLoadError"]
            if result and result["__typename"] == "PythonError":
                self.query(_RELOAD)
                why = without_class(result["message"]).splitlines()[0]
                return f"Dagster at {self.url} could not load the code location {LOCATION}: {why}"
            if entry["loadStatus"] != "LOADED":
                return f"Dagster at {self.url} is loading the code location {LOCATION}"
            queue = self.query(_QUEUE)["instance"]["daemonHealth"]["daemonStatus"]
        except DagsterError as error:
            return str(error)
        if queue["required"] and not queue["healthy"]:
            return f"the daemon of Dagster at {self.url} does not run: what is launched would stay in the queue"
        return None

    def newest_run(self) -> str | None:
        """Return the id of the run that was launched last, None if there is none."""
        found = self.query(_NEWEST)["runsOrError"].get("results", [])
        return found[0]["runId"] if found else None

    def launch(self, job: str, *, partition: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Launch a job, for one partition if it has any, with further tags, and return the run's id."""
        all_tags = dict(tags or {}) | ({"dagster/partition": partition} if partition else {})
        result = self.query(
            _LAUNCH,
            params={
                "selector": REPOSITORY | {"jobName": job},
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in all_tags.items()]},
            },
        )["launchRun"]
        if result["__typename"] != "LaunchRunSuccess":
            raise DagsterError(f"Dagster did not launch {job}: {result.get('message') or result}")
        return result["run"]["runId"]

    def status(self, run_id: str) -> str:
        """Return the status of a run, for example ``"STARTED"``."""
        return self._run(run_id)[0]

    def _run(self, run_id: str) -> tuple[str, dict[str, str]]:
        """Return status and tags of a run."""
        found = self.query(_RUN, id=run_id)["runOrError"]
        return found.get("status", "NOT_FOUND"), {tag["key"]: tag["value"] for tag in found.get("tags", [])}

    def wait(self, run_id: str, *, timeout: float = 1800, look: Callable[[str], object] = lambda run_id: None) -> None:
        """Wait until a run has succeeded, or the one by which Dagster retries it after a crash.

        `look` is called twice a second meanwhile, with the id of the run that is waited for.

        Raises
        ------
        DagsterError
            It failed, was canceled or took longer than `timeout` seconds. The message has the run's id and not its
            address: whoever waits may well be about to stop the server.
        """
        deadline, promised = time.monotonic() + timeout, None
        while True:
            status, tags = self._run(run_id)
            if status == "FAILURE" and WILL_RETRY_TAG not in tags:
                # Dagster writes it a moment after the status, where it retries at all.
                time.sleep(0.5)
                status, tags = self._run(run_id)
            if status in ENDED:
                if status != "FAILURE" or tags.get(WILL_RETRY_TAG) != "true":
                    break
                if (retry := tags.get(RETRY_TAG)) is not None:
                    run_id, promised = retry, None
                    continue
                promised = promised or time.monotonic()
                if time.monotonic() > promised + RETRY_COMES:
                    break
            if time.monotonic() > deadline:
                raise DagsterError(f"The run {run_id} is still {status} after {timeout:.0f} s")
            look(run_id)
            time.sleep(0.5)
        if status != "SUCCESS":
            raise DagsterError(f"The run {run_id} ended with {status}: {self.first_error(run_id)}")

    def first_error(self, run_id: str) -> str:
        """Return the cause of the first error of a run, with the step where it happened."""
        for event in self.query(_ERRORS, id=run_id)["logsForRun"].get("events", []):
            if error := event.get("error"):
                # The first is what the step raised; those below it are what our sentences stand for.
                cause = next((link["error"]["message"] for link in error["errorChain"]), error["message"])
                step = f"{event['stepKey']}: " if event.get("stepKey") else ""
                return step + without_class(cause)
        return "it tells no cause."


def without_class(message: str) -> str:
    """Return the message of an error without the name of its class, which Dagster puts before it."""
    name, _, told = message.strip().partition(": ")
    return told if told and name.replace(".", "").isidentifier() else message.strip()
