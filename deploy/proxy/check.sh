#!/usr/bin/env bash
# Whether the proxy lets nobody in without a login, and everybody with one:
#   PROXY_CREDENTIALS=name:password deploy/proxy/check.sh https://dagster.… https://pages.… https://label.… [curl's options]
# It only looks: nothing is launched, changed or stored. Ends with 1 where something is not as it should be.
set -uo pipefail
dagster=$1 page=$2 studio=$3
shift 3
: "${PROXY_CREDENTIALS:?set it to name:password}"
# Not on the command line, which every user of the machine can read.
login=$(mktemp)
trap 'rm -f "$login"' EXIT
printf 'user = "%s"\n' "$PROXY_CREDENTIALS" >"$login"
bad=0

status() { curl --silent --output /dev/null --max-time 60 --write-out '%{http_code}' "$@"; }
expect() { # what, pattern, curl's arguments
  local what=$1 wanted=$2 got
  shift 2
  got=$(status "$@")
  if [[ $got =~ ^($wanted)$ ]]; then printf 'ok  %s  %s\n' "$got" "$what"; else
    printf 'BAD %s  %s (should be %s)\n' "$got" "$what" "$wanted"
    bad=1
  fi
}
# By HTTP/2 curl 7.88 takes an answer that comes before all was sent for none.
query=(--http1.1 --header 'Content-Type: application/json' --data '{"query": "{ version }"}')
# A websocket that is opened stays so: five seconds of it are enough.
socket=(--http1.1 --max-time 5 --header 'Connection: Upgrade' --header 'Upgrade: websocket'
  --header 'Sec-WebSocket-Version: 13' --header 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='
  --header 'Sec-WebSocket-Protocol: graphql-ws')

for path in / /server_info /graphql '/graphql?query=%7Bversion%7D' /graphql/ //graphql /%67raphql /runs /assets /dagit_info \
  /logs/a/b/stdout /download_debug/a /notebook /static/x.js /favicon.ico; do
  expect "Dagster, nobody: GET $path" '401|302' "$@" --path-as-is "$dagster$path"
done
expect 'Dagster, nobody: POST /graphql' '401|302' "$@" "${query[@]}" "$dagster/graphql"
expect 'Dagster, nobody: POST /report_asset_materialization/a' '401|302' "$@" --http1.1 --data '{}' \
  "$dagster/report_asset_materialization/a"
expect 'Dagster, nobody: websocket of /graphql' '401|302' "$@" "${socket[@]}" "$dagster/graphql"
expect 'Dagster, a wrong password: POST /graphql' '401|302' "$@" --user 'al:wrong' "${query[@]}" "$dagster/graphql"
expect 'Dagster, the login: GET /' 200 "$@" --config "$login" "$dagster/"
expect 'Dagster, the login: POST /graphql' 200 "$@" --config "$login" "${query[@]}" "$dagster/graphql"
expect 'Dagster, the login: websocket of /graphql' 101 "$@" --config "$login" "${socket[@]}" "$dagster/graphql"
for path in / /health /rounds/r0000 /style.css; do
  expect "pages, nobody: GET $path" '401|302' "$@" "$page$path"
done
expect 'pages, the login: GET /health' 200 "$@" --config "$login" "$page/health"
# They have a door of their own behind it.
expect 'pages, the login without their link: GET /' '401|403' "$@" --config "$login" "$page/"
for path in /projects /api/projects '/data/local-files/?d=images/x.png' /api/current-user/whoami; do
  expect "Label Studio, nobody: GET $path" '401|302' "$@" "$studio$path"
done
expect 'Label Studio: its login form' 200 "$@" "$studio/user/login/"
exit "$bad"
