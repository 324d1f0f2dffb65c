"""Networks are built from a seed, and a checkpoint is one file that is whole, ours and unchanged, or an error."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision

from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.learning.checkpoint import Checkpoint, CheckpointInfo, build, read_info, state_hash
from al_pipeline.core.learning.train import TrainingOptions, untrained

NAMES = ("grüner Wald", "dark horse", "寿司")
BACKBONE = Path(__file__).parents[3] / "../shared/data/resnet18_tin199.safetensors"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return untrained(NAMES, TrainingOptions(image_size=32), seed=5, round_number=2).checkpoint


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "r0002.safetensors"
    checkpoint.save(path)
    return path


@contextmanager
def file_size_limit(bytes_: int) -> Iterator[None]:
    """Let the operating system refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_same_seed_builds_the_same_network_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (build("resnet18", 3, seed=seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert state_hash(one) == state_hash(same) != state_hash(other)


def test_networks_share_no_memory() -> None:
    first, second = (build("resnet18", 2, seed=3) for _ in range(2))
    before = state_hash(second.state_dict())
    with torch.no_grad():
        for value in first.state_dict().values():
            value.zero_()
    assert state_hash(second.state_dict()) == before
    assert state_hash(build("resnet18", 2, seed=3).state_dict()) == before


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_new_network_is_drawn_as_torchvision_draws_it(architecture: str) -> None:
    ours = build(architecture, 7, seed=3).state_dict()
    theirs = torchvision.models.get_model(architecture, weights=None, num_classes=7).state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if value.ndim < 2 and not name.startswith("fc"):  # batch normalisation starts at fixed values
            assert torch.equal(ours[name], value), name
        else:
            # 6 standard errors of a standard deviation, and of a mean.
            spread, wide = value.std().item(), 6 / value.numel() ** 0.5
            assert ours[name].std().item() == pytest.approx(spread, rel=wide), name
            assert ours[name].mean().item() == pytest.approx(0, abs=wide * spread), name


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_every_member_of_the_family_answers_with_one_number_per_class(architecture: str) -> None:
    model = build(architecture, 7, seed=0).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_an_unknown_architecture_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"'vgg16'.*resnet18, resnet34, resnet50, resnet101, resnet152"):
        build("vgg16", 3, seed=0)


def test_a_classifier_of_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 classes, not 1"):
        build("resnet18", 1, seed=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_a_file_replace_all_but_the_classifier(tmp_path: Path, suffix: str) -> None:
    source = {name: value.half() if value.is_floating_point() else value for name, value in _wide_state().items()}
    path = tmp_path / f"backbone{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(source, path)
    else:
        torch.save(source, path)
    one, other = (build("resnet18", 3, weights=str(path), seed=seed).state_dict() for seed in (1, 2))
    assert one["conv1.weight"].dtype == torch.float32
    assert torch.equal(one["layer4.1.conv2.weight"], source["layer4.1.conv2.weight"].float())
    assert torch.equal(one["layer1.0.bn1.running_var"], other["layer1.0.bn1.running_var"])
    assert one["fc.weight"].shape == (3, 512)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_weights_without_batch_counters_load(tmp_path: Path) -> None:
    state = {name: value for name, value in _wide_state().items() if not name.endswith("num_batches_tracked")}
    safetensors.torch.save_file(state, tmp_path / "old.safetensors")
    assert build("resnet18", 3, weights=str(tmp_path / "old.safetensors"), seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.0.conv1.weight": None}, "lacks layer1.0.conv1.weight"),
        ({"stem.weight": torch.ones(3)}, "has the unknown stem.weight"),
        (
            {"conv1.weight": torch.ones(64, 3, 3, 3)},
            r"conv1.weight of shape \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)",
        ),
        ({"bn1.weight": torch.full((64,), torch.nan)}, "NaN or infinite values in bn1.weight"),
        ({"bn1.weight": torch.full((64,), -torch.inf).double()}, "NaN or infinite values in bn1.weight"),
        ({"bn1.bias": torch.full((64,), 1e39, dtype=torch.float64)}, "values beyond the range of float32 in bn1.bias"),
        ({"bn1.running_var": torch.full((64,), -0.01)}, "has negative variances in bn1.running_var"),
        (
            {"conv1.weight": torch.ones(64, 3, 7, 7).char()},
            "has int8 instead of floating point numbers in conv1.weight",
        ),
        (
            {"bn1.bias": torch.ones(64).bool(), "bn1.weight": torch.ones(64).long()},
            "in bn1.bias; has int64 .*bn1.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_say_where(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    state = {name: value for name, value in (_wide_state() | change).items() if value is not None}
    safetensors.torch.save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=message):
        build("resnet18", 3, weights=str(tmp_path / "odd.safetensors"), seed=0)


def test_what_is_wrong_with_values_is_not_put_down_to_the_architecture(tmp_path: Path) -> None:
    torch.save(
        {name: value.to(torch.complex64) if name == "bn1.bias" else value for name, value in _wide_state().items()},
        tmp_path / "complex.pt",
    )
    with pytest.raises(CheckpointError, match=r"complex.pt .* complex64 .* in bn1.bias. Save them again") as raised:
        build("resnet18", 3, weights=str(tmp_path / "complex.pt"), seed=0)
    assert "architecture" not in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_any_floating_point_type_load(tmp_path: Path, dtype: torch.dtype) -> None:
    # The largest float32, and batch counters as whole numbers, as torch has them.
    state = _wide_state() | {"bn1.bias": torch.full((64,), torch.finfo(torch.float32).max)}
    given = {name: value.to(dtype) if name == "bn1.weight" else value for name, value in state.items()}
    given["bn1.bias"] = given["bn1.bias"].double()
    safetensors.torch.save_file(given, tmp_path / "given.safetensors")
    loaded = build("resnet18", 3, weights=str(tmp_path / "given.safetensors"), seed=0).state_dict()
    assert torch.equal(loaded["bn1.weight"], state["bn1.weight"].to(dtype).float())
    assert torch.equal(loaded["bn1.bias"], state["bn1.bias"])


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file(_wide_state(), tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit resnet34.*and \d+ more.*training.architecture"):
        build("resnet34", 3, weights=str(tmp_path / "small.safetensors"), seed=0)


@pytest.mark.parametrize("name", ["backbone.safetensors", "backbone.pt"])
@pytest.mark.parametrize(
    ("content", "message"), [(None, "There is no file"), (b"", "damaged"), (b"no weights", "damaged")]
)
def test_missing_and_damaged_weights_are_errors(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        build("resnet18", 3, weights=str(tmp_path / name), seed=0)


def test_a_pickle_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list, not a state dict"):
        build("resnet18", 3, weights=str(tmp_path / "list.pt"), seed=0)


def test_weights_that_are_neither_a_word_nor_a_path_list_what_is_valid() -> None:
    with pytest.raises(InputError, match=r"'imagnet'.*auto, none, imagenet, or the path"):
        build("resnet18", 3, weights="imagnet", seed=0)


def test_a_failed_download_says_what_to_set_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nothing listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CheckpointError, match=r"could not be downloaded.*training.weights to none"):
        build("resnet18", 3, weights="imagenet", seed=0)


@pytest.mark.skipif(not BACKBONE.exists(), reason="needs the shared backbone beside the project")
def test_a_real_half_precision_backbone_with_199_classes_loads() -> None:
    model = build("resnet18", 2, weights=str(BACKBONE), seed=0).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).isfinite().all()


def test_a_checkpoint_survives_the_disk(checkpoint: Checkpoint, saved: Path) -> None:
    loaded = Checkpoint.load(saved)
    assert loaded.info == checkpoint.info == read_info(saved)
    assert loaded.hash == checkpoint.hash == state_hash(loaded.state)[:16]
    assert loaded.info.class_names == NAMES
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.model()(x), checkpoint.model()(x))


def test_thresholds_are_kept_and_checkpoints_of_earlier_versions_have_none(checkpoint: Checkpoint) -> None:
    info = replace(checkpoint.info, thresholds=(0.9, 0.1))
    assert CheckpointInfo.from_json(info.to_json()) == info
    earlier = {name: value for name, value in json.loads(info.to_json()).items() if name != "thresholds"}
    assert CheckpointInfo.from_json(json.dumps(earlier)).thresholds == ()


def test_the_framing_is_kept_and_checkpoints_of_earlier_versions_have_crops(checkpoint: Checkpoint) -> None:
    info = replace(checkpoint.info, framing="pad")
    assert CheckpointInfo.from_json(info.to_json()) == info
    told = json.loads(info.to_json())
    earlier = {name: value for name, value in told.items() if name != "framing"}
    assert CheckpointInfo.from_json(json.dumps(earlier)).framing == "crop"
    with pytest.raises(CheckpointError, match="no framing 'tiles'"):
        CheckpointInfo.from_json(json.dumps(told | {"framing": "tiles"}))


def test_the_hash_follows_every_value_name_and_shape() -> None:
    state = {"a": torch.arange(6.0), "b": torch.zeros(2, dtype=torch.int64)}
    assert state_hash(state) == state_hash(dict(reversed(state.items())))
    others = [
        state | {"a": torch.arange(6.0) + 1e-6},
        state | {"a": torch.arange(6.0).reshape(2, 3)},
        state | {"b": torch.zeros(2, dtype=torch.int32)},
        {"c": state["a"], "b": state["b"]},
    ]
    assert len({state_hash(other) for other in [state, *others]}) == 5


def test_a_model_is_in_evaluation_mode_and_changing_it_leaves_the_checkpoint(checkpoint: Checkpoint) -> None:
    model = checkpoint.model()
    assert not model.training
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert state_hash(checkpoint.state)[:16] == checkpoint.hash


def test_a_checkpoint_is_where_training_can_start(checkpoint: Checkpoint, saved: Path) -> None:
    state = build("resnet18", 9, weights=str(saved), seed=0).state_dict()
    assert torch.equal(state["conv1.weight"], checkpoint.state["conv1.weight"])


def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_nothing_behind(checkpoint: Checkpoint, saved: Path) -> None:
    newer = replace(checkpoint, info=replace(checkpoint.info, round=3))
    with file_size_limit(1 << 20), pytest.raises(CheckpointError, match=r"could not be written.*unchanged"):
        newer.save(saved)
    assert read_info(saved).round == 2
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_replaces_the_old_checkpoint(checkpoint: Checkpoint, saved: Path) -> None:
    replace(checkpoint, info=replace(checkpoint.info, round=3)).save(saved)
    assert Checkpoint.load(saved).info.round == 3
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_a_file_is_an_error_with_the_path(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(CheckpointError, match="models/r0000"):
        checkpoint.save(tmp_path / "models" / "r0000.safetensors")


def test_a_missing_checkpoint_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no file .*r0009"):
        Checkpoint.load(tmp_path / "r0009.safetensors")


def test_a_truncated_checkpoint_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.load(saved)


def test_a_single_wrong_byte_in_the_weights_is_found(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-5000] ^= 1
    saved.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="its weights hash to"):
        Checkpoint.load(saved)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no description of this project's"),
        ({"al_pipeline.checkpoint": "{"}, "cannot be read"),
        ({"al_pipeline.checkpoint": '{"architecture": "resnet18"}'}, "cannot be read"),
    ],
)
def test_a_foreign_or_headless_file_is_no_checkpoint(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"a": torch.ones(3)}, path, metadata)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(path)


@cache
def _wide_state() -> dict[str, torch.Tensor]:
    return build("resnet18", 199, seed=3).state_dict()
