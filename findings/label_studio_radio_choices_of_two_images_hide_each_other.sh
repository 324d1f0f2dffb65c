#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): of equal radio choices for two images only one is shown, though both are stored.
#
# Behaviour: a task has two images, each with its own `<Choices choice="single-radio">` of cat and dog, c1 and c2.
#     click cat of c1, then cat of c2: the radio button of c1 empties; both are stored; opened again, c2 alone is shown
#     press key 1 (cat of c1), 3 (cat of c2), and 1 again, as c1 looks empty: c1 looks empty still, and now its answer
#       is taken back: c2 alone is stored
#   Unlike answers (cat and dog) are both shown and both stored, and so are equal ones with `choice="single"`.
#   The radio buttons of both have the choice's value as their HTML name, and a browser checks one of a name at most.
# Why it surprises: each control has a name of its own, and the documentation of Choices knows of no tie between them.
# Who is hurt: annotators who see an answer vanish that is there, and take it back when they give it again by its key;
#   reviewers, who see one answer of two.
# Exit: 0 while it is so, 2 without a Chromium or Chrome on the PATH, which it is seen with, 1 if it has changed.
set -euo pipefail

CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo "There is no chromium, chromium-browser or google-chrome on the PATH: install one of them." >&2; exit 2; }
temporary=$(mktemp -d)
server=
trap '{ kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$temporary"' EXIT
cd "$temporary"
PATH="$PATH:$temporary/bootstrap/bin"
command -v uv >/dev/null || { python3 -m venv bootstrap && bootstrap/bin/pip install --quiet uv; }
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python label-studio==1.23.2 playwright==1.65.2

port=$(venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
TOKEN=$(venv/bin/python -c 'import secrets; print(secrets.token_hex(20))')
export CHROMIUM TOKEN URL="http://127.0.0.1:$port"
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
from playwright.sync_api import sync_playwright

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
HALF = """<View><Image name="i{0}" value="$image"/><Choices name="c{0}" toName="i{0}" choice="{1}">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""
URL, TOKEN = os.environ["URL"], os.environ["TOKEN"]


def ask(method, path, body=None):
    answer = requests.request(method, URL + path, json=body, headers={"Authorization": f"Token {TOKEN}"}, timeout=300)
    answer.raise_for_status()
    return answer.json()


def open_task(page, project, task):
    page.goto(f"{URL}/projects/{project}/data?task={task}")
    page.locator(".lsf-choice__checkbox").nth(3).wait_for()
    page.get_by_role("button", name="Submit").or_(page.get_by_role("button", name="Update")).first.wait_for()
    page.wait_for_timeout(2000)


def shown(page):
    checked = page.eval_on_selector_all(".lsf-choice__checkbox input", "inputs => inputs.map(input => input.checked)")
    return [name for name, on in zip(("c1 cat", "c1 dog", "c2 cat", "c2 dog"), checked, strict=True) if on]


def answer(page, kind, does):
    """Click choices (0 to 3, as shown) or press keys, and submit; return what is shown, stored, shown again."""
    config = f"<View>{HALF.format(1, kind)}{HALF.format(2, kind)}</View>"
    project = ask("POST", "/api/projects/", {"title": "finding", "label_config": config})["id"]
    data = [{"data": {"image": PIXEL}}]
    task = ask("POST", f"/api/projects/{project}/import?return_task_ids=true", data)["task_ids"][0]
    open_task(page, project, task)
    for what in does:
        if isinstance(what, int):
            page.locator(".lsf-choice__checkbox").nth(what).click()
        else:
            page.keyboard.press(what)
        page.wait_for_timeout(500)
    before = shown(page)
    with page.expect_response(lambda response: "/annotations" in response.url and response.request.method == "POST"):
        page.get_by_role("button", name="Submit").click()
    (annotation,) = ask("GET", f"/api/tasks/{task}/")["annotations"]
    stored = [f"{region['from_name']} {region['value']['choices'][0]}" for region in annotation["result"]]
    open_task(page, project, task)
    again = shown(page)
    print(f"{kind}, {does}: shown {before}, stored {stored}, shown when opened again {again}", flush=True)
    return before, stored, again


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox", "--disable-gpu"])
    print(f"Chromium {browser.version}")
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(f"{URL}/user/login/")
    page.fill("[name=email]", "owner@example.com")
    page.fill("[name=password]", TOKEN)
    page.click("[type=submit]")
    page.wait_for_load_state()
    found = [
        answer(page, "single-radio", (0, 2)),
        answer(page, "single-radio", ("1", "3", "1")),
        answer(page, "single-radio", (0, 3)),
        answer(page, "single", (0, 2)),
    ]
    browser.close()
one, both, unlike = ["c2 cat"], ["c1 cat", "c2 cat"], ["c1 cat", "c2 dog"]
expected = [(one, both, one), (one, one, one), (unlike, unlike, unlike), (both, both, both)]
sys.exit(0 if found == expected else "This has changed.")
PYTHON
