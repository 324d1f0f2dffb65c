#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): an annotation forgets that it was a model's prediction, and no time stamp moves.
#
# Behaviour: the Data Manager's action "Create Annotations From Predictions" makes annotations whose author is whoever
#   clicked; `parent_prediction` tells where they come from. The action "Delete Predictions" then sets
#   `parent_prediction` to null, and leaves `updated_at` of the annotation and of the task as they were.
# Why it surprises: the documentation says that a task's `updated_at` moves when one of its annotations is updated. What
#   is left cannot be told from a person's answer, except that `lead_time` is null, as it is for each annotation that
#   was made through the API without one.
# Who is hurt: whoever reads what has changed since the last look keeps the old state for good, and another reader who
#   comes later sees another; whoever trains on people's answers trains on the model's own guesses.
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
task = {"data": {"text": "one"}, "predictions": [{"model_version": "m1", "result": result("cat")}]}
(task_id,) = ask("POST", f"/api/projects/{project}/import?return_task_ids=true", [task]).json()["task_ids"]


def act(action):
    selected = {"selectedItems": {"all": False, "included": [task_id]}}
    done = ask("POST", f"/api/dm/actions?id={action}&project={project}", selected).json()["detail"]
    state = ask("GET", f"/api/tasks/{task_id}/").json()
    (annotation,) = state["annotations"]
    times = state["updated_at"], annotation["updated_at"]
    print(f"{done}: parent_prediction {annotation['parent_prediction']}, updated_at of task and annotation {times}")
    return annotation["parent_prediction"], times, annotation["completed_by"]["email"]


parent, times, author = act("predictions_to_annotations")
parent_then, times_then, author_then = act("delete_tasks_predictions")
print(f"its author: {author_then}")
forgotten = parent is not None and parent_then is None and times_then == times
sys.exit(0 if forgotten and author == author_then == "owner@example.com" else "This has changed.")
PYTHON
