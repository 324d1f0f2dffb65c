"""Weights of the makers: those in torch's cache, or downloaded there, whole and checked, without waiting for ever."""

import hashlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.architectures import TIMM

# torchvision's default weights, which it takes a second to ask for; the digits begin the file's SHA-256.
FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-11ad3fa6.pth",
    "resnet101": "resnet101-cd907fc2.pth",
    "resnet152": "resnet152-f82ba261.pth",
}
HUB = "https://download.pytorch.org/models/"
# Seconds until a server answers, and until the next bytes come.
PATIENCE = 10.0
# Bytes per second, after as many seconds to begin with: a mobile phone is faster, 45 MB take half an hour.
SLOWEST, HEAD_START = 25_000, 30.0
BLOCK = 1 << 18

Progress = Callable[[int, int], None]


def place(architecture: str) -> Path:
    """Return where torch and torchvision keep the ImageNet weights of an architecture, there or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch").expanduser()
    return home / "hub" / "checkpoints" / FILES[architecture]


def fetch(architecture: str, hub: str | None = None, progress: Progress | None = None) -> Path:
    """Return the file with the ImageNet weights of an architecture; it is downloaded if torch's cache lacks it.

    A file in the cache that is damaged is downloaded anew. Of timm's networks they are those that go with the name.

    Parameters
    ----------
    architecture : str
        One of `architectures.ARCHITECTURES`, or of timm's.
    hub : str, optional
        Address of the folder with torchvision's files, over http, https or file; torchvision's own by default. For
        timm's networks that of a server like Hugging Face's hub.
    progress : callable, optional
        Called with the number of bytes that have come and of all, 0 if the server does not say it: at first with none,
        at the end with all.

    Raises
    ------
    CheckpointError
        They could not be downloaded in time, are not what torchvision's name says, or could not be written.
    """
    if architecture.startswith(TIMM):
        from al_pipeline.core.learning.timm_hub import fetch_timm

        return fetch_timm(architecture, hub, progress or (lambda done, total: None))
    path = place(architecture)
    if path.is_file() and _is_whole(path, path.stat().st_size, path.stat().st_mtime_ns):
        return path
    url = f"{(hub or HUB).rstrip('/')}/{path.name}"
    digest = hashlib.sha256()
    try:
        answer = _opened(url)
    except (OSError, HTTPException, ValueError) as error:
        raise _missing(architecture, url, error) from error
    with closing(answer), whole_file(path, "The ImageNet weights", error=CheckpointError) as temporary:
        with temporary.open("wb") as file:
            for block in _blocks(answer, architecture, url, progress or (lambda done, total: None)):
                digest.update(block)
                file.write(block)
        if not digest.hexdigest().startswith(_digits(path)):
            problem = f"its SHA-256 begins with {digest.hexdigest()[:8]}, not with {_digits(path)}"
            raise _missing(architecture, url, ValueError(problem))
    return path


def _missing(architecture: str, url: str, error: Exception) -> CheckpointError:
    reason = (error.reason if isinstance(error, urllib.error.URLError) else error) or type(error).__name__
    path = place(architecture)
    return CheckpointError(
        f"The ImageNet weights of {architecture} could not be downloaded from {url} ({reason}). "
        f"Try again with a network, put {path.name} into {path.parent}, name another address in AL_WEIGHTS_URL, or "
        "set training.weights to none or to the path of a .safetensors or .pt file"
    )


def _opened(url: str) -> Any:
    """Return the server's answer, or raise TimeoutError.

    In a thread of its own: neither looking up a name nor trying one address after the other has a limit.
    """
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(urllib.request.urlopen(url, timeout=PATIENCE))  # noqa: S310 - of what kind it may be the setting says
        except urllib.error.HTTPError as error:
            # It holds the connection.
            error.close()
            answers.append(OSError(str(error)))
        except Exception as error:  # noqa: BLE001 - raised in the thread that asks
            answers.append(error)

    thread = threading.Thread(target=ask, name="weights", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not answers:
        raise TimeoutError(f"no answer within {PATIENCE:.0f} s")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _blocks(answer: Any, architecture: str, url: str, progress: Progress) -> Iterator[bytes]:
    """Yield what comes, as it comes; CheckpointError if that ends early or gets too slow."""
    began, done, total = time.monotonic(), 0, int(answer.headers.get("Content-Length") or 0)
    progress(done, total)
    try:
        # What has come, not a whole block: a server that sends byte by byte is noticed.
        while block := answer.read1(BLOCK):
            done += len(block)
            seconds = time.monotonic() - began
            if seconds > HEAD_START + done / SLOWEST:
                raise TimeoutError(f"only {done / 1e6:.1f} MB came in {seconds:.0f} s")
            yield block
            progress(done, total)
        if done < total:
            raise ConnectionError(f"the download was cut off after {done} of {total} bytes")
    except (OSError, HTTPException) as error:
        raise _missing(architecture, url, error) from error


def _digits(path: Path) -> str:
    """Return what the SHA-256 of a file begins with, as its name says."""
    return path.stem.rpartition("-")[2]


@lru_cache
def _is_whole(path: Path, size: int, written: int) -> bool:
    """Say whether a file is what its name says. Remembered while size and moment of writing stay."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(_digits(path))
