"""Encoders, decoders and the loop over time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hsnn_compiler.nn import IF, LIF, Direct, Last, Rate, Sum, TimeLoop


def test_direct_repeats_without_copying() -> None:
    x = torch.randn(2, 3)
    steps = Direct(5)(x)
    assert steps.shape == (5, 2, 3)
    assert steps.data_ptr() == x.data_ptr()
    assert all(torch.equal(step, x) for step in steps)


@pytest.mark.parametrize("timesteps", [0, -1])
def test_direct_needs_a_step(timesteps: int) -> None:
    with pytest.raises(ValueError, match="timesteps"):
        Direct(timesteps)


def test_decoders() -> None:
    steps = torch.arange(12.0).reshape(3, 2, 2)
    assert torch.equal(Rate()(steps), steps.mean(0))
    assert torch.equal(Sum()(steps), steps[0] + steps[1] + steps[2])
    assert torch.equal(Last()(steps), torch.tensor([[8.0, 9.0], [10.0, 11.0]]))


def network() -> Any:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 6), LIF(), nn.Sequential(nn.Linear(6, 3), IF(threshold=0.25)))
    return TimeLoop(Direct(7), body, Sum())


def test_loop_is_the_loop_written_by_hand() -> None:
    loop = network()
    x = torch.randn(5, 4)
    first, second = LIF(), IF(threshold=0.25)
    expected = torch.zeros(5, 3)
    for _ in range(7):
        expected += second(loop.body[2][0](first(loop.body[0](x))))
    assert expected.sum() > 0
    assert torch.equal(loop(x), expected)


def test_loop_starts_afresh_for_every_input() -> None:
    loop = network()
    x = torch.randn(5, 4)
    first = loop(x)
    assert loop.body[1].v is not None  # of the last step, for traces
    assert torch.equal(loop(x), first)
    assert loop(torch.randn(2, 4)).shape == (2, 3)  # another batch size


def test_loop_resets_what_the_user_wrote() -> None:
    class Counter(nn.Module):
        count = 0

        def reset_state(self) -> None:
            self.count = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return x * self.count

    loop = TimeLoop(Direct(3), Counter(), Last())
    x = torch.ones(1, 1)
    assert (loop(x).item(), loop(x).item()) == (3.0, 3.0)


def test_gradients_reach_the_first_layer() -> None:
    loop: Any = TimeLoop(Direct(4), network().body, Rate())
    loop(torch.randn(5, 4)).sum().backward()
    assert loop.body[0].weight.grad.abs().sum() > 0
