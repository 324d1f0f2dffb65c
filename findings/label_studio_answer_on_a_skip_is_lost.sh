#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): a choice that is submitted on a skipped task is saved, and counts nowhere.
#
# Behaviour: the editor's way to answer a task that the same person has skipped (open it, choose, Ctrl+Enter) is a PATCH
#   of the skip's annotation with `result`, `lead_time` and no `was_cancelled`. It answers 200 and stores the result;
#   `was_cancelled` stays true. The task counts as skipped, the queue goes on without it, and CSV and JSON_MIN leave the
#   answer out, with download_all_tasks too. The JSON export has it, marked as a skip.
# Why it surprises: who answers after all has taken the skip back. The editor saves without a complaint, although it
#   shows the button "Cancel skip" in the place of Submit.
# Who is hurt: annotators whose second thoughts are lost; readers who take a result for an answer without a look at
#   `was_cancelled`, or who drop skips without a look at the result.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
server=
trap '{ kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$temporary"' EXIT
cd "$temporary"
PATH="$PATH:$temporary/bootstrap/bin"
command -v uv >/dev/null || { python3 -m venv bootstrap && bootstrap/bin/pip install --quiet uv; }
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python label-studio==1.23.2

port=$(venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
TOKEN=$(venv/bin/python -c 'import secrets; print(secrets.token_hex(20))')
export TOKEN URL="http://127.0.0.1:$port"
LABEL_STUDIO_USERNAME=owner@example.com LABEL_STUDIO_PASSWORD=$TOKEN LABEL_STUDIO_USER_TOKEN=$TOKEN \
    LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true LABEL_STUDIO_BASE_DATA_DIR="$temporary/data" \
    COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false SENTRY_DSN='' FRONTEND_SENTRY_DSN='' \
    venv/bin/label-studio start --no-browser --internal-host 127.0.0.1 --port "$port" >server.log 2>&1 &
server=$!
until curl --silent --fail --output /dev/null "$URL/health"; do
    kill -0 "$server" || { tail server.log >&2; exit 1; }
    sleep 1
done

venv/bin/python - <<'PYTHON'
import os
import sys

import requests

CONFIG = """<View><Text name="text" value="$text"/><Choices name="class" toName="text">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""


def ask(method, path, body=None):
    headers = {"Authorization": f"Token {os.environ['TOKEN']}"}
    answer = requests.request(method, os.environ["URL"] + path, json=body, headers=headers, timeout=300)
    answer.raise_for_status()
    return answer


def result(choice):
    return [{"from_name": "class", "to_name": "text", "type": "choices", "value": {"choices": [choice]}}]


project = ask("POST", "/api/projects/", {"title": "finding", "label_config": CONFIG}).json()["id"]
tasks = [{"data": {"text": "first"}}, {"data": {"text": "second"}}]
first, second = ask("POST", f"/api/projects/{project}/import?return_task_ids=true", tasks).json()["task_ids"]
skip = ask("POST", f"/api/tasks/{first}/annotations/", {"result": [], "was_cancelled": True}).json()["id"]
answered = ask("PATCH", f"/api/annotations/{skip}/", {"result": result("dog"), "lead_time": 4.2})
print(f"PATCH: {answered.status_code}, {answered.json()['result']}, was_cancelled {answered.json()['was_cancelled']}")

counts = ask("GET", f"/api/projects/{project}/").json()
labeled, skipped = counts["num_tasks_with_annotations"], counts["skipped_annotations_number"]
offered = ask("GET", f"/api/projects/{project}/next").json()["id"]
print(f"tasks with annotations: {labeled}, skipped: {skipped}; next task: {offered} (the other one is {second})")


def export(kind):
    return ask("GET", f"/api/projects/{project}/export?exportType={kind}&download_all_tasks=true")


csv, short, full = export("CSV").text, export("JSON_MIN").json(), export("JSON").json()
print(f"CSV:\n{csv}\nJSON_MIN: {short}")
texts = [row["text"] for row in short]
marks = [(a["was_cancelled"], a["result"] == answered.json()["result"]) for t in full for a in t["annotations"]]
print(f"JSON, annotations of all tasks (was_cancelled, has the answer): {marks}")
stored = answered.json()["result"] == result("dog") and answered.json()["was_cancelled"] and marks == [(True, True)]
nowhere = (labeled, skipped, offered, texts) == (0, 1, second, ["second"]) and "dog" not in csv
sys.exit(0 if stored and nowhere else "This has changed.")
PYTHON
