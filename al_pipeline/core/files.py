"""Files for secrets, whole and readable by their owner alone, and the folder that they and people's labels lie in."""

import os
import secrets
from pathlib import Path


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone may look into; one that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner alone from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def kept_secret(path: Path) -> str:
    """Return the secret that the file keeps, drawn at random at the first call."""
    if path.exists() and (known := path.read_text().strip()):
        return known
    drawn = secrets.token_urlsafe(32)
    write_private(path, drawn)
    return drawn
