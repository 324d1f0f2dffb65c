"""A Label Studio server on this machine, in an environment of its own: for `al up`, `al demo` and the tests."""

import os
import sys
from pathlib import Path

from al_pipeline.loop.local import make_credentials
from al_pipeline.servers import first_start
from al_pipeline.servers.processes import HOST, Service, ServiceError, answers, port_in_use

VERSION = first_start.VERSION
# Keys of services that no image is shown from, and where their libraries look when a variable names none.
FOREIGN = ("AZURE_", "CLOUDSDK_", "GOOGLE_")
NOWHERE_ELSE = {"CLOUDSDK_CONFIG": os.devnull, "NO_GCE_CHECK": "true"}
# The same of AWS: its files, those of an older library, and the machine's role.
NO_KEYS = dict.fromkeys(("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"), os.devnull)
NO_KEYS |= {"AWS_EC2_METADATA_DISABLED": "true"}


class LocalLabelStudio(Service):
    """One local server.

    Parameters
    ----------
    data_dir : Path
        Its database, its uploads, and our `credentials.json`.
    images : Path
        The folder of published images; its parent is the root that Label Studio may serve files from.
    port : int
    log : Path
    keymap : str, optional
        What its pages are told of keys, as `labelstudio.submitting.editor_keymap` returns it.
    bucket : bool
        Whether it shows images from a bucket: else it gets no keys of one.
    """

    def __init__(
        self, data_dir: Path, images: Path, *, port: int, log: Path, keymap: str | None = None, bucket: bool = False
    ) -> None:
        import uv

        self.url, self.document_root = f"http://{HOST}:{port}", images.resolve().parent
        known = self.credentials = make_credentials(data_dir)
        self.username, self.password, self.token = known.username, known.password, known.token
        argv = [
            *(sys.executable, "-m", first_start.__name__, uv.find_uv_bin(), str(data_dir.resolve())),
            *("start", "--no-browser", "--internal-host", HOST, "--port", str(port)),
            *("--data-dir", str(data_dir.resolve())),
        ]
        super().__init__(
            "Label Studio",
            argv,
            log=log,
            health=lambda: answers(f"{self.url}/health"),
            env=self._environment(data_dir, bucket) | ({"EDITOR_KEYMAP": keymap} if keymap else {}),
            port=port,
        )

    @property
    def remark(self) -> str | None:
        """What whoever starts it should know: that it has keys of ours which open more than it shows."""
        if NO_KEYS.items() <= (self.env or {}).items():
            return None
        return (
            "Label Studio shows images of a bucket with our keys (AWS_ACCESS_KEY_ID, or those of AWS's own files): "
            "whoever labels might connect others that they open. LABEL_STUDIO_AWS_ACCESS_KEY_ID and "
            "LABEL_STUDIO_AWS_SECRET_ACCESS_KEY give it its own"
        )

    def _environment(self, data_dir: Path, bucket: bool) -> dict[str, str]:
        # Secrets go through the environment: a command line is readable by every user of the machine.
        return _with_bucket(first_start.environment(data_dir), bucket) | {
            "LABEL_STUDIO_HOST": self.url,
            "LABEL_STUDIO_USERNAME": self.username,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            # Whoever joins needs an invitation; other users of this machine reach the port too.
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.document_root),
            # Our webhook receiver and our ML backend listen on loopback, which Label Studio refuses otherwise.
            "SSRF_PROTECTION_ENABLED": "false",
            "ML_BLOCK_LOCAL_IP": "false",
        }

    def start(self) -> None:
        """Start the server; returns at once.

        Raises
        ------
        ServiceError
            The port is in use. Label Studio would quietly take the next one.
        """
        if self.port is not None and port_in_use(self.port):
            raise ServiceError(f"Label Studio cannot use port {self.port} of {HOST}: something listens there already")
        self.document_root.mkdir(parents=True, exist_ok=True)
        super().start()


def _with_bucket(environment: dict[str, str], bucket: bool) -> dict[str, str]:
    """Return an environment with the endpoint of a bucket by Label Studio's name for it, or without any key.

    Whoever labels may connect a bucket that Label Studio has the key of, also of another service than AWS, and one that
    it finds in a file of ours or asks a machine in a cloud for. It looks for names of its own first:
    ``LABEL_STUDIO_AWS_ACCESS_KEY_ID`` and so on hold those of a key for the one bucket alone, and then ours are not
    handed on.
    """
    own = "LABEL_STUDIO_AWS_ACCESS_KEY_ID" in environment
    names = ("LABEL_STUDIO_S3_ENDPOINT", "S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((environment[name] for name in names if environment.get(name)), None)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    foreign = FOREIGN if bucket and not own else (*FOREIGN, "AWS_")
    environment = {name: value for name, value in environment.items() if not name.startswith(foreign)} | NOWHERE_ELSE
    if own or not bucket:
        environment |= NO_KEYS
    told = {"S3_ENDPOINT": endpoint, "S3_region": region}
    return environment | {name: value for name, value in told.items() if bucket and value}
