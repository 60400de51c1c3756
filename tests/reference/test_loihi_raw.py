"""Raw graphs in the integer executor: what must hold whatever Lava does (that they agree: test_lava_raw_networks)."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import raw_graphs
import torch
from chip_graphs import CHIP
from hypothesis import given, settings
from picks import Picks, picks
from raw_graphs import STEPS, Raw, random_raw

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.quant import NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.reference import loihi_executor
from hsnn_compiler.reference.loihi_ends import complete
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.loihi_sigma_delta import SigmaDeltaParameters, SigmaDeltaPopulation
from hsnn_compiler.reference.loihi_synapse import IntegerSynapse, lava_dense_weights
from hsnn_compiler.reference.result import Result


def run(raw: Raw, **changes: object) -> Result:
    """Run with all signals recorded."""
    options = {"reset_interval": raw.reset_interval, "record": raw_graphs.signals(raw.graph)} | changes
    inputs = options.pop("inputs", raw.inputs)
    return LoihiExecutor(raw.graph).run(inputs, **options)  # type: ignore[arg-type]


def assert_same(first: Result, second: Result) -> None:
    for a, b in ((first.outputs, second.outputs), (first.trace, second.trace)):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=str(key))  # type: ignore[index]
    assert (first.spikes, first.saturated) == (second.spikes, second.saturated)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_time_may_be_cut_anywhere(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """States, delays and loops go on over the border of two stretches of time."""
    for seed in range(60):
        raw = random_raw(Picks.seeded(seed), samples=2)
        whole = run(raw)
        per_step = 2 * 4 * sum(node.type.size for node in raw.graph if node.type)
        monkeypatch.setattr(loihi_executor, "STRETCH_BYTES", steps * per_step)
        assert_same(run(raw), whole)
        monkeypatch.undo()


def test_samples_do_not_see_each_other() -> None:
    for seed in range(40):
        raw = random_raw(Picks.seeded(seed), samples=5)
        assert_same(run(raw, batch_size=2), run(raw))
        order = [3, 0, 4, 2, 1]
        permuted = run(raw, inputs={name: array[order] for name, array in raw.inputs.items()})
        for key, trace in run(raw).trace.items():
            np.testing.assert_array_equal(trace[order], permuted.trace[key])


def test_the_past_does_not_see_the_future() -> None:
    for seed in range(40):
        raw = random_raw(Picks.seeded(seed))
        other = {name: array.copy() for name, array in raw.inputs.items()}
        for array in other.values():
            array[:, 9:] = 1 - (array[:, 9:] != 0)
        for key, trace in run(raw, inputs=other).trace.items():
            np.testing.assert_array_equal(trace[:, :9], run(raw).trace[key][:, :9])


def test_outputs_follow_from_recorded_populations() -> None:
    """`complete` gives for recordings what `run` gives: that is how results of Lava become outputs."""
    for seed in range(40):
        raw = random_raw(Picks.seeded(seed), samples=3)
        whole = run(raw)
        chip = {
            name: whole.trace[name, "s" if (name, "s") in whole.trace else "v"]
            for name, _ in raw_graphs.signals(raw.graph)
        }
        assert_same(Result(complete(LoihiExecutor(raw.graph), raw.inputs, chip).outputs), Result(whole.outputs))


def one_population() -> Graph:
    """x -> (delay 3) synapse -> integrator that also counts steps, by a bias of 3."""
    graph = Graph("one")
    graph.add(Node("x", nir.Input(np.array([1])), TensorType((1,), Coding.GRADED)))
    quant = WeightQuant(np.array([[2]], np.int32), 0, 8, "excitatory", 1.0, message_bits=8)
    graph.add(Node("w", nir.Linear(np.array([[2.0]])), placement=CHIP, quant=quant), Edge("x", "w", delay=3))
    neuron = NeuronQuant(4095, 0, 2**17 - 1, 0, np.array([3], np.int32), 0, 1.0)
    graph.add(Node("n", nir.I(r=np.ones(1)), dynamics=Dynamics(integrator="none"), placement=CHIP, quant=neuron), "w")
    graph.add(Node("y", nir.Output(np.array([1]))), "n")
    return infer_types(graph)


def test_delay_and_reset_on_the_global_axis() -> None:
    """By hand: a payload of step 0 arrives at layer 1 in step 3; resets in steps 1, 6, 11."""
    graph = one_population()
    x = np.zeros((1, 13, 1), int)
    x[0, 0] = 5
    v = LoihiExecutor(graph).run(x).output[0, :, 0]
    assert v.tolist() == [3 * (t + 1) + (640 if t >= 3 else 0) for t in range(13)]
    v = LoihiExecutor(graph).run(x, reset_interval=5).output[0, :, 0]
    assert v.tolist() == [3, 3, 6, 649, 652, 655, 3, 6, 9, 12, 15, 3, 6]


def test_refused() -> None:
    graph = one_population()
    executor = LoihiExecutor(graph)
    bad = {
        "not integers": lambda: executor.run(np.full((1, 4, 1), 0.5)),
        "beyond 32 bits": lambda: executor.run(np.full((1, 4, 1), 2**40)),
        "no time axis": lambda: executor.run(np.zeros((1, 1))),
        "reset never": lambda: executor.run(np.zeros((1, 4, 1)), reset_interval=0),
    }
    for call in bad.values():
        with pytest.raises(HsnnError) as caught:
            call()
        assert caught.value.findings[0].code == "E0330"
    for name in ("w", "n"):
        graph.update(name, quant=None)
    with pytest.raises(HsnnError) as caught:
        LoihiExecutor(graph)
    assert sorted((f.code, f.node) for f in caught.value.findings) == [("E0105", "n"), ("E0105", "w")]
    biased = one_population()
    biased.update("w", op=nir.Affine(np.array([[2.0]]), np.ones(1)))
    with pytest.raises(HsnnError, match="bias on a synapse op"):
        LoihiExecutor(biased)


@settings(max_examples=60)
@given(picks())
def test_graded_sums_are_exact(p: Picks) -> None:
    """Plain integers, wrapped to 32 bits: whatever the payloads reach."""
    rng = p.rng()
    weight = rng.integers(-256, 256, (3, p.integer(1, 400)))
    top = 2 ** p.choice([1, 10, 20, 31])
    payloads = rng.integers(-top, top, (4, weight.shape[1]))
    got = IntegerSynapse(weight, None, 0, 8, message_bits=16)(torch.from_numpy(payloads.astype(np.int32)))
    wanted = payloads.astype(object) @ lava_dense_weights(weight).T.astype(object)
    np.testing.assert_array_equal(got.numpy(), (wanted + 2**31) % 2**32 - 2**31)


def test_without_message_bits_payloads_are_spikes() -> None:
    synapse = IntegerSynapse(np.array([[2, 4, 6, 8]]))
    assert synapse(torch.tensor([[0, -3, 5, 1]], dtype=torch.int32)).tolist() == [[18]]


def naive_sigma_delta(a: list[int], p: dict[str, int | bool | str]) -> list[tuple[int, int, int]]:
    """One neuron in Python integers, from ``lava/proc/sdn/models.py``; (s, sigma, act) of each step."""

    def w(x: int) -> int:
        return (x + 2**31) % 2**32 - 2**31

    sigma = act = residue = error = 0
    rows = []
    for value in a:
        if p["activation"] == "input":
            new = w(value << p["shift"])  # type: ignore[operator]
        else:
            sigma = w(sigma + value)
            new = w(sigma + p["bias"])  # type: ignore[operator]
            new = max(new, 0) if p["activation"] == "relu" else new
        delta = w(new - act + residue)
        error = w(error + delta) if p["cumulative"] else 0
        sent = delta if w(abs(error if p["cumulative"] else delta)) >= p["vth"] else 0  # type: ignore[operator]
        error = 0 if w(abs(sent)) > 0 else error
        residue, act = w(delta - sent), new
        rows.append((sent >> p["state_exp"], sigma, act))  # type: ignore[operator]
    return rows


@settings(max_examples=80)
@given(picks())
def test_sigma_delta(p: Picks) -> None:
    top = p.choice([20, 3000, 2**20, 2**31 - 1])
    a = p.rng().integers(-top, top + 1, (12, 2, 3))
    shift, state_exp = p.choice([12, 0, 6]), p.choice([6, 0])
    options = {
        "vth": p.choice([1, 0, 40, 5000]) << shift,
        "bias": p.choice([0, 7, -30]) << shift,
        "shift": shift,
        "state_exp": state_exp,
        "activation": p.choice(["relu", "unit", "input"]),
        "cumulative": p.flag(),
    }
    parameters = SigmaDeltaParameters(
        options["vth"], torch.tensor(options["bias"]), shift, state_exp, options["activation"], options["cumulative"]
    )
    population = SigmaDeltaPopulation(parameters, (2, 3))
    rows = [(population.step(torch.from_numpy(step)), population.u, population.v) for step in a]
    for index in np.ndindex(2, 3):
        got = [tuple(int(x[index]) for x in row) for row in rows]
        assert got == naive_sigma_delta(a[(slice(None), *index)].tolist(), options)


def test_the_random_graphs_are_of_all_kinds() -> None:
    """What the tests above rest on: loops, delays and resets occur among the first 40."""
    raws = [random_raw(Picks.seeded(seed)) for seed in range(40)]
    assert sum(raw.reset_interval is not None and raw.reset_interval < STEPS for raw in raws) > 5
    assert sum(bool(raw.graph.of_kind("Delay")) for raw in raws) > 5
    assert sum(isinstance(node.quant, SigmaDeltaQuant) for raw in raws for node in raw.graph) > 5
    assert sum(edge.src == edge.dst or edge.delay > 1 for raw in raws for edge in raw.graph.edges) > 40
