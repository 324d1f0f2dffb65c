"""Networks of timm, drawn at random: their features, heads, fine-tuning and exports are what timm itself computes."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from al_pipeline.core.data.images import decode
from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.learning.architectures import config
from al_pipeline.core.learning.checkpoint import Checkpoint, build
from al_pipeline.core.learning.export import describe, export_model
from al_pipeline.core.learning.hub import fetch
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict
from al_pipeline.core.learning.train import train, untrained
from al_pipeline.core.turn import Given, learn
from al_pipeline.loop.weights import settle_weights
from al_pipeline.settings import load_settings
from al_pipeline_tests.core.data.pictures import draw

# A transformer that is built for one size, a convolutional network, and one whose classifier is two levels down.
NETWORKS = {"test_vit": 32, "test_resnet": 32, "test_convnext": 32}
LABELS = ["black", "white"] * 8


def theirs(name: str, **more: Any) -> torch.nn.Module:
    """Return a network of timm that was not trained, always the same."""
    fixed = {"img_size": NETWORKS[name]} if name == "test_vit" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return timm.create_model(name, **fixed, **more).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of each network, with a classifier of 1,000 classes."""
    made = tmp_path_factory.mktemp("weights")
    for name in NETWORKS:
        safetensors.torch.save_file(theirs(name).state_dict(), made / f"{name}.safetensors")
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return draw(tmp_path_factory.mktemp("images"), LABELS, side=40)


def options(name: str, folder: Path, **more: Any) -> TrainingOptions:
    weights = str(folder / f"{name}.safetensors")
    return TrainingOptions(**{"architecture": f"timm:{name}", "weights": weights, "image_size": NETWORKS[name]} | more)


def normalized(checkpoint: Checkpoint, images: list[str]) -> torch.Tensor:
    """Return images as timm's own transforms end, from our squares."""
    info, own = checkpoint.info, config(checkpoint.info.architecture)
    pixels = np.stack([decode(path, info.image_size, info.framing) for path in images])
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return (scaled - torch.tensor(own.mean).view(3, 1, 1)) / torch.tensor(own.std).view(3, 1, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_what_timm_gives_its_own_classifier(name: str, folder: Path, images: list[str]) -> None:
    checkpoint = untrained(["a", "b"], options(name, folder), seed=1, round_number=0).checkpoint
    model, inputs = theirs(name), normalized(checkpoint, images)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(inputs), pre_logits=True)  # type: ignore[operator]
    found = embed(checkpoint, images)
    assert found.shape == tuple(expected.shape)
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_squares_are_those_of_timms_own_transform(name: str, folder: Path, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 48 * 64 * 3).reshape(48, 64, 3).transpose(0, 2, 1).reshape(48, 64, 3)
    Image.fromarray(ramp.astype(np.uint8)).resize((64, 48)).save(tmp_path / "ramp.png")
    info = untrained(["a", "b"], options(name, folder), seed=1, round_number=0).checkpoint.info
    given = resolve_data_config(pretrained_cfg=config(f"timm:{name}").to_dict())
    transform: Any = create_transform(**given | {"input_size": (3, 32, 32)})
    scaled: Any = transform(Image.open(tmp_path / "ramp.png"))
    expected = scaled * torch.tensor(info.std).view(3, 1, 1) + torch.tensor(info.mean).view(3, 1, 1)
    ours = decode(tmp_path / "ramp.png", info.image_size, info.framing)
    # timm makes it a little larger and cuts, rounding to pixels in between.
    assert np.abs(255 * expected.permute(1, 2, 0).numpy() - ours).mean() < 4
    assert info.framing == {"test_vit": "crop-bicubic-950", "test_resnet": "crop-950"}[name]
    assert (info.mean, info.image_size) == ((0.5, 0.5, 0.5), 32)


@pytest.mark.parametrize(("name", "mode"), [("test_vit", "finetune"), ("test_convnext", "head")])
def test_a_turn_learns_keeps_and_exports_what_timm_computes(
    name: str, mode: str, folder: Path, images: list[str], tmp_path: Path
) -> None:
    asked = options(name, folder, mode=mode, epochs=1, learning_rate=1e-3)
    targets = np.array([label == "white" for label in LABELS], dtype=np.int64)
    rows = np.arange(len(images))
    model = learn(Given(images), rows, targets, ["black", "white"], asked, seed=1, number=2)
    assert model.checkpoint is not None
    model.checkpoint.save(tmp_path / "r0002.safetensors")
    stored = Checkpoint.load(tmp_path / "r0002.safetensors")
    own = {key.removeprefix("body."): value for key, value in stored.state.items() if key.startswith("body.")}
    given = safetensors.torch.load_file(folder / f"{name}.safetensors")
    assert (mode == "head") == all(torch.equal(given[key], value) for key, value in own.items())
    body = theirs(name, num_classes=0)
    body.load_state_dict(own)
    with torch.inference_mode():
        logits = body(normalized(stored, images)) @ stored.state["fc.weight"].T + stored.state["fc.bias"]
    expected = torch.softmax(logits.double() / stored.info.temperature, dim=1).numpy()
    assert np.abs(predict(stored, images) - expected).max() < 1e-5
    if mode == "head":
        assert (expected.argmax(axis=1) == targets).all(), "shades are told apart"
    else:
        again = train(images, LABELS, ["black", "white"], asked, seed=1, round_number=2).checkpoint
        assert again.hash == stored.hash
    assert export_model(stored, tmp_path / "model.pt", "torchscript").difference < 1e-5
    assert "the shorter side resized to 34 pixels (bicubic, antialiased)" in describe(stored)["input"]


