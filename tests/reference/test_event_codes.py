"""Codes in which the step of a spike counts, against their formulas written out in numpy."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import COLLECT_CODES, EVENT_KINDS, Collect, Decode, Encode, FirstSpike
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.reference.float_executor import FloatExecutor


def trains(op: Encode, u: float, steps: int) -> list[int]:
    """The spikes of one value in [0, 1], written down as the definitions say it."""
    kind = op.kind
    if kind == "phase":
        level = round(u * (2**op.period - 1))
        return [int(bit) for bit in format(level, f"0{op.period}b")] * (steps // op.period)
    if kind == "bitplane":
        level = round(u * (2**steps - 1))
        return [int(bit) for bit in format(level, f"0{steps}b")]
    n = round(u * steps)
    if kind == "rate":
        return [int(np.floor((t + 1) * n / steps) > np.floor(t * n / steps)) for t in range(steps)]
    if kind == "ttfs":
        return [int(n >= 1 and t == steps - n) for t in range(steps)]
    return [int(t < n) for t in range(steps)]


def worth(code: str, steps: int, period: int = 1) -> np.ndarray:
    """What a spike is worth at each step."""
    t = np.arange(steps)
    return {
        "rate": np.full(steps, 1 / steps),
        "ttfs": (steps - t) / steps,
        "bitplane": 2.0 ** (steps - 1 - t) / (2.0**steps - 1),
        "phase": 2.0 ** -(1 + t % period) * period / steps * 2.0**period / (2.0**period - 1),
    }[code]


def chain(steps: int, shape: tuple[int, ...], *ops: Any) -> Graph:
    """x - ops - y, one after the other."""
    graph = Graph("chain", steps)
    last = graph.add(Node("x", nir.Input(np.array(shape)))).name
    for i, op in enumerate(ops):
        last = graph.add(Node(f"n{i}", op), last).name
    graph.add(Node("y", nir.Output(np.array(shape))), last)
    graph = infer_types(graph)
    assert verify(graph) == []
    return graph


@settings(max_examples=60)
@given(picks())
def test_encoded_values_are_the_spikes_of_their_definition(p: Picks) -> None:
    kind, steps, high = p.choice(EVENT_KINDS), p.integer(1, 16), p.choice([1.0, 0.37, 12.5])
    doubled = p.flag()
    x = high * p.rng().uniform(-1.2, 1.2, (3, 2, 4))
    op = Encode(kind, high, doubled, p.divisor(steps))
    graph = chain(steps, (2, 4), op)
    result = FloatExecutor(graph, torch.float64).run(x)
    u = x / high
    parts = np.concatenate([u, -u], 1) if doubled else u
    expected = np.array([trains(op, v, steps) for v in parts.clip(0, 1).ravel()])
    expected = np.moveaxis(expected.reshape(*parts.shape, steps), -1, 1)
    np.testing.assert_array_equal(result.output, expected)
    assert result.spikes == {"n0": expected.sum()}
    assert result.saturated == {"n0": ((u > 1) | (u < (-1 if doubled else 0))).sum()}


@settings(max_examples=30)
@given(picks())
def test_collecting_an_encoded_value_gives_its_level(p: Picks) -> None:
    code, steps = p.choice(COLLECT_CODES), p.integer(1, 16)
    x = p.rng().uniform(0, 1, (2, 5))
    bias = p.rng().normal(size=5)
    k = p.divisor(steps)
    graph = chain(steps, (5,), Encode(code, period=k), Collect(code, bias, k))
    result = FloatExecutor(graph, torch.float64).run(x)
    top = {"bitplane": 2**steps - 1, "phase": 2**k - 1}.get(code, steps)
    assert result.output.shape == (2, steps, 5)
    np.testing.assert_allclose(result.output, np.repeat((np.rint(x * top) / top + bias)[:, None], steps, 1), atol=1e-12)


@settings(max_examples=30)
@given(picks())
def test_collect_adds_up_a_window(p: Picks) -> None:
    """Whatever arrives: spikes that came through weights, and a connection around them."""
    code, steps, rng = p.choice(COLLECT_CODES), p.integer(1, 9), p.rng()
    x = rng.normal(size=(3, steps, 4))
    weight, bias = rng.normal(size=(2, 4)), rng.normal(size=(1,))
    graph = Graph("g", steps)
    graph.add(Node("x", nir.Input(np.array([4]))))
    graph.add(Node("spikes", nir.Threshold(np.zeros(4))), "x")
    graph.add(Node("fc", nir.Linear(weight)), "spikes")
    graph.add(Node("also", nir.Linear(weight[::-1].copy())), "spikes")
    k = p.divisor(steps)
    graph.add(Node("collect", Collect(code, bias, k)), "fc", "also")
    graph.add(Node("y", nir.Output(np.array([2]))), "collect")
    from hsnn_compiler.ir import Coding, TensorType

    graph.update("x", type=TensorType((4,), Coding.CURRENT))
    result = FloatExecutor(infer_types(graph), torch.float64).run(x)
    arriving = (x > 0) @ (weight + weight[::-1]).T
    expected = np.einsum("t,stn->sn", worth(code, steps, k), arriving) + bias
    np.testing.assert_allclose(result.output, np.repeat(expected[:, None], steps, 1), atol=1e-12)


@settings(max_examples=30)
@given(picks())
def test_a_first_spike_tells_a_clipped_rounded_relu(p: Picks) -> None:
    steps, rng = p.integer(1, 20), p.rng()
    theta = rng.uniform(0.2, 3, (3, 1))
    z = rng.normal(size=(4, 3, 5)) * 2
    graph = chain(steps, (3, 5), Encode(), FirstSpike(theta))
    fired = FloatExecutor(graph, torch.float64).run(z)
    n = np.clip(np.floor(z * steps / theta + 0.5), 0, steps)
    assert fired.spikes == {"n1": (n > 0).sum()}
    when = steps - n
    expected = (np.arange(steps)[:, None, None] == when[:, None]) & (n[:, None] > 0)
    np.testing.assert_array_equal(fired.output, expected)
    # The ramp of its definition meets the potential there.
    t = np.arange(steps)[:, None, None]
    above = z[:, None] >= theta * (steps - t - 0.5) / steps
    np.testing.assert_array_equal(above.any(1), expected.any(1))
    np.testing.assert_array_equal(above.argmax(1)[n > 0], when[n > 0])


def test_values_at_the_edges() -> None:
    """Half-way values, zero, one, and what is not 0 or 1 but infinite."""
    x = np.array([[0.0, 0.125, 0.375, 1.0, np.inf]])
    for kind, levels in (("rate", [0, 0, 2, 4, 4]), ("ttfs", [0, 0, 2, 4, 4]), ("delta", [0, 0, 2, 4, 4])):
        graph = chain(4, (5,), Encode(kind))
        counts = FloatExecutor(graph).run(x).output.sum((0, 1))
        np.testing.assert_array_equal(counts, levels if kind != "ttfs" else np.minimum(levels, 1))


def test_what_sees_a_whole_window_cannot_lie_on_a_loop() -> None:
    graph = Graph("loop", 4)
    graph.add(Node("x", nir.Input(np.array([2]))))
    graph.add(Node("encode", Encode("rate")), "x")
    graph.add(Node("collect", Collect("rate", np.zeros(1))), "encode")
    neuron = nir.IF(r=np.ones(2), v_threshold=np.ones(2), v_reset=np.zeros(2))
    graph.add(Node("neuron", neuron, dynamics=Dynamics()), "collect")
    graph.connect(Edge("neuron", "collect", delay=1))
    graph.add(Node("decode", Decode()), "neuron")
    graph.add(Node("y", nir.Output(np.array([2]))), "decode")
    with pytest.raises(HsnnError, match="whole window"):
        FloatExecutor(infer_types(graph)).run(np.ones((1, 2)))
