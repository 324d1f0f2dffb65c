#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): the check of a labeling interface against the answers overlooks imported ones, and
# binds POST validate/ but not the save.
#
# Behaviour, of /api/projects/ID/validate/ and of PATCH /api/projects/ID/ with the same config, where one annotation has
#   the choice "dog" of the tag "class":
#                                      annotation posted        annotation imported with its task
#     the Choices tag is renamed       400 and 400              200 and 200
#     the choice dog is taken out      400 and 200              200 and 200
# Why it surprises: both say in words that answers would be left without a tag or a choice, and refuse because of that.
#   For an imported annotation neither does, and PATCH stores what the validation of that moment refuses.
# Who is hurt: whoever relies on the refusal. The old answers stay, for a tag or a class that annotators no longer have.
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
RENAMED = CONFIG.replace('name="class"', 'name="kind"')
WITHOUT_DOG = CONFIG.replace('<Choice value="dog"/>', "")
RESULT = [{"from_name": "class", "to_name": "text", "type": "choices", "value": {"choices": ["dog"]}}]


def ask(method, path, body=None):
    headers = {"Authorization": f"Token {os.environ['TOKEN']}"}
    answer = requests.request(method, os.environ["URL"] + path, json=body, headers=headers, timeout=300)
    answer.raise_for_status()
    return answer


def status(method, path, config):
    try:
        return ask(method, path, {"label_config": config}).status_code
    except requests.HTTPError as refused:
        print(f"{method} {path}: {refused.response.json()['validation_errors']}")
        return refused.response.status_code


def look(imported):
    fields = {"title": "finding", "label_config": CONFIG}
    path = f"/api/projects/{ask('POST', '/api/projects/', fields).json()['id']}/"
    annotation, task = {"result": RESULT}, {"data": {"text": "one"}}
    if imported:
        task["annotations"] = [annotation]
    (task_id,) = ask("POST", f"{path}import?return_task_ids=true", [task]).json()["task_ids"]
    if not imported:
        ask("POST", f"/api/tasks/{task_id}/annotations/", annotation)
    codes = []
    for config in (RENAMED, WITHOUT_DOG):
        codes += [status("POST", f"{path}validate/", config), status("PATCH", path, config)]
        ask("PATCH", path, {"label_config": CONFIG})
    print(f"imported {imported}: renamed tag (validate, PATCH), removed choice (validate, PATCH): {codes}")
    return codes


sys.exit(0 if (look(False), look(True)) == ([400, 400, 400, 200], [200] * 4) else "This has changed.")
PYTHON
