"""Hybrid networks, values and steps by turns, in the float executor: against the same written out in torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hybrid_graphs import random_hybrid
from hybrid_replay import Replay
from picks import Picks

from hsnn_compiler.ir import Coding, Graph, storage
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.records import graphs_equal
from hsnn_compiler.ir.text import arrays_of, parse, to_text
from hsnn_compiler.reference import fused
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.result import Record, Result

SEEDS = range(60)


def signals(graph: Graph) -> list[Record]:
    return [(node.name, v) for node in graph for v in ("sv" if node.is_neuron else "s")]


def same(result: Result, replay: Replay) -> None:
    """All signals, potentials and counts of spikes."""
    graph = replay.graph
    for (name, variable), got in result.trace.items():
        signal = replay.signals[name] if variable == "s" else replay.potentials[name]
        wanted = torch.stack(signal, 1) if isinstance(signal, list) else signal
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted.detach(), rtol=1e-9, atol=1e-9, err_msg=f"{name}.{variable}")
    for node in graph:
        if node.is_spiking or node.is_event_source:
            assert result.spikes[node.name] == sum(float(s.detach().sum()) for s in replay.signals[node.name])
    np.testing.assert_allclose(result.output, replay.signals["y"].detach(), rtol=1e-9, atol=1e-9)  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["steps", "auto"])
def test_every_signal(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step and on kernels, in batches of any size, whatever is recorded."""
    monkeypatch.setattr(fused, "WORTH_COMPILING", 0)
    compiled = 0
    for seed in SEEDS[: 25 if method == "steps" else 12]:
        graph, x = random_hybrid(Picks.seeded(seed))
        replay = Replay(graph, x)
        executor = FloatExecutor(graph, torch.float64, method=method)
        for size in (1, 2, len(x)):
            result = executor.run(x, signals(graph) if size != 2 else [], batch_size=size)
            same(result, replay)
        compiled += sum(not how.startswith("torch") for how in result.how.values())
    assert compiled == 0 if method == "steps" else compiled > 20


def test_networks_of_values_alone() -> None:
    for seed in range(20):
        graph, x = random_hybrid(Picks.seeded(seed), timed=False)
        assert graph.timesteps is None
        same(FloatExecutor(graph, torch.float64).run(x, signals(graph)), Replay(graph, x))


def test_gradients_go_through_all_crossings() -> None:
    """To every weight, of layers of values and of steps, and to the input."""
    reached = 0
    for seed in SEEDS[:40]:
        graph, x = random_hybrid(Picks.seeded(seed))
        replay = Replay(graph, x)
        wanted = replay.signals["y"]
        assert isinstance(wanted, torch.Tensor)
        executor = FloatExecutor(graph, torch.float64, surrogate="atan")
        got = executor.evaluate({"x": torch.tensor(x)})["y"]
        upstream = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(got.shape)))
        (wanted * upstream).sum().backward()
        (got * upstream).sum().backward()
        for name, weight in replay.weights.items():
            mine, theirs = executor.parameters[name, "weight"].grad, weight.grad
            assert (mine is None) == (theirs is None), name
            if mine is not None and theirs is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-7 * float(theirs.abs().max()))
                reached += bool(theirs.abs().max() > 1e-6)
    assert reached > 100


def test_text_files_and_types_round_trip(tmp_path: object) -> None:
    for seed in SEEDS[:10]:
        graph, _ = random_hybrid(Picks.seeded(seed))
        assert graphs_equal(parse(to_text(graph), arrays_of(graph)), graph)
        storage.write(graph, f"{tmp_path}/graph.h5")
        back = storage.read(f"{tmp_path}/graph.h5")
        assert graphs_equal(back, graph)
        bare = back.copy()
        for node in bare:
            bare.update(node.name, type=None)
        assert graphs_equal(infer_types(bare), graph)


def test_the_random_networks_have_what_hybrids_have() -> None:
    """Counted, so that the tests above stay worth something."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        graph, x = random_hybrid(Picks.seeded(seed))
        values = {node.name for node in graph if node.type and node.type.coding is Coding.VALUE}
        encodes, decodes = graph.of_kind("Encode"), graph.of_kind("Decode")
        again = {e.name for e in encodes if {d.name for d in decodes} & graph.ancestors(e.name)}
        result = FloatExecutor(graph).run(x, [(n.name, "s") for n in graph if n.is_spiking])
        rates = [float(trace.mean()) for trace in result.trace.values()]
        found = {
            "an Encode behind a Decode": bool(again),
            "three blocks in a row": any(again & graph.ancestors(name) for name in again),
            "a value for two blocks": any(len(graph.out_edges(name)) > 1 for name in values),
            "a sum of values": any(n.name in values for n in graph.of_kind("Add")),
            "a sum of spikes": any(n.name not in values for n in graph.of_kind("Add")),
            "an early exit": any(n.name.endswith("early") for n in decodes),
            "decoded currents": any(graph.predecessors(d.name)[0].is_synapse for d in decodes),
            "busy and quiet neurons": min(rates) < 0.2 < max(rates),
            "clipped": any(result.saturated.values()),
        }
        seen.update({name for name, yes in found.items() if yes})
        seen.update({f"encode {n.op.kind}" for n in encodes} | {f"decode {n.op.kind}" for n in decodes})
        seen.update({n.kind for n in graph})
        assert max(rates) > 0, seed
    rare = {name: number for name, number in seen.items() if number < 5}
    print(seen)
    assert not rare
    assert len(seen) >= 9 + 6 + 6 + 15
