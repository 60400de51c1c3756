"""Residual connections and HAS blocks, and the loop layer by layer that they run in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from hsnn_compiler.nn import (
    IF,
    LIF,
    TTFS,
    BitPlane,
    BitPlaneSum,
    Direct,
    FirstSpikeTime,
    HASBlock,
    Parts,
    Rate,
    RateCode,
    Residual,
    SEWAdd,
    Sum,
    TimeLoop,
    has_conv,
    has_linear,
    has_residual,
    reset_states,
)


def trained_norms(model: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, as after training."""
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.05, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(part.bias, 0.2, 0.9)
    return model.eval()


def step_by_step(loop: TimeLoop, x: torch.Tensor) -> torch.Tensor:
    """The definition: one step after the other, all layers in each."""
    reset_states(loop.body)
    return loop.decoder(torch.stack([loop.body(step) for step in loop.encoder(x)]))


@pytest.mark.parametrize("mode", ["add", "and", "iand"])
def test_sew_functions_are_those_of_the_paper(mode: str) -> None:
    a, s = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    expected = {"add": [0, 1, 1, 2], "and": [0, 0, 0, 1], "iand": [0, 1, 0, 0]}[mode]
    assert SEWAdd(mode)(a, s).tolist() == expected


@pytest.mark.parametrize("mode", ["add", "and", "iand"])
@pytest.mark.parametrize("neuron", [IF, LIF, partial(IF, 0.5, "zero", "sigmoid")])
@pytest.mark.parametrize("stride", [1, 2])
def test_layer_by_layer_is_step_by_step(mode: str, neuron: Callable[[], nn.Module], stride: int) -> None:
    torch.manual_seed(1)
    block = has_residual(3, 3 if stride == 1 else 4, Parts(neuron=neuron, join=mode), stride=stride)
    trained_norms(block)
    x = torch.rand(4, 3, 6, 6)
    y = block.snn(x)
    assert y.unique().numel() > 10
    assert torch.equal(y, step_by_step(block.snn, x))
    assert torch.equal(block(x), block.ann(x) + y)


def test_layer_by_layer_is_the_loop_for_any_body() -> None:
    class Doubled(nn.Module):  # holds state, and is no Sequential
        def __init__(self) -> None:
            super().__init__()
            self.neuron = IF(0.7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spikes: torch.Tensor = self.neuron(2 * x)
            return spikes

    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 6), Doubled(), nn.Sequential(nn.Linear(6, 3), LIF()))
    x = torch.rand(5, 4)
    plain, layerwise = (TimeLoop(Direct(7), body, Sum(), layerwise=flag) for flag in (False, True))
    assert plain(x).sum() > 0
    assert torch.equal(layerwise(x), plain(x))


def test_batch_norm_learns_from_all_steps_at_once() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4, momentum=1.0)
    block = HASBlock(nn.Identity(), nn.Sequential(norm, IF()), BitPlane(4), BitPlaneSum())
    x = torch.rand(9, 4)
    block(x)
    steps = block.snn.encoder(x).flatten(0, 1)
    torch.testing.assert_close(norm.running_mean, steps.mean(0))
    torch.testing.assert_close(norm.running_var, steps.var(0))
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("training", [True, False])
def test_every_input_starts_afresh(training: bool) -> None:
    torch.manual_seed(0)
    block = has_linear([4, 5, 3], Parts()).train(training)
    x = torch.rand(6, 4)
    assert torch.equal(block(x), block(x))
    assert block(torch.rand(2, 4)).shape == (2, 3)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    block = trained_norms(nn.Sequential(has_conv(1, 4, Parts()), has_residual(4, 4, Parts())))
    x = torch.rand(5, 1, 6, 6)
    together = block(x)
    for i in range(5):
        torch.testing.assert_close(block(x[i : i + 1])[0], together[i], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "parts",
    [
        Parts(),
        Parts(neuron=LIF, encoder=partial(BitPlane, 5, surrogate="tanhsine")),
        Parts(encoder=partial(RateCode, 6), decoder=Rate),
        Parts(encoder=partial(TTFS, 6), decoder=FirstSpikeTime, join="iand"),
    ],
    ids=["bit planes", "LIF", "rate", "ttfs"],
)
def test_training_makes_the_loss_fall(parts: Parts) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        has_conv(1, 4, parts, snn_pool=nn.AvgPool2d(2), ann_pool=nn.MaxPool2d(2)),
        has_residual(4, 4, parts),
        nn.Flatten(),
        has_linear([4 * 9, 8, 3], parts),
    )
    x, y = torch.rand(12, 1, 6, 6), torch.arange(12) % 3
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(10):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_gradients_cross_the_spiking_path() -> None:
    torch.manual_seed(0)
    block = HASBlock(nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2), IF()))
    for parameter in block.ann.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(4, 3, requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="mode"):
        SEWAdd("or")
    with pytest.raises(ValueError, match="shape"):
        SEWAdd()(torch.zeros(2, 3), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="shape"):
        Residual(nn.Linear(3, 2), nn.Identity())(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="sizes"):
        has_linear([3], Parts())
