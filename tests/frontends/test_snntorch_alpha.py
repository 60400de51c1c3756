"""snnTorch's Alpha: both of its currents, its potential and its spikes, under every reset and in every form of use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

snn = pytest.importorskip("snntorch", reason="snntorch is not installed (constraints-peers.txt)")

from dialect_nets import SHAPES, STEPS, captured_series, series  # noqa: E402
from snntorch import utils  # noqa: E402

from hsnn_compiler.diagnostics import Finding, HsnnError  # noqa: E402
from hsnn_compiler.driver import lower  # noqa: E402
from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.ir import Graph, storage  # noqa: E402
from hsnn_compiler.ir.records import graphs_equal  # noqa: E402
from hsnn_compiler.ir.text import arrays_of, parse, to_text  # noqa: E402
from hsnn_compiler.options import Options  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402

Tensor = torch.Tensor
RESETS = ("subtract", "zero", "none")


def step(x: Tensor) -> Tensor:
    """The library's surrogates all return float32; this lets its neurons run in float64."""
    return (x > 0).to(x.dtype)


def rand(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(*shape)


def numbers(shape: tuple[int, ...]) -> dict[str, Any]:
    beta = float(rand(1, low=0.1, high=0.8))
    return {"alpha": float(rand(1, low=beta + 0.05, high=1)), "beta": beta, "threshold": float(rand(1, high=2))}


def per_neuron(shape: tuple[int, ...]) -> dict[str, Any]:
    beta = rand(*shape, high=0.8)
    return {"alpha": beta + (1 - beta) * rand(*shape, low=0.1), "beta": beta, "threshold": rand(*shape, high=3)}


def learnt(shape: tuple[int, ...]) -> dict[str, Any]:
    """Version 1.0 cannot make one with learn_alpha."""
    return per_neuron(shape) | {"learn_beta": True, "learn_threshold": True}


def ends(shape: tuple[int, ...]) -> dict[str, Any]:
    """Decays at, and beyond, the ends of what they are clamped to."""
    return {"alpha": torch.tensor(1.3), "beta": torch.tensor(-0.2), "threshold": 0.0}


class Stepped(nn.Module):
    """One neuron, its states handed back by the code; it keeps what the library returned."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen, states = [], self.layer.reset_mem()
        for x_t in x:
            spikes, *states = self.layer(x_t, *states)
            self.seen.append((spikes, *states))
        return torch.stack([seen[0] for seen in self.seen])


def time_scale(layer: Any) -> np.ndarray:
    """tau_alpha as the library has it, which turns currents into a potential."""
    alpha, beta = (value.detach().double().clamp(0, 1).numpy() for value in (layer.alpha, layer.beta))
    with np.errstate(divide="ignore"):
        return np.log(alpha) / (np.log(beta) - np.log(alpha)) + 1


@pytest.mark.parametrize("parameters", [numbers, per_neuron, learnt, ends])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_state_is_the_librarys(shape: tuple[int, ...], reset: str, parameters: Any) -> None:
    """u is tau_alpha E, v is U, and v - u is tau_alpha H but where H was reset."""
    spikes = 0
    for seed in range(3):
        torch.manual_seed(seed)
        model = Stepped(snn.Alpha(**parameters(shape), reset_mechanism=reset, spike_grad=step)).double()
        x = series(shape, seed, 2.0)
        graph = captured_series(model, x)
        with torch.no_grad():
            model(x)
        s, exc, inh, mem = (torch.stack(parts, 1).numpy() for parts in zip(*model.seen, strict=True))
        result = FloatExecutor(graph, torch.float64).run(x.transpose(0, 1).numpy(), [("layer", v) for v in "uv"])
        u, v = result.trace["layer", "u"], result.trace["layer", "v"]
        np.testing.assert_array_equal(result.output, s)
        np.testing.assert_allclose(v, mem, rtol=0, atol=1e-9)
        tau = time_scale(model.layer)
        np.testing.assert_allclose(u / tau, exc, rtol=0, atol=1e-9)
        was_reset = np.concatenate([np.zeros_like(s[:, :1]), s[:, :-1]], 1) > 0
        others = (v - u) / tau if reset == "none" else np.where(was_reset, 0, (v - u) / tau)
        np.testing.assert_allclose(others, inh, rtol=0, atol=1e-9)
        spikes += int(s.sum())
    assert s.shape[1] == STEPS
    assert spikes > 500


class Layers(nn.Module):
    """Two populations in a loop over time, the second fed by its own spikes of the step before as well."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.hidden = hidden
        options = {"reset_mechanism": "subtract", "spike_grad": step, "init_hidden": hidden}
        self.first, self.one = nn.Linear(9, 14), snn.Alpha(0.9, rand(14, high=0.8), 0.4, **options)
        self.second, self.two = nn.Linear(14, 5), snn.Alpha(rand(5, low=0.8), 0.6, rand(5, low=0.2), **options)
        self.back = nn.Linear(5, 5)
        self.potentials: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        utils.reset(self)
        self.potentials, found = [], []
        a, b = self.one.reset_mem(), self.two.reset_mem()
        s = torch.zeros(len(x), 5, dtype=x.dtype)
        for _ in range(60):
            drive = 2 * self.first(x)
            if self.hidden:
                s = self.two(self.second(self.one(drive)) + self.back(s))
                mem = self.two.mem
            else:
                h, *a = self.one(drive, *a)
                s, *b = self.two(self.second(h) + self.back(s), *b)
                mem = b[-1]
            found.append(s)
            self.potentials.append(mem)
        return torch.stack(found), mem


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("method", ["steps", "auto"])
def test_a_loop_over_time_with_a_recurrence(hidden: bool, method: str) -> None:
    torch.manual_seed(4)
    model, x, said = Layers(hidden).double(), torch.rand(6, 9, dtype=torch.float64), list[Finding]()
    graph = capture(model, x, findings=said)
    with torch.no_grad():
        wanted = model(x)[0].transpose(0, 1).numpy()
    result = FloatExecutor(graph, torch.float64, method=method).run(x.numpy(), [("two", "v")])
    assert graph.timesteps == 60
    assert [(finding.code, finding.node) for finding in said] == [("W0466", "two")]
    assert 100 < wanted.sum() < 0.9 * wanted.size
    np.testing.assert_array_equal(result.output, wanted)
    potentials = torch.stack(model.potentials, 1).detach().numpy()
    np.testing.assert_allclose(result.trace["two", "v"], potentials, rtol=0, atol=1e-9)


def one_layer(timesteps: int = 30) -> Graph:
    torch.manual_seed(5)
    layer = snn.Alpha(0.9, 0.7, 0.6, reset_mechanism="subtract", init_hidden=True)
    return capture(nn.Sequential(nn.Linear(4, 6), layer), torch.rand(2, 4), timesteps=timesteps)


def test_text_and_files_hold_the_rule(tmp_path: Path) -> None:
    graph = one_layer()
    short = to_text(graph)
    assert "reset_to_current=True" in short
    assert graphs_equal(parse(short, arrays_of(graph)), graph)
    storage.write(graph, tmp_path / "g.nir")
    assert graphs_equal(storage.read(tmp_path / "g.nir"), graph)


def test_the_chip_refuses_the_rule() -> None:
    with pytest.raises(HsnnError) as error:
        lower(one_layer(), Options(), np.random.default_rng(0).random((8, 4), np.float32))
    errors = [finding for finding in error.value.findings if finding.is_error]
    assert [f.code for f in errors if "takes the threshold from the synaptic current" in f.message] == ["E0453"]
    assert all(finding.supported and finding.node == "_1" for finding in errors)


def test_a_learnt_beta_that_met_its_alpha_is_refused() -> None:
    layer = snn.Alpha(0.9, 0.7, reset_mechanism="subtract", learn_beta=True)
    layer.beta.data.fill_(0.9)
    with pytest.raises(HsnnError, match="whose alpha is its beta"):
        capture(Stepped(layer), series((7,), 0, steps=4).float(), axes="TB")


def test_a_learnt_beta_above_its_alpha_turns_the_potential_around() -> None:
    """The library refuses it in the constructor only; its tau_alpha is then below zero."""
    torch.manual_seed(6)
    layer = snn.Alpha(0.5, 0.3, 0.3, reset_mechanism="subtract", learn_beta=True, spike_grad=step)
    layer.beta.data.fill_(0.8)
    model, x = Stepped(layer).double(), series((7,), 0)
    graph = captured_series(model, x)
    with torch.no_grad():
        wanted = model(x).transpose(0, 1).numpy()
    assert wanted.sum() > 50
    np.testing.assert_array_equal(FloatExecutor(graph, torch.float64).run(x.transpose(0, 1).numpy()).output, wanted)
