#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): an export that another server imports gives the answers to whoever has the number.
#
# Behaviour: the JSON export names authors by their number on that server alone (`"completed_by": 2`). The import takes
#   the number for one of its own people: 201, with no word. A number that nobody has is refused with 400 ("not a valid
#   annotator's email or ID"), as is an unknown address in `"completed_by": {"email": ...}`.
# Why it surprises: the import does check authors, and by email it finds the right ones; its own export gives it what is
#   right by chance alone.
# Who is hurt: whoever moves a project to another server, or merges two: votes, agreement and the quality of annotators
#   are counted for the wrong people. (An export snapshot with the serialization option
#   `{"annotations__completed_by": {"only_id": false}}` has the addresses.)
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
servers=()
trap '{ kill "${servers[@]}" && wait "${servers[@]}"; } 2>/dev/null || true; rm -rf "$temporary"' EXIT
cd "$temporary"
PATH="$PATH:$temporary/bootstrap/bin"
command -v uv >/dev/null || { python3 -m venv bootstrap && bootstrap/bin/pip install --quiet uv; }
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python label-studio==1.23.2

export TOKEN
TOKEN=$(venv/bin/python -c 'import secrets; print(secrets.token_hex(20))')
urls=()
for name in old new; do
    port=$(venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    LABEL_STUDIO_USERNAME=owner@example.com LABEL_STUDIO_PASSWORD=$TOKEN LABEL_STUDIO_USER_TOKEN=$TOKEN \
        LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true LABEL_STUDIO_BASE_DATA_DIR="$temporary/$name" \
        COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false SENTRY_DSN='' FRONTEND_SENTRY_DSN='' \
        venv/bin/label-studio start --no-browser --internal-host 127.0.0.1 --port "$port" >"$name.log" 2>&1 &
    servers+=($!)
    urls+=("http://127.0.0.1:$port")
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
        kill -0 "${servers[-1]}" || { tail "$name.log" >&2; exit 1; }
        sleep 1
    done
done

venv/bin/python - "${urls[@]}" <<'PYTHON'
import os
import sys

import requests

OLD, NEW = sys.argv[1:]
CONFIG = """<View><Text name="text" value="$text"/><Choices name="class" toName="text">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""
RESULT = [{"from_name": "class", "to_name": "text", "type": "choices", "value": {"choices": ["dog"]}}]


def ask(url, path, body=None):
    headers = {"Authorization": f"Token {os.environ['TOKEN']}"}
    return requests.request("POST" if body else "GET", url + path, json=body, headers=headers, timeout=300)


def person(url, email):
    account = {"email": email, "username": email.split("@")[0], "password": os.environ["TOKEN"]}
    print(f"{email} has the number {ask(url, '/api/users/', account).json()['id']} of {url}")


def imported(url, tasks):
    """A new project with these tasks; status, what was said against them, and the project's export."""
    project = ask(url, "/api/projects/", {"title": "finding", "label_config": CONFIG}).json()["id"]
    answer = ask(url, f"/api/projects/{project}/import", tasks)
    return answer.status_code, answer.text, ask(url, f"/api/projects/{project}/export?exportType=JSON").json()


def authors(url, tasks):
    emails = {user["id"]: user["email"] for user in ask(url, "/api/users/").json()}
    return [emails[annotation["completed_by"]] for task in tasks for annotation in task["annotations"]]


for url, email in ((OLD, "ann@example.com"), (NEW, "zoe@example.com"), (NEW, "ann@example.com")):
    person(url, email)
answer = {"completed_by": {"email": "ann@example.com"}, "result": RESULT}
_, _, export = imported(OLD, [{"data": {"text": "one"}, "annotations": [answer]}])
before = authors(OLD, export)
code, _, there = imported(NEW, export)
after = authors(NEW, there)
print(f"author on the old server: {before}; import into the new one: {code}, author: {after}")
export[0]["annotations"][0]["completed_by"] = 99
refused, told, _ = imported(NEW, export)
print(f"a number that nobody has: {refused} {told}")
same = (before, code, after, refused) == (["ann@example.com"], 201, ["zoe@example.com"], 400)
sys.exit(0 if same else "This has changed.")
PYTHON
