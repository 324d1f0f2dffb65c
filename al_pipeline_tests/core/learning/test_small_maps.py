"""The faster convolution computes what the plain one does."""

import pytest
import torch
from torch import nn

from al_pipeline.core.learning.checkpoint import build, state_hash
from al_pipeline.core.learning.small_maps import SmallMapConv2d, use_small_maps


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(1, 3, 1, 1), (2, 3, 1, 1), (2, 3, 2, 1), (3, 3, 2, 1), (4, 3, 2, 1), (2, 1, 2, 0), (1, 1, 1, 0), (9, 3, 1, 1)],
)
def test_outputs_and_gradients_are_those_of_the_plain_convolution(
    side: int, kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(side + kernel)
    plain = nn.Conv2d(5, 7, kernel, stride=stride, padding=padding, bias=False)
    fast = nn.Conv2d(5, 7, kernel, stride=stride, padding=padding, bias=False)
    fast.load_state_dict(plain.state_dict())
    use_small_maps(fast.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert type(fast) is SmallMapConv2d
    x = torch.randn(6, 5, side, side, requires_grad=True)
    y = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    expected, found = plain(x), fast(y)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.grad, x.grad)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)


def test_other_convolutions_stay_as_they_are() -> None:
    kept = nn.Sequential(
        nn.Conv2d(4, 4, 3, bias=True),
        nn.Conv2d(4, 4, 3, bias=False, groups=2),
        nn.Conv2d(4, 4, 3, bias=False, dilation=2),
        nn.Conv2d(4, 4, 3, bias=False, padding="same"),
        nn.Conv2d(4, 4, 3, bias=False, padding_mode="circular", padding=1),
    )
    use_small_maps(kept)
    assert all(type(module) is nn.Conv2d for module in kept)


def test_the_state_of_a_network_keeps_its_names() -> None:
    model = build("resnet18", 2, seed=0)
    before = state_hash(model.state_dict())
    use_small_maps(model)
    assert state_hash(model.state_dict()) == before
    assert sum(type(module) is SmallMapConv2d for module in model.modules()) == 20
