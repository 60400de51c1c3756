"""The integer executor equals Lava bit for bit: random networks, every spike, current and potential."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from chip_graphs import random_network, signals
from hypothesis import given, note, settings
from lava_runs import assert_equal, failures, on_lava
from picks import Picks, picks

from hsnn_compiler.ir import Graph, Node
from hsnn_compiler.ir.payloads import largest_payload
from hsnn_compiler.ir.text import to_text
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

SEEDS = range(80)
pytestmark = pytest.mark.usefixtures("lava")


@pytest.mark.parametrize("seed", range(4))
def test_a_few(seed: int) -> None:
    """With the real child process."""
    assert_equal(*random_network(Picks.seeded(seed)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fast_lava")
def test_many() -> None:
    """All that fail are named by their seed; `Picks.seeded(seed)` makes the network again."""
    wrong = failures(SEEDS, lambda seed: assert_equal(*random_network(Picks.seeded(seed))))
    assert not wrong, wrong


@pytest.mark.slow
@pytest.mark.timeout(900)  # a counterexample is made small first, which takes its time
@pytest.mark.usefixtures("fast_lava")
@settings(max_examples=20)
@given(picks())
def test_smallest_counterexample(p: Picks) -> None:
    graph, x = random_network(p)
    note(to_text(graph, whole=True))
    assert_equal(graph, x)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_lava")
def test_samples_do_not_see_each_other() -> None:
    """The window of each sample is its own: permuted samples give permuted results."""
    for seed in range(100, 106):
        graph, x = random_network(Picks.seeded(seed))
        x = np.concatenate([x, -x, 0 * x[:1]])
        order = np.random.default_rng(seed).permutation(len(x))
        straight, permuted = on_lava(graph, x), on_lava(graph, x[order])
        for key, trace in straight.trace.items():
            np.testing.assert_array_equal(trace[order], permuted.trace[key])


def corners(graph: Graph, x: np.ndarray) -> dict[str, bool]:
    """What a network exercises, by name."""
    result = LoihiExecutor(graph).run(x, signals(graph))
    populations = [node for node in graph if node.is_neuron]
    spiking = [node for node in populations if node.is_spiking]
    neurons = [node.quant for node in populations]
    dense = [node.quant for node in graph.of_kind("Linear")]
    convs = [node.op for node in graph.of_kind("Conv1d", "Conv2d")]
    delays = [wait for wait in waits(graph).values() if wait]
    encoded = [edge.dst for node in graph.of_kind("Encode") for edge in graph.out_edges(node.name)]
    odd = [q.integers.min() < 0 < q.integers.max() and (q.integers % 2).any() for q in dense]
    found = {
        "spikes behind the first layer": any(result.spikes[n.name] for n in spiking if n.schedule.depth),
        "spikes and silence in one layer": any(0 < result.trace[n.name, "s"].mean() < 1 for n in spiking),
        "v saturates": any(result.saturated[n.name] for n in populations),
        "u beyond 22 bits": any(abs(result.trace[n.name, "u"]).max() > 2**22 for n in populations),
        "delays": bool(delays),
        "long delays": max(delays, default=0) > 1,
        "soft reset": any(n.dynamics.reset == "subtract" for n in populations),
        "hard reset": any(n.dynamics.reset == "zero" for n in populations),
        "integrators": len(spiking) < len(populations),
        "v_init": any(np.any(q.v_init) for q in neurons),
        "v_init per neuron": any(np.ndim(q.v_init) for q in neurons),
        "du per neuron": any(np.ndim(q.du) for q in neurons),
        "dv per neuron, soft reset": any(np.ndim(n.quant.dv) and n.dynamics.reset == "subtract" for n in populations),
        "dv per neuron, hard reset": any(np.ndim(n.quant.dv) and n.dynamics.reset == "zero" for n in populations),
        "taken per neuron": any(np.ndim(q.taken) for q in neurons if q.taken is not None),
        "several spikes per step": any(result.trace[n.name, "s"].max() > 1 for n in spiking),
        "graded into a matrix": any(q.message_bits for q in dense),
        "graded into a convolution": any(n.quant.message_bits for n in graph.of_kind("Conv1d", "Conv2d")),
        "graded as spikes": any(_graded(graph, n) and not n.quant.message_bits for n in graph if n.is_synapse),
        "current memory": any(np.any((np.asarray(q.du) > 0) & (np.asarray(q.du) < 4095)) for q in neurons),
        "threshold 0": any(q.vth == 0 for q in neurons),
        "input in a deeper layer": any(graph[name].schedule.depth for name in encoded),
        "several synapse ops": any(sum(s.is_synapse for s in graph.predecessors(n.name)) > 1 for n in populations),
        "several consumers": any(len(graph.out_edges(n.name)) > 1 for n in spiking),
        "groups": any(op.groups > 1 for op in convs),
        "same padding": any(isinstance(op.padding, str) for op in convs),
        "dilation": any(np.max(op.dilation) > 1 for op in convs),
        "shift left": any(q.exponent > 0 for q in dense),
        "shift right": any(q.exponent < 0 for q in dense),
        "few bits": any(q.bits < 8 for q in dense),
        "odd mixed weights": any(odd),
    }
    return found | {kind: bool(graph.of_kind(kind)) for kind in ("Flatten", "Linear", "Conv1d", "Conv2d")}


def _graded(graph: Graph, synapse: Node) -> bool:
    return largest_payload(graph, graph.predecessors(synapse.name)[0]) != 1


def test_the_random_networks_reach_the_corners() -> None:
    """The tests above are worth what their networks do: counted here, without Lava."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen.update({name: int(yes) for name, yes in corners(*random_network(Picks.seeded(seed))).items()})
    print(seen)
    rare = {name: number for name, number in seen.items() if number < 3}
    assert not rare, f"of {len(SEEDS)} networks: {rare}"
    assert min(seen["spikes behind the first layer"], seen["spikes and silence in one layer"]) > 0.4 * len(SEEDS)
