#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): people who were taken out of the organization all have the same email, "Deleted".
#
# Behaviour: after DELETE /api/organizations/1/memberships/ID/ the person's annotations and number stay, but the API
#   shows each such person with email "Deleted", username "Deleted" and the name "Deleted User": in /api/users/, in
#   the members' list and as `completed_by` of a task. An export snapshot with `completed_by` in full still has the
#   real addresses.
# Why it surprises: an email is what tells people apart, and what an import takes for `completed_by`. Here it is no
#   address, not unique, and differs between two ways to read the same annotation.
# Who is hurt: whoever joins answers by email: two people become one, so a disagreement becomes one person's change of
#   mind, and "two people agree" is reached by nobody.
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
import time

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
people = {}
for email in ("ann@example.com", "bob@example.com"):
    account = {"email": email, "username": email.split("@")[0], "password": os.environ["TOKEN"]}
    people[email] = ask("POST", "/api/users/", account).json()["id"]
answers = [{"completed_by": {"email": email}, "result": result("cat")} for email in people]
task = {"data": {"text": "one"}, "annotations": answers}
(task_id,) = ask("POST", f"/api/projects/{project}/import?return_task_ids=true", [task]).json()["task_ids"]


def authors():
    return sorted(one["completed_by"]["email"] for one in ask("GET", f"/api/tasks/{task_id}/").json()["annotations"])


before = authors()
for number in people.values():
    ask("DELETE", f"/api/organizations/1/memberships/{number}/")
users = {user["id"]: user["email"] for user in ask("GET", "/api/users/").json()}
users = [users[number] for number in people.values()]
options = {"serialization_options": {"annotations__completed_by": {"only_id": False}}}
snapshot = f"/api/projects/{project}/exports/{ask('POST', f'/api/projects/{project}/exports/', options).json()['id']}"
while ask("GET", snapshot).json()["status"] in ("created", "in_progress"):
    time.sleep(1)
(exported,) = ask("GET", f"{snapshot}/download?exportType=JSON").json()
in_full = sorted(one["completed_by"]["email"] for one in exported["annotations"])
print(f"authors before: {before}, after: {authors()}; users: {users}; snapshot: {in_full}")
same = before == in_full == list(people) and authors() == users == ["Deleted", "Deleted"]
sys.exit(0 if same else "This has changed.")
PYTHON
