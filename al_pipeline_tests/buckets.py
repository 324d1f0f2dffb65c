"""A real S3 server on loopback, SeaweedFS, of which a test may take everything away and bring it back."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from al_pipeline.core.errors import PlaceError
from al_pipeline.core.object_store import store_of
from al_pipeline.core.places import Place
from al_pipeline.servers.processes import HOST, Service, free_port

# What may never be told to anybody.
KEY, SECRET = "AKIATESTKEYOFTHEBUCKET", "s3cretOfTheBucketServer"
WEED = Path(sys.executable).with_name("weed")
# A filer that has just started has nowhere to write for a second or two.
READY = 60.0


class BucketServer:
    """`weed server -s3`, in a folder of its own.

    Parameters
    ----------
    folder : Path
        Keeps what is stored from one start to the next.
    """

    def __init__(self, folder: Path) -> None:
        self.url = f"http://{HOST}:{(port := free_port())}"
        folder.mkdir(parents=True, exist_ok=True)
        flags = {"master.volumeSizeLimitMB": 64, "volume.max": 200, "master.electionTimeout": "1s", "s3.port": port}
        for name in ("master", "volume", "filer"):
            flags |= {f"{name}.port": free_port(), f"{name}.port.grpc": free_port()}
        flags |= {"s3.port.grpc": free_port(), "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false"}
        flags |= {"ip": HOST, "ip.bind": HOST, "dir": folder, "master.telemetry": "false"}
        flags |= {"s3.localSocket": folder / "s3.sock", "filer.localSocket": folder / "filer.sock"}
        self._service = Service(
            "the bucket server",
            [str(WEED), "-logtostderr=true", "server", "-filer", "-s3", *(f"-{k}={v}" for k, v in flags.items())],
            log=folder / "weed.log",
            health=self._ready,
            env=dict(os.environ) | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
            port=port,
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
            return Place("s3://ready").put("ready", b"")
        except PlaceError:
            return False


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
