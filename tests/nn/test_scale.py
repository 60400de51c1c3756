"""Calibration of encoders: on data, then frozen."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn

from hsnn_compiler.nn import BitPlane, BitPlaneSum, Delta, HASBlock, Rate, RateCode, calibrate, calibration


def test_calibrated_scale_is_the_largest_value_and_stays() -> None:
    encoder = RateCode(4)
    encoder.calibrate(torch.tensor([[-9.0, 0.5, 3.0]]))
    assert encoder.high.item() == 3.0
    assert encoder.high.dtype == torch.float32
    assert not encoder.calibrating
    before = encoder(torch.tensor([[1.5]]))
    for training in (True, False):
        encoder.train(training)(torch.full((2, 1), 100.0))
        assert encoder.high.item() == 3.0
    assert torch.equal(encoder(torch.tensor([[1.5]])), before)
    assert before.sum() == 2


@pytest.mark.parametrize("percentile", [0.05, 12.5, 50.0, 99.0, 99.9, 100.0])
def test_percentile_of_the_values_above_zero(percentile: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 11, 13).relu()
    encoder = Delta(4)
    encoder.calibrate(x, percentile)
    values = sorted(x[x > 0].tolist())
    assert encoder.high.item() == values[max(0, math.ceil(percentile * len(values) / 100 - 1e-9) - 1)]


def test_running_maximum_while_calibrating() -> None:
    encoder = BitPlane(4, high=50.0)
    encoder.start_calibration()
    seen = []
    for value in (2.0, 5.0, 1.0, -3.0):
        encoder(torch.full((3,), value))
        seen.append(encoder.high.item())
    assert seen == [2.0, 5.0, 5.0, 5.0]
    encoder.freeze()
    encoder(torch.full((3,), 7.0))
    assert encoder.high.item() == 5.0


def test_nothing_above_zero_leaves_the_scale() -> None:
    encoder = BitPlane(4, high=2.0)
    with pytest.raises(ValueError, match="above zero"):
        encoder.calibrate(torch.zeros(3))
    with calibration(encoder):
        encoder(-torch.ones(3))
    assert encoder.high.item() == 2.0
    assert not encoder.calibrating


def test_refusals() -> None:
    with pytest.raises(ValueError, match="percentile"):
        BitPlane().calibrate(torch.ones(2), 0)
    with pytest.raises(ValueError, match="percentile"):
        BitPlane().start_calibration(101)
    encoder = BitPlane()
    with pytest.raises(ValueError, match="finite"):
        encoder.calibrate(torch.tensor([1.0, torch.inf]))
    assert (encoder.high.item(), encoder.calibrating) == (1.0, False)


def test_tiny_values_of_float64_do_not_make_the_scale_zero() -> None:
    encoder = BitPlane(4)
    encoder.calibrate(torch.tensor([1e-60], dtype=torch.float64))
    assert encoder.high > 0


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first = HASBlock(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()), nn.Linear(3, 4), decoder=Rate())
    return nn.Sequential(first, nn.ReLU(), HASBlock(nn.Linear(4, 2), nn.Linear(4, 2)))


def test_a_model_is_calibrated_in_order_and_nothing_else_changes() -> None:
    model = network().train()
    model[1].eval()
    weights = {name: value.clone() for name, value in model.state_dict().items() if not name.endswith("high")}
    x = torch.rand(50, 3) * 4
    calibrate(model, x)
    first, second = (part for part in model.modules() if isinstance(part, BitPlane))
    assert first.high.item() == x.max().item()
    modes = [part.training for part in model]
    assert modes == [True, False, True]
    inner = model.eval()[1](model[0](x))
    assert second.high.item() == pytest.approx(inner.max().item())
    for name, value in weights.items():
        assert torch.equal(model.state_dict()[name], value)


def test_calibration_ends_when_the_model_fails() -> None:
    model = network()
    with pytest.raises(RuntimeError):
        calibrate(model, torch.rand(2, 5))
    assert not any(part.calibrating for part in model.modules() if isinstance(part, BitPlane))


def test_saved_and_copied_modules_are_not_calibrating() -> None:
    encoder = BitPlane(4)
    encoder.start_calibration()
    encoder(torch.full((2,), 6.0))
    file = io.BytesIO()
    torch.save(encoder, file)
    file.seek(0)
    with torch.serialization.safe_globals([BitPlane]):
        loaded = torch.load(file, weights_only=True)
    for other in (loaded, copy.deepcopy(encoder)):
        assert not other.calibrating
        assert other.high.item() == 6.0
        other(torch.full((2,), 9.0))
        assert other.high.item() == 6.0
    assert encoder.calibrating


def test_state_dict_holds_the_scales() -> None:
    block = HASBlock(nn.Identity(), nn.Identity(), BitPlane(high=3.0), BitPlaneSum(2.0))
    assert sorted(block.state_dict()) == ["snn.decoder.high", "snn.encoder.high"]
    other = HASBlock(nn.Identity(), nn.Identity())
    other.load_state_dict(block.state_dict())
    x = torch.rand(4, 3) * 3
    assert torch.equal(other(x), block(x))
