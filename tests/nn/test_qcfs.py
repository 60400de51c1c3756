"""QCFS: values, gradients, and that capture knows it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.nn import IF, QCFS


@pytest.mark.parametrize("levels", [1, 4, 7])
def test_values_and_gradients(levels: int) -> None:
    threshold = 1.25
    rng = np.random.default_rng(levels)
    x, upstream = rng.uniform(-0.5, 2.0, (2, 50, 3))
    module = QCFS(levels, threshold).double()
    leaf = torch.from_numpy(x).requires_grad_()
    y = module(leaf)
    y.backward(torch.from_numpy(upstream))
    h = threshold * np.floor(np.clip(x / threshold, 0, 1) * levels + 0.5) / levels
    np.testing.assert_allclose(y.detach().numpy(), h, rtol=1e-12)
    inside = (x > 0) & (x < threshold)
    assert leaf.grad is not None
    assert module.threshold.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), upstream * inside, atol=1e-12)
    slope = np.where(inside, (h - x) / threshold, x > 0)
    assert module.threshold.grad.item() == pytest.approx((upstream * slope).sum())


def test_threshold_per_channel() -> None:
    thresholds = torch.tensor([0.5, 1.0, 2.0])
    module = QCFS(4, thresholds)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    y = module(x)
    for c in range(3):
        assert torch.equal(y[:, c], QCFS(4, float(thresholds[c]))(x[:, c]))
    y.sum().backward()
    assert module.threshold.grad is not None
    assert module.threshold.grad.shape == (3,)
    assert QCFS(4, 1.5, channels=3).threshold.tolist() == [1.5] * 3
    with pytest.raises(ValueError, match="3 channels"):
        module(torch.zeros(2, 4))


def test_neurons_with_half_the_threshold_fire_at_its_rate() -> None:
    levels, threshold = 8, 1.0
    x = (torch.arange(-40, 200) / 128)[None]  # multiples of 1/128: sums are exact
    neuron = IF(threshold, v_init=threshold / 2)
    rate = torch.stack([neuron(x) for _ in range(levels)]).mean(0)
    ties = (x * levels / threshold + 0.5) % 1 == 0  # the strict test gives a tie the lower level
    assert torch.equal(rate[~ties] * threshold, QCFS(levels, threshold)(x)[~ties].detach())


def test_capture_makes_it_one_node() -> None:
    torch.manual_seed(0)
    thresholds = torch.tensor([0.5, 1.0, 2.0, 0.3])
    model = nn.Sequential(nn.Conv2d(1, 4, 3), QCFS(8, thresholds), nn.Flatten(), nn.Linear(16, 5), QCFS(4, 0.37))
    graph = capture(model.eval(), torch.rand(1, 1, 4, 4))
    found = [node.op for node in graph if node.kind == "Quantised"]
    assert [op.levels for op in found] == [8, 4]
    np.testing.assert_array_equal(found[0].threshold.ravel(), thresholds.numpy())
    np.testing.assert_array_equal(found[1].threshold.ravel(), np.full(5, np.float32(0.37)))
    assert not graph.of_kind("HostCall")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: QCFS(0), "levels"),
        (lambda: QCFS(4, 0.0), "positive"),
        (lambda: QCFS(4, torch.ones(2, 2)), "1-d"),
        (lambda: QCFS(4, torch.ones(2), channels=2), "number where channels"),
    ],
)
def test_refusals(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_saved_and_learnt() -> None:
    module = QCFS(4, 1.0)
    before = module.threshold.item()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.full((3, 2), 5.0)).sum().backward()
    optimizer.step()
    assert module.threshold.item() < before
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    with torch.serialization.safe_globals([QCFS]):
        loaded = torch.load(file, weights_only=True)
    assert repr(loaded) == repr(module)
    assert torch.equal(loaded.threshold, module.threshold)
