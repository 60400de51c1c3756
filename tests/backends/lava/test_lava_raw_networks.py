"""Raw graphs: the integer executor equals Lava in every spike, payload, current and potential.

Random graphs with loops, delays, graded spikes and sigma-delta neurons; two that do not touch each
other in each run, so that starting Lava is paid once for both.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import raw_graphs
from hypothesis import given, note, settings
from lava_runs import assert_raw_equal, failures
from picks import Picks, picks
from raw_graphs import Raw, random_raw

from hsnn_compiler.backends.lava.simulate_raw import run_raw
from hsnn_compiler.ir import Graph, Node
from hsnn_compiler.ir.order import groups, is_loop
from hsnn_compiler.ir.text import to_text
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

SEEDS = range(85)
PARTS = 2
pytestmark = pytest.mark.usefixtures("lava")


def network(seed: int) -> tuple[Raw, bool | None]:
    """The networks of a seed, and whether they run on Lava's Sparse: every second time."""
    return random_raw(Picks.seeded(seed), PARTS), True if seed % 2 else None


@pytest.mark.parametrize("seed", [1000, 1001])
def test_a_few(seed: int) -> None:
    """With the real child process, and several samples: each run begins anew."""
    raw = random_raw(Picks.seeded(seed), samples=3)
    result = assert_raw_equal(raw)
    last = {name: array[2:] for name, array in raw.inputs.items()}
    alone = LoihiExecutor(raw.graph).run(last, raw_graphs.signals(raw.graph), reset_interval=raw.reset_interval)
    for key, trace in alone.trace.items():
        np.testing.assert_array_equal(result.trace[key][2:], trace)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fast_lava")
def test_many() -> None:
    """All that fail are named by their seed; `network(seed)` makes them again."""

    def check(seed: int) -> None:
        raw, sparse = network(seed)
        assert_raw_equal(raw, sparse=sparse)

    wrong = failures(SEEDS, check)
    assert not wrong, wrong


@pytest.mark.slow
@pytest.mark.timeout(900)  # a counterexample is made small first, which takes its time
@pytest.mark.usefixtures("fast_lava")
@settings(max_examples=30)
@given(picks())
def test_smallest_counterexample(p: Picks) -> None:
    raw = random_raw(p)
    note(to_text(raw.graph, whole=True))
    note(f"reset interval {raw.reset_interval}, inputs {raw.inputs}")
    assert_raw_equal(raw, sparse=p.choice([None, True]))