def test_a_checkpoint_is_where_others_may_start(folder: Path, images: list[str], tmp_path: Path) -> None:
    asked = options("test_resnet", folder, mode="finetune", epochs=1)
    first = train(images, LABELS, ["black", "white"], asked, seed=1, round_number=0).checkpoint
    first.save(tmp_path / "r0000.safetensors")
    more = asked.but(weights=str(tmp_path / "r0000.safetensors"))
    start = untrained(["a", "b", "c"], more, seed=1, round_number=0).checkpoint
    assert torch.equal(start.state["body.conv1.0.weight"], first.state["body.conv1.0.weight"])
    warm = options("test_vit", folder, mode="finetune", epochs=1, warm_start=True)
    before = train(images, LABELS, ["black", "white"], warm, seed=1, round_number=0).checkpoint
    larger = warm.but(image_size=64)
    with pytest.raises(InputError, match=r"which saw 32 px: set training.warm_start to false or .*image_size back"):
        train(images, LABELS, ["black", "white"], larger, seed=1, round_number=1, previous=before)


def test_features_are_kept_apart_by_what_they_depend_on(folder: Path) -> None:
    def backbone(name: str, **more: Any) -> str:
        return untrained(
            ["a", "b"], options(name, folder, **more), seed=1, round_number=0
        ).checkpoint.info.backbone_hash

    assert backbone("test_resnet") == backbone("test_resnet", mode="finetune") != backbone("test_resnet", image_size=48)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("timm:convnext_ato", r"has no network 'convnext_ato' .*did you mean timm:convnext_atto"),
        ("timm:test_vit.none", r"has no network 'test_vit.none' .*did you mean timm:test_vit.r160_in1k\?"),
        ("timm:qqqqqqqqqq", r"timm.list_models\(\) lists them"),
    ],
)
def test_an_unknown_name_proposes_the_nearest_ones(architecture: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(architecture, 2, seed=0)


def test_a_missing_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm:test_vit2 needs the package timm.*pip install 'al_pipeline\[timm\]'"):
        build("timm:test_vit2", 2, seed=0)


def test_words_for_weights_go_with_their_library() -> None:
    with pytest.raises(InputError, match=r"weights imagenet are none of timm:test_vit's: set training.weights to hub"):
        TrainingOptions(architecture="timm:test_vit", weights="imagenet")
    with pytest.raises(InputError, match=r"weights hub are none of resnet18's: set training.weights to imagenet"):
        TrainingOptions(weights="hub")
    with pytest.raises(InputError, match="unknown architecture 'timm:'; choose one of resnet18"):
        TrainingOptions(architecture="timm:")
    assert TrainingOptions(architecture="timm:test_vit").settled_weights == "hub"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.weight": None}, 'do not fit timm:test_vit in timm\'s layout: Missing key.*"norm.weight"'),
        ({"stem.weight": torch.ones(3)}, 'Unexpected key.*"stem.weight"'),
        ({"norm.weight": torch.ones(3)}, "size mismatch for norm.weight"),
        (
            {"norm.weight": torch.full((64,), torch.nan)},
            "cannot be computed with.*NaN or infinite values in norm.weight",
        ),
        ({"norm.weight": torch.ones(64).long()}, "has int64 instead of floating point numbers in norm.weight"),
    ],
)
def test_weights_that_do_not_fit_say_where(
    folder: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    state = safetensors.torch.load_file(folder / "test_vit.safetensors") | change
    torch.save({"state_dict": {k: v for k, v in state.items() if v is not None}}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        build("timm:test_vit", 2, weights=str(tmp_path / "odd.pt"), seed=0, image_size=32)


def test_weights_of_nothing_and_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match="the file holds no tensors of a network"):
        build("timm:test_vit", 2, weights=str(tmp_path / "nothing.pt"), seed=0, image_size=32)
    with pytest.raises(CheckpointError, match=r"do not fit timm:test_resnet.*training.architecture to that of"):
        build("timm:test_resnet", 2, weights=str(folder / "test_vit.safetensors"), seed=0, image_size=32)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that offers one file as the hub does; its client's cache is empty."""
    data = (folder / "test_vit.safetensors").read_bytes()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            there = self.path == "/timm/test_vit.r160_in1k/resolve/main/model.safetensors"
            self.send_response(200 if there else 404)
            if not there:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data) if there else 0))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_weights_come_from_the_hub_once_and_without_it_that_is_an_error(hub: str, folder: Path, tmp_path: Path) -> None:
    asked = TrainingOptions(architecture="timm:test_vit")
    offline = load_settings(home=tmp_path / "home", weights_url="http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"test_vit.r160_in1k on http://127.0.0.1:9 \(.*refused.*AL_WEIGHTS_URL"):
        settle_weights(asked, offline)
    with pytest.raises(CheckpointError, match=r"test_vit2.r160_in1k on .*has neither model.safetensors nor"):
        fetch("timm:test_vit2", hub)
    told: list[tuple[int, int]] = []
    online = load_settings(home=tmp_path / "home", weights_url=hub)
    found = settle_weights(asked, online, progress=lambda done, total: told.append((done, total)))
    assert (found.training.weights, found.training.image_size) == ("hub", 160)
    size = (folder / "test_vit.safetensors").stat().st_size
    assert told[0] == (0, size)
    assert told[-1] == (size, size)
    assert settle_weights(asked, offline).said == found.said, "they are in the cache"
    given = safetensors.torch.load_file(folder / "test_vit.safetensors")
    # Positions of 32 px are stretched to those of 64.
    model = build("timm:test_vit", 2, weights="hub", seed=0, image_size=64)
    assert torch.equal(model.state_dict()["body.blocks.0.attn.qkv.weight"], given["blocks.0.attn.qkv.weight"])
    assert model.state_dict()["body.pos_embed"].shape != given["pos_embed"].shape
