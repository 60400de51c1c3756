"""Values to steps and back: what a Decode makes of steps, against its formulas; what two crossings keep of a value."""

from __future__ import annotations

from fractions import Fraction

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Dynamics, Graph, Node, TensorType
from hsnn_compiler.ir.crossings import DECODE_KINDS, WEIGHTED_KINDS
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import EVENT_KINDS, Decode, Encode
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.float_executor import FloatExecutor

DECODES = {"rate": "mean", "delta": "mean"}


def worth(op: Decode, t: int, steps: int) -> Fraction:
    """What a spike is worth at a step, as the docstring of `Decode` says it."""
    if op.kind == "bitplane":
        return Fraction(2 ** (steps - 1 - t), 2**steps - 1)
    if op.kind == "phase":
        factor = Fraction(op.period, steps) * Fraction(2**op.period, 2**op.period - 1)
        return Fraction(1, 2 ** (1 + t % op.period)) * factor
    return {
        "mean": Fraction(1, steps),
        "sum": Fraction(1),
        "last": Fraction(t == steps - 1),
        "ttfs": Fraction(steps - t, steps),
    }[op.kind]


def decoder(op: Decode, coding: Coding, steps: int | None = None) -> Graph:
    graph = Graph("decoder", steps)
    graph.add(Node("x", nir.Input(np.array([2, 3])), type=TensorType((2, 3), coding)))
    graph.add(Node("decode", op), "x")
    graph.add(Node("y", nir.Output(np.array([2, 3]))), "decode")
    return infer_types(graph)


@settings(max_examples=80)
@given(picks())
def test_decoded_steps_are_the_sum_of_their_worth(p: Picks) -> None:
    """Spikes, payloads and currents, in both precisions; integers exactly."""
    steps = p.integer(1, 16)
    op = Decode(p.choice(DECODE_KINDS), p.choice([1.0, 0.37, -2.5]), p.divisor(steps))
    coding = p.choice([Coding.SPIKES, Coding.GRADED, Coding.CURRENT])
    rng = p.rng()
    x = rng.integers(0, 2 if coding is Coding.SPIKES else 256, (4, steps, 2, 3)).astype(np.float64)
    if coding is Coding.CURRENT:
        x = rng.normal(size=x.shape)
    graph = decoder(op, coding, p.choice([steps, None]))
    assert verify(graph) == []
    weights = np.array([float(worth(op, t, steps)) for t in range(steps)])
    expected = op.gain * np.einsum("t,bt...->b...", weights, x)
    np.testing.assert_allclose(FloatExecutor(graph, torch.float64).run(x).output, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(FloatExecutor(graph).run(x).output, expected, rtol=1e-5, atol=1e-5)
    if coding is not Coding.CURRENT:
        dtype = p.choice([torch.int8, torch.int32] if coding is Coding.SPIKES else [torch.uint8, torch.int32])
        total, whole = codes.decode_integers(op, torch.from_numpy(x).to(dtype).transpose(0, 1))
        exact = [
            sum(worth(op, t, steps) * int(s) for t, s in enumerate(each)) for each in x.reshape(4, steps, 6)[..., 0]
        ]
        assert [Fraction(int(n), whole) for n in total.reshape(4, 6)[:, 0]] == exact


@settings(max_examples=80)
@given(picks())
def test_a_value_comes_back_rounded_to_the_levels_of_its_code(p: Picks) -> None:
    kind = p.choice(EVENT_KINDS)
    steps, high = p.integer(1, 16), p.choice([1.0, 0.37, 12.5])
    k = p.divisor(steps)
    graph = Graph("there and back", steps)
    graph.add(Node("x", nir.Input(np.array([2, 3]))))
    graph.add(Node("encode", Encode(kind, high, period=k)), "x")
    graph.add(Node("decode", Decode(DECODES.get(kind, kind), high, k)), "encode")
    graph.add(Node("y", nir.Output(np.array([2, 3]))), "decode")
    graph = infer_types(graph)
    assert verify(graph) == []
    top = {"bitplane": 2**steps - 1, "phase": 2**k - 1}.get(kind, steps)
    x = high * np.concatenate([p.rng().uniform(-0.1, 1.1, 90), p.rng().integers(0, top + 1, 6) / top]).reshape(16, 2, 3)
    n = np.rint(np.clip(x / high, 0, 1) * top)
    got = FloatExecutor(graph, torch.float64).run(x).output
    np.testing.assert_array_equal(np.rint(got / high * top), n)
    np.testing.assert_allclose(got, n / top * high, atol=1e-12)


EIGHT_BITS = (("bitplane", 8), ("phase", 8), ("phase", 24), ("rate", 255), ("delta", 255), ("ttfs", 255))


@pytest.mark.parametrize(("kind", "steps"), EIGHT_BITS)
def test_all_values_of_eight_bits_come_back(kind: str, steps: int) -> None:
    n = torch.arange(256)
    encode = Encode(kind, 3.5)
    fired, clipped = codes.encode(encode, n.to(torch.float32)[:, None] / 255 * 3.5, steps)
    total, whole = codes.decode_integers(Decode(DECODES.get(kind, kind)), fired)
    assert clipped == 0
    assert torch.equal(255 * total[:, 0], n * whole)
    again = codes.decode(Decode(DECODES.get(kind, kind)), fired.to(torch.float32))[:, 0]
    np.testing.assert_allclose(again, n / 255, rtol=2e-7)


@settings(max_examples=40)
@given(picks())
def test_the_gradient_through_two_crossings_is_that_of_a_clipped_value(p: Picks) -> None:
    kind, steps, high = p.choice(EVENT_KINDS), p.integer(1, 12), p.choice([1.0, 2.5])
    k, doubled = p.divisor(steps), p.flag()
    graph = Graph("hybrid", steps)
    graph.add(Node("x", nir.Input(np.array([2, 3]))))
    graph.add(Node("scale", nir.Scale(np.full((1, 1), 1.5))), "x")
    graph.add(Node("encode", Encode(kind, high, doubled, k)), "scale")
    graph.add(Node("decode", Decode(DECODES.get(kind, kind), high, k)), "encode")
    graph.add(Node("y", nir.Output(np.array([4 if doubled else 2, 3]))), "decode")
    executor = FloatExecutor(infer_types(graph), torch.float64, surrogate="atan")
    x = torch.from_numpy(p.rng().uniform(-3, 3, (5, 2, 3))).requires_grad_()
    out = executor.evaluate({"x": x})["y"]
    np.testing.assert_array_equal(
        out.detach(), FloatExecutor(infer_types(graph), torch.float64).run(x.detach().numpy()).output
    )
    upstream = torch.from_numpy(p.rng().normal(size=tuple(out.shape)))
    out.backward(upstream)
    v = (1.5 * x).detach()
    expected = upstream[:, :2] * ((v > 0) & (v < high))
    if doubled:
        expected = expected - upstream[:, 2:] * ((v < 0) & (v > -high))
    np.testing.assert_allclose(x.grad, 1.5 * expected, atol=1e-12)
    through_scale = executor.parameters["scale", "scale"].grad
    np.testing.assert_allclose(through_scale.sum(), (expected * x.detach()).sum(), atol=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0])