def test_progress_counts_all_samples() -> None:
    raw = random_raw(Picks.seeded(3), samples=2)
    seen: list[tuple[int, int]] = []
    run_raw(raw.graph, raw.inputs, deadline_s=60, on_progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (2 * raw_graphs.STEPS, 2 * raw_graphs.STEPS)


def corners(raw: Raw) -> dict[str, bool]:
    """What a graph exercises, by name."""
    graph, interval = raw.graph, raw.reset_interval
    result = LoihiExecutor(graph).run(raw.inputs, raw_graphs.signals(graph), reset_interval=interval)
    lif, spiking = [n for n in graph if n.is_neuron], [n for n in graph if n.is_spiking]
    sdn = graph.of_kind("SigmaDelta", "DeltaEncoder")
    synapses = [n for n in graph if n.is_synapse]
    quants = [n.quant for n in synapses]
    convs = [n.op for n in graph.of_kind("Conv1d", "Conv2d")]
    dense = [n.quant.integers for n in graph.of_kind("Linear")]
    odd = [weight.min() < 0 < weight.max() and (weight % 2).any() for weight in dense]
    resets = {n.dynamics.reset for n in spiking}
    trace = result.trace
    found = {
        "wrap of u": any(np.abs(trace[n.name, "u"]).max() > 2**22 and result.saturated[n.name] for n in lif),
        "saturation of v": any(np.abs(trace[n.name, "v"]).max() == 2**23 - 1 for n in lif),
        "payloads leave 32 bits": any(result.saturated[n.name] for n in sdn),
        "spikes and silence": any(0 < trace[n.name, "s"].mean() < 1 for n in spiking),
        "payloads and silence": any(0 < np.count_nonzero(trace[n.name, "s"]) < trace[n.name, "s"].size for n in sdn),
        "vth 0": any(n.quant.vth == 0 for n in spiking),
        "du -1": any(np.min(n.quant.du) == -1 for n in lif),
        "du 4095": any(np.all(n.quant.du == 4095) for n in lif),
        "dv 0": any(np.all(n.quant.dv == 0) for n in lif),
        "dv 4096": any(np.all(n.quant.dv == 4096) for n in lif),
        "v_init": any(np.any(n.quant.v_init) for n in lif),
        "v_init per neuron": any(np.ndim(n.quant.v_init) for n in lif),
        "own decays, reset to zero": any(n.quant.has_own_decays and n.dynamics.reset == "zero" for n in spiking),
        "own decays, soft reset": any(n.quant.has_own_decays and n.dynamics.reset == "subtract" for n in spiking),
        "taken per neuron": any(np.ndim(n.quant.taken) for n in spiking if n.quant.taken is not None),
        "several spikes per step": any(trace[n.name, "s"].max() > 1 for n in spiking),
        "bias per neuron": any(len(np.unique(n.quant.bias_mant)) > 1 for n in lif),
        "LIF": interval is None and "zero" in resets,
        "LIFReset": interval is not None and "zero" in resets,
        "soft reset": "subtract" in resets,
        "soft reset with interval": interval is not None and "subtract" in resets,
        "several resets in a run": interval is not None and interval < raw_graphs.STEPS - 3,
        "resets in later layers": interval is not None and max(layers(graph)[n.name] for n in lif) > 1,
        "integrator": len(spiking) < len(lif),
        "graded input": any(np.abs(array).max() > 1 for array in raw.inputs.values()),
        "graded into a matrix": any(q.message_bits and q.integers.ndim == 2 for q in quants),
        "graded into a convolution": any(q.message_bits and q.integers.ndim > 2 for q in quants),
        "payloads as spikes": any(not n.quant.message_bits and _graded(graph, n) for n in synapses),
        "relu": any(n.op.activation == "relu" for n in graph.of_kind("SigmaDelta")),
        "unit": any(n.op.activation == "unit" for n in graph.of_kind("SigmaDelta")),
        "cumulative error": any(n.op.cumulative for n in sdn),
        "several inputs": len(raw.inputs) > PARTS,
        "axonal delays": any(e.delay > 1 for n in synapses for e in graph.in_edges(n.name)),
        "delay of a current": any(e.delay for n in lif for e in graph.in_edges(n.name) if graph[e.src].is_synapse),
        "a way without synapse": any(not graph[e.src].is_synapse for n in lif for e in graph.in_edges(n.name)),
        "several synapses": any(sum(s.is_synapse for s in graph.predecessors(n.name)) > 1 for n in lif),
        "groups": any(op.groups > 1 for op in convs),
        "same padding": any(isinstance(op.padding, str) for op in convs),
        "dilation": any(np.max(op.dilation) > 1 for op in convs),
        "stride": any(np.max(op.stride) > 1 for op in convs),
        "weights beyond the format": any(np.abs(weight).max(initial=0) > 256 for weight in dense),
        "odd mixed weights": any(odd),
        "shift left": any(q.exponent > 0 for q in quants),
        "shift right": any(q.exponent < 0 for q in quants),
        "few bits": any(q.bits < 8 for q in quants),
        "readout behind the last population": any("readout" in n.name for n in graph),
    }  # fmt: skip
    kinds = ("Flatten", "Delay", "Concat", "Spread", "Linear", "Conv1d", "Conv2d", "SigmaDelta", "DeltaEncoder")
    return found | {kind: bool(graph.of_kind(kind)) for kind in kinds} | _loops(graph, result.trace)


def _graded(graph: Graph, node: Node) -> bool:
    return any(s.type is not None and s.type.coding.value == "graded" for s in graph.predecessors(node.name))


def _loops(graph: Graph, trace: dict[tuple[str, str], np.ndarray]) -> dict[str, bool]:
    loops = [
        [n for n in group if n.is_neuron or n.kind == "SigmaDelta"] for group in groups(graph) if is_loop(graph, group)
    ]
    return {
        "loop": bool(loops),
        "loop of several populations": any(len(loop) > 1 for loop in loops),
        "loop that spikes": any(trace[n.name, "s"].any() for loop in loops for n in loop if n.is_spiking),
        "loop of a convolution": any(
            is_loop(graph, group) and any(n.kind.startswith("Conv") for n in group) for group in groups(graph)
        ),
        "loop of sigma-delta neurons": any(n.kind == "SigmaDelta" for loop in loops for n in loop),
        "loop with a Delay": any(
            is_loop(graph, group) and any(n.kind == "Delay" for n in group) for group in groups(graph)
        ),
        "loop without synapse": any(
            is_loop(graph, group) and any(e.src == e.dst for n in group for e in graph.in_edges(n.name))
            for group in groups(graph)
        ),
    }


def test_the_random_networks_reach_the_corners() -> None:
    """The tests above are worth what their networks do: counted here, without Lava."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen.update({name: int(yes) for name, yes in corners(network(seed)[0]).items()})
    print(seen)
    rare = {name: number for name, number in seen.items() if number < 3}
    assert not rare, f"of {len(SEEDS)} graphs: {rare}"
    assert seen["spikes and silence"] > 0.5 * len(SEEDS)
