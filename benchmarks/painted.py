"""What robots label in a browser: pictures whose class is their colour; and how a robot joins as an annotator."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.config import payload

CLASSES = ("red", "blue")


def painted_tasks(
    folder: Path, count: int, width: int, shown: Callable[[Path, str], str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Paint pictures of one colour and much noise; return a task for each, and the class of each sample.

    Parameters
    ----------
    folder : Path
        Gets the originals.
    count : int
    width : int
        Pixels of each picture; it is three quarters as high.
    shown : callable
        Publishes an original under a sample id, and returns the name of what is shown.
    """
    rng, truth, tasks = np.random.default_rng(0), dict[str, str](), list[dict[str, Any]]()
    noise = rng.integers(0, 60, (width * 3 // 4, width, 3), dtype=np.uint8)
    for name in rng.choice(CLASSES, count):
        sample = uuid4().hex
        pixels = np.roll(noise, int(rng.integers(width)), axis=1) + np.uint8(60)
        pixels[..., 0 if name == "red" else 2] += np.uint8(90)
        original = folder / f"{sample}.jpg"
        Image.fromarray(pixels).save(original, quality=85)
        row = {"sample_id": sample, "purpose": "query", "predicted": None}
        tasks.append(payload(row, round_key=round_key(0), image_name=shown(original, sample), prediction=False))
        truth[sample] = str(name)
    return tasks, truth


def join(page: Page, url: str, invitation: str) -> None:
    """Log in as an annotator who has just joined."""
    page.goto(url + invitation)
    page.fill("input[name=email]", f"{uuid4().hex[:8]}@example.com")
    page.fill("input[name=password]", uuid4().hex)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"^{re.escape(url)}/(projects/?.*)?$"))
