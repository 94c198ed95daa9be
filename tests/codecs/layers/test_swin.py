from __future__ import annotations

import torch

from codec.codecs.layers.swin import ResidualSwin, SwinBlock


def reach(block: SwinBlock, at: tuple[int, int]) -> torch.Tensor:
    """(H, W) bool: which tokens the output at a place depends on."""
    x = torch.randn(1, 16, 24, 8, requires_grad=True)
    block(x)[0, at[0], at[1]].square().sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(-1) > 0


def test_windows() -> None:
    torch.manual_seed(0)
    seen = reach(SwinBlock(8, 2, 0), (9, 3))
    expected = torch.zeros(16, 24, dtype=torch.bool)
    expected[8:16, 0:8] = True
    assert torch.equal(seen, expected)


def test_shifted_windows_stop_at_the_border() -> None:
    torch.manual_seed(0)
    block = SwinBlock(8, 2, 4)
    expected = torch.zeros(16, 24, dtype=torch.bool)
    expected[4:12, 4:12] = True
    assert torch.equal(reach(block, (9, 8)), expected)
    # a window that the roll has joined from opposite borders: masked, so that only its own corner counts
    seen = reach(block, (0, 0))
    expected = torch.zeros(16, 24, dtype=torch.bool)
    expected[0:4, 0:4] = True
    assert torch.equal(seen, expected)


def test_position_bias_depends_on_the_offset_only() -> None:
    torch.manual_seed(0)
    bias = SwinBlock(8, 2, 0).bias()[0].reshape(2, 8, 8, 8, 8)
    assert torch.equal(bias[:, 1, 2, 3, 5], bias[:, 4, 1, 6, 4])
    assert not torch.equal(bias[:, 1, 2, 3, 5], bias[:, 3, 5, 1, 2])


def test_residual_block() -> None:
    torch.manual_seed(0)
    net = ResidualSwin(12, 3, 3)
    assert [block.shift for block in net.blocks] == [0, 4, 0]
    x = torch.randn(2, 12, 8, 8)
    y = net(x)
    assert y.shape == x.shape
    # residual post-norm: what a block adds is normalised, so it can't explode
    assert (y - 2 * x).square().mean().item() < 6.5