def test_a_membrane_potential_is_read_from_a_neuron_that_does_not_fire(beta: float) -> None:
    one = np.ones(1)
    neurons = [(nir.LI(tau=one, r=one, v_leak=0 * one), Dynamics(integrator="none", decay=beta, gain=1.0))]
    if beta == 1:
        neurons.append((nir.I(r=one), Dynamics()))
    else:
        tau = one / (1 - beta)
        neurons.append((nir.LI(tau=tau, r=tau, v_leak=0 * one), Dynamics()))
    x = np.random.default_rng(0).normal(size=(3, 5, 2, 3))
    expected = sum(beta ** (4 - t) * x[:, t] for t in range(5))
    for op, dynamics in neurons:
        graph = decoder(Decode("last"), Coding.CURRENT, 5)
        graph.insert_after("x", Node("v", op, dynamics=dynamics))
        np.testing.assert_allclose(FloatExecutor(infer_types(graph), torch.float64).run(x).output, expected, atol=1e-12)


WRONG = (
    (Encode("phase", period=8), 12, "multiple of the period 8"),
    (Encode("phase", period=0), 8, "a period of 0"),
    (Encode("phase", period=17), 17, "a period of 17"),
    (Encode("bitplane"), 17, "17 time steps for bit planes"),
    (Encode("morse"), 8, "Encode does not know 'morse'"),
    (Encode("rate", -1.0), 8, "ends at -1"),
    (Decode("phase", period=8), 4, "multiple of the period 8"),
    (Decode("bitplane"), 17, "17 time steps for bit planes"),
    (Decode("rate"), 8, "Decode does not know 'rate'"),
)


@pytest.mark.parametrize(("op", "steps", "words"), WRONG)
def test_what_a_code_does_not_take_is_refused(op: Encode | Decode, steps: int, words: str) -> None:
    """By the verifier, and by an executor that gets it anyway."""
    graph = Graph("wrong", steps)
    graph.add(Node("x", nir.Input(np.array([2]))))
    graph.add(Node("encode", op if isinstance(op, Encode) else Encode()), "x")
    graph.add(Node("decode", op if isinstance(op, Decode) else Decode()), "encode")
    graph.add(Node("y", nir.Output(np.array([2]))), "decode")
    graph = infer_types(graph)
    assert [(f.code, words in f.message) for f in verify(graph)] == [("E0102", True)]
    if getattr(op, "kind", "") in EVENT_KINDS + WEIGHTED_KINDS:
        with pytest.raises(HsnnError, match="E0330"):
            FloatExecutor(graph).run(np.ones((1, 2)))


def test_a_series_that_is_too_short_for_a_period_is_refused() -> None:
    """The number of steps is that of the data, where the graph does not say it."""
    with pytest.raises(HsnnError, match="6 time steps"):
        FloatExecutor(decoder(Decode("phase", period=4), Coding.SPIKES)).run(np.ones((1, 6, 2, 3)))
