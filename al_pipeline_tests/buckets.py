"""A real S3 server on loopback, SeaweedFS, of which a test may take everything away and bring it back."""

import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from al_pipeline.core.data.object_store import store_of
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import PlaceError
from al_pipeline.servers.processes import HOST, Service, port_in_use

# What may never be told to anybody; and what may read in one bucket alone.
KEY, SECRET = "AKIATESTKEYOFTHEBUCKET", "s3cretOfTheBucketServer"
READER, READERS_SECRET, SHOWN = "AKIATESTKEYOFAREADER", "s3cretOfTheReader", "shown"
SECRETS = (KEY, SECRET, READER, READERS_SECRET)
WEED = Path(sys.executable).with_name("weed")
# A filer that has just started has nowhere to write for a second or two.
READY = 60.0


_given = set[int]()


def unused() -> int:
    """Return a port that nobody listens on, and that no connection is given while the server is away."""
    drawn = iter(lambda: random.randrange(12_000, 32_000), None)
    port = next(port for port in drawn if port not in _given and not port_in_use(port))
    _given.add(port)
    return port


class BucketServer:
    """`weed server -s3`, in a folder of its own.

    Parameters
    ----------
    folder : Path
        Keeps what is stored from one start to the next.
    """

    def __init__(self, folder: Path) -> None:
        self._stored = False
        self.url = f"http://{HOST}:{(s3 := unused())}"
        folder.mkdir(parents=True, exist_ok=True)
        flags: dict[str, Any] = {
            "master.volumeSizeLimitMB": 64,
            "volume.max": 200,
            "master.electionTimeout": "1s",
            "s3.port": s3,
        }
        for name in ("master", "volume", "filer"):
            flags |= {f"{name}.port": unused(), f"{name}.port.grpc": unused()}
        flags |= {"s3.port.grpc": unused(), "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false"}
        flags |= {"ip": HOST, "ip.bind": HOST, "dir": folder, "master.telemetry": "false"}
        flags |= {"s3.localSocket": folder / "s3.sock", "filer.localSocket": folder / "filer.sock"}
        flags["s3.config"] = folder / "identities.json"
        everything, reading = ["Admin", "Read", "Write", "List"], [f"Read:{SHOWN}", f"List:{SHOWN}"]
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for key, secret, actions in ((KEY, SECRET, everything), (READER, READERS_SECRET, reading))
        ]
        flags["s3.config"].write_text(json.dumps({"identities": identities}))
        self._service = Service(
            "the bucket server",
            [str(WEED), "-logtostderr=true", "server", "-filer", "-s3", *(f"-{k}={v}" for k, v in flags.items())],
            log=folder / "weed.log",
            health=self._ready,
            env=dict(os.environ),
            port=s3,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def start(self) -> None:
        """Start it, and wait until it can be written to."""
        self._service.start()
        self._service.wait_ready(READY)

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self._service.stop(timeout=0)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have no server in the body."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _ready(self) -> bool:
        try:
            # What an earlier start has stored is there later than the server itself.
            if self._stored:
                Place("s3://ready").read("ready")
            self._stored = Place("s3://ready").put("ready", b"to be read at the next start")
        except (PlaceError, OSError):
            return False
        return True


@contextmanager
def bucket_server(folder: Path) -> Iterator[BucketServer]:
    """Run a server, with its environment in this process."""
    with pytest.MonkeyPatch.context() as patch:
        server = BucketServer(folder)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        # Stores keep what the environment was when they were made.
        store_of.cache_clear()
        try:
            server.start()
            yield server
        finally:
            server.stop()
            store_of.cache_clear()


def put_folder(folder: Path, place: Place) -> None:
    """Put every file of a folder into a place, and what consoles make of folders."""
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder).as_posix()
        place.put(key, b"" if path.is_dir() else path.read_bytes())
