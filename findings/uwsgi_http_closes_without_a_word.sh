#!/usr/bin/env bash
# uWSGI 2.0.28: its HTTP router closes each connection after one answer without saying so, and tells no time.
#
# Behaviour: behind `http = …`, the answer to an HTTP/1.1 request is HTTP/1.1, has neither `Connection: close` nor `Date`,
#   and the router then closes the connection. With `add-header = Connection: close` (or UWSGI_ADD_HEADER in the
#   environment) the answer says so.
# Why it surprises: HTTP/1.1 without that header means that the connection stays open (RFC 9112, 9.3), and a server with a
#   clock must send Date (RFC 9110, 6.6.1). Behind nginx nobody notices: it asks in HTTP/1.0 and adds its own Date.
# Who is hurt: clients that go on with the connection at once, as after a redirect: "Server disconnected without sending a
#   response"; clients that read the server's time. Label Studio's image runs so with `label-studio-uwsgi`.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
server=
trap '{ kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$temporary"' EXIT
cd "$temporary"
PATH="$PATH:$temporary/bootstrap/bin"
command -v uv >/dev/null || { python3 -m venv bootstrap && bootstrap/bin/pip install --quiet uv; }
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python pyuwsgi==2.0.28.post1
cat >app.py <<'PYTHON'
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
PYTHON

serve() { # OPTION … : serve the application, and ask twice over one connection
    port=$(venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    venv/bin/uwsgi --http "127.0.0.1:$port" --wsgi-file app.py --master --die-on-term "$@" >server.log 2>&1 &
    server=$!
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/"; do
        kill -0 "$server" || { tail server.log >&2; exit 1; }
        sleep 0.2
    done
    venv/bin/python - "$port" <<'PYTHON'
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as connection:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    answer = b""
    # Until the other side closes: a connection that stays open runs into the time limit.
    while part := connection.recv(65536):
        answer += part
head = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
print(head[0].split()[0].decode(), b"connection: close" in head, any(line.startswith(b"date:") for line in head))
PYTHON
    kill "$server" && wait "$server" || true
    server=
}

silent=$(serve)
told=$(serve --add-header "Connection: close")
echo "version, says that it closes, tells the time: $silent; with the header: $told"
[ "$silent" = "http/1.1 False False" ] && [ "$told" = "http/1.1 True False" ]
