"""Encoders: the spikes of their formulas, the executors' spikes, exact round trips, straight-through gradients."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hsnn_compiler.ir.ops import Encode
from hsnn_compiler.nn import TTFS, BitPlane, BitPlaneSum, Delta, Direct, FirstSpikeTime, Phase, PhaseSum, Rate, RateCode
from hsnn_compiler.reference import codes


class Scaled(nn.Module):
    """`Rate` in units of ``high``."""

    def __init__(self, high: float) -> None:
        super().__init__()
        self.high = high

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return Rate()(steps) * self.high


# name: encoder and decoder of T steps and a scale, and the largest level
CODES: dict[str, tuple[Callable[[int, float], Any], Callable[[float], nn.Module], Callable[[int], int]]] = {
    "bitplane": (BitPlane, BitPlaneSum, lambda T: 2**T - 1),
    "rate": (RateCode, Scaled, lambda T: T),
    "ttfs": (TTFS, FirstSpikeTime, lambda T: T),
    "delta": (Delta, Scaled, lambda T: T),
    "phase": (lambda T, high: Phase(2 * T, high, T), lambda high: PhaseSum(high, 4), lambda T: 2**T - 1),
}


def spike(name: str, n: int, t: int, T: int) -> int:
    """The documented rules for one level and step, in whole numbers; T is the period of phases."""
    if name in ("bitplane", "phase"):
        return int(f"{n:0{T}b}"[t % T])
    if name == "rate":
        return int(Fraction((t + 1) * n, T).__floor__() > Fraction(t * n, T).__floor__())
    return int(t == T - n and n > 0) if name == "ttfs" else int(t < n)


@pytest.mark.parametrize("name", CODES)
@settings(deadline=None, max_examples=25)
@given(data=st.data(), T=st.integers(2, 12), high=st.floats(0.125, 300, width=32))
def test_spikes_are_those_of_the_formula(name: str, data: Any, T: int, high: float) -> None:
    make, _, most = CODES[name]
    values = data.draw(st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=8))
    x = torch.tensor(values).reshape(-1, 1) * high
    spikes = make(T, high)(x)
    for i, value in enumerate(x.double().numpy().ravel()):
        n = int(np.rint(min(max(value / high, 0.0), 1.0) * most(T)))
        assert spikes[:, i, 0].tolist() == [spike(name, n, t, T) for t in range(len(spikes))]


@pytest.mark.parametrize("kind", ["bitplane", "rate", "ttfs", "delta"])
@pytest.mark.parametrize("steps", [1, 3, 8, 15])
def test_spikes_are_those_of_the_executors(kind: str, steps: int) -> None:
    """float32 and frozen float32 scale: the same bits as `Encode`, ties and their neighbours included."""
    high = np.float32(0.7)
    count = 2**steps - 1 if kind == "bitplane" else steps
    ties = (np.arange(-2, min(2 * count, 4000) + 3) / (2 * count) * high).astype(np.float32)
    x = torch.from_numpy(np.concatenate([ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(-9))]))
    expected, _ = codes.encode(Encode(kind, float(high)), x[None], steps)
    encoder = BitPlane(steps, float(high), rescale=False) if kind == "bitplane" else CODES[kind][0](steps, float(high))
    for training in (True, False):
        assert torch.equal(encoder.train(training)(x[None]), expected.to(torch.float32))


@pytest.mark.parametrize("period", [1, 3, 8])
def test_phases_are_those_of_the_executors(period: int) -> None:
    high, steps = np.float32(1.3), 2 * period
    x = torch.linspace(-0.1, 1.5, 2001)[None]
    expected, _ = codes.encode(Encode("phase", float(high), period=period), x, steps)
    assert torch.equal(Phase(steps, float(high), period)(x), expected.to(torch.float32))


ROUND_TRIPS: dict[str, tuple[nn.Module, nn.Module]] = {
    "bitplane": (BitPlane(8), BitPlaneSum()),
    "phase": (Phase(8), PhaseSum()),
    "phase, 3 periods": (Phase(24), PhaseSum()),
    "rate": (RateCode(255), Rate()),
    "delta": (Delta(255), Rate()),
    "ttfs": (TTFS(255), FirstSpikeTime()),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
@pytest.mark.parametrize("high", [1.0, 0.37, 255.0])
def test_all_values_of_eight_bits_come_back(name: str, high: float) -> None:
    encoder, decoder = ROUND_TRIPS[name]
    n = torch.arange(256)
    x = (n / 255 * high).to(torch.float32)
    encoder.high.fill_(high)  # type: ignore[union-attr,operator]
    value = decoder(encoder(x[None]))[0].double()  # in units of high
    assert torch.equal(torch.round(value * 255), n.double())
    torch.testing.assert_close(value, n.double() / 255, rtol=3e-7, atol=0)
    encoder.high.fill_(1.0)  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("name", ["rate", "ttfs", "delta", "phase"])
def test_decoded_value_has_the_gradient_of_the_clip(name: str) -> None:
    make, decode, _ = CODES[name]
    x = torch.tensor([[-1.0, -1e-3, 0.0, 0.3, 1.1, 1.9999, 2.0, 2.5]], dtype=torch.float64, requires_grad=True)
    upstream = torch.arange(1.0, 9.0, dtype=torch.float64)[None]
    decode(2.0)(make(4, 2.0)(x)).backward(upstream)
    clipped = x.detach().requires_grad_()
    clipped.clamp(0, 2).backward(upstream)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, clipped.grad)
    assert x.grad[0, 3] > 0


@pytest.mark.parametrize("name", ["rate", "ttfs", "delta", "phase"])
def test_gradients_leave_the_spikes_alone(name: str) -> None:
    make, _, _ = CODES[name]
    x = torch.linspace(-0.3, 1.7, 997)[None]
    assert torch.equal(make(4, 1.3)(x.clone().requires_grad_()), make(4, 1.3)(x))


@pytest.mark.parametrize("name", CODES)
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    encoder = CODES[name][0](4, 1.5)
    torch.manual_seed(0)
    x = 3 * torch.randn(5, 2, 3)
    for training in (True, False):
        encoder.train(training)
        together = encoder(x)
        assert together.shape[1:] == x.shape
        assert all(torch.equal(encoder(x[i : i + 1])[:, 0], together[:, i]) for i in range(5))
        assert torch.equal(encoder(torch.cat([x, 1000 * x]))[:, :5], together)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CODES)
def test_spikes_have_the_dtype_of_the_values(name: str, dtype: torch.dtype) -> None:
    spikes = CODES[name][0](4, 1.0)(torch.rand(2, 3).to(dtype))
    assert spikes.dtype == dtype
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BitPlane(0), "timesteps"),
        (lambda: BitPlane(17), "timesteps"),
        (lambda: BitPlane(surrogate="sine"), "surrogate"),
        (lambda: BitPlane(1), "rescale"),
        (lambda: RateCode(0), "timesteps"),
        (lambda: TTFS(-1), "timesteps"),
        (lambda: Phase(12), "multiple of the period 8"),
        (lambda: Phase(17, period=17), "period"),
        (lambda: Delta(4, high=0.0), "high"),
        (lambda: Delta(4, high=float("inf")), "high"),
        (lambda: Delta(4, high=torch.ones(2)), "high"),  # type: ignore[arg-type]
        (lambda: Direct(0), "timesteps"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_repr() -> None:
    assert repr(BitPlane()) == "BitPlane(timesteps=8, high=1, surrogate='fourier', rescale=True)"
    assert repr(Phase(16, 2.5)) == "Phase(timesteps=16, high=2.5, period=8)"
