"""A hub with weights of our own in a small file: zeros that share their memory, under the digits of its SHA-256."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision

from al_pipeline.core.learning.hub import FILES, place


def made_up(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write weights of a ResNet-18, have them known by their name, and return the file; torch's cache is empty."""
    with torch.device("meta"):
        fitting = torchvision.models.resnet18().state_dict()
    state = {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in fitting.items()}
    hub.mkdir()
    torch.save(state, hub / "new.pth")
    file = hub / f"resnet18-{hashlib.sha256((hub / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
    (hub / "new.pth").rename(file)
    monkeypatch.setenv("TORCH_HOME", str(hub.parent / "torch"))
    monkeypatch.setitem(FILES, "resnet18", file.name)
    assert not place("resnet18").exists()
    return file
