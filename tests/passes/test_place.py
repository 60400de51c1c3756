"""Placement on the chips of a board: limits, as few chips as the order allows, as few crossings as those allow."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chip_graphs import random_network
from picks import Picks
from value_graphs import Net

import hsnn_compiler as hc
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.passes import place
from hsnn_compiler.passes.axons import dealt, spanning, trace_axons
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.chips import Layout, lay_out
from hsnn_compiler.passes.place import Place
from hsnn_compiler.passes.usage import Usage, usages
from hsnn_compiler.reference.torch_ops import bind
from hsnn_compiler.report.sections import sections
from hsnn_compiler.targets import Constant, Target, load_target

KAPOHO = "loihi2-kapoho-point"


def board(chips: int, **limits: int) -> Target:
    """A board of small chips; `limits` by name, as ``chip_neurons`` for ``chip.neurons``."""
    target = load_target(KAPOHO)
    small = {name.replace("_", ".", 1): value for name, value in (limits | {"system_chips": chips}).items()}
    constants = {name: Constant(name, value, "this test", "high") for name, value in small.items()}
    return replace(target, name=f"board{chips}", constants=target.constants | constants)


def network(seed: int, most: int = 4) -> tuple[Graph, list[Usage]]:
    """A random network, with a number of cores per population that is not derived from anything."""
    graph, _ = random_network(Picks.seeded(seed))
    rng = np.random.default_rng(seed)
    used = usages(graph, load_target("loihi2"))
    return graph, [replace(u, share=float(min(u.neurons, rng.integers(1, most + 1)))) for u in used]


def cores_of(graph: Graph, used: list[Usage]) -> dict[str, np.ndarray]:
    """Core of every neuron [neurons], by the index in its population: dealt row by row."""
    found, begin = {}, 0
    for item in used:
        shape = graph[item.name].shape
        rows = np.moveaxis(np.arange(item.neurons).reshape(shape), 1 if len(shape) > 1 else 0, 0).ravel()
        core = np.empty(item.neurons, int)
        for position, index in enumerate(rows):
            core[index] = next(k for k in range(item.cores) if position < (k + 1) * item.neurons // item.cores)
        found[item.name] = begin + core
        begin += item.cores
    return found


def matrix(op: object, shape: tuple[int, ...]) -> np.ndarray:
    """A synapse op as one matrix [in, out]: its answer to each single spike."""
    size = int(np.prod(shape))
    function = bind(op, torch.float64)
    one_hot = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return (function(one_hot) - function(torch.zeros(1, *shape, dtype=torch.float64))).reshape(size, -1).numpy()


# -- axons ----------------------------------------------------------------------------------------------


def test_axons_lead_where_the_dense_matrix_says() -> None:
    """The cores reached are never too few; for matrices and full kernels without dilation they are exact."""
    exact = bound = 0
    for seed in range(40):
        graph, used = network(seed)
        core = cores_of(graph, used)
        traced = iter(trace_axons(graph, used))
        for item in used:
            for synapse in graph.predecessors(item.name):
                if not synapse.is_synapse:
                    continue
                (before,) = graph.predecessors(synapse.name)
                source = before if before.is_neuron else graph.predecessors(before.name)[0]
                axons = next(traced)
                assert (axons.source, axons.target) == (source.name, item.name)
                some = np.abs(matrix(synapse.op, before.shape)) > 1e-9
                own, there = core[source.name], core[item.name]
                true = sorted((own[i], there[row].min(), there[row].max()) for i, row in enumerate(some) if row.any())
                said = sorted(zip(axons.at, axons.first, axons.last, strict=True))
                full = synapse.op.weight.ndim == 2 or (
                    np.all(synapse.op.weight) and np.all(np.asarray(synapse.op.dilation) == 1) and before is source
                )
                rows = len(graph[item.name].shape) == 1 or item.cores == 1
                if full and rows:
                    assert said == true
                    exact += 1
                else:
                    for at in range(sum(u.cores for u in used)):
                        ours, theirs = ([a for a in each if a[0] == at] for each in (said, true))
                        assert len(ours) >= len(theirs)
                        assert not theirs or min(a[1] for a in ours) <= min(a[1] for a in theirs)
                        assert not theirs or max(a[2] for a in ours) >= max(a[2] for a in theirs)
                    bound += 1
        assert next(traced, None) is None
    assert exact > 20
    assert bound > 20


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 3, 0), (5, 1, 2)])
def test_rows_of_a_convolution(kernel: int, stride: int, padding: int) -> None:
    """One core per row: exactly the rows that the kernel reaches."""
    net = Net((2, 9, 4), timesteps=2).encode().neuron("a")
    graph = net.conv("c", 3, kernel, stride=stride, padding=padding).neuron("b").done("sum")
    graph = hc.compile(graph, calibration=np.ones((1, 2, 9, 4), np.float32)).graph
    outputs = graph["b"].shape[1]
    used = [
        replace(u, share=float({"a": 9, "b": outputs}.get(u.name, 1))) for u in usages(graph, load_target("loihi2"))
    ]
    (axons,) = [axons for axons in trace_axons(graph, used) if axons.target == "b"]
    reached = {row: [o for o in range(outputs) if 0 <= row + padding - o * stride < kernel] for row in range(9)}
    expected = sorted((row, 9 + min(o), 9 + max(o)) for row, o in reached.items() for _ in range(8) if o)
    assert sorted(zip(axons.at, axons.first, axons.last, strict=True)) == expected


def test_crossings_are_counted_once_for_every_other_chip() -> None:
    """Against sets, for any cut into chips."""
    for seed in range(20):
        graph, used = network(seed)
        cores = sum(item.cores for item in used)
        cut = np.random.default_rng(seed).integers(0, 2, cores)
        chip = np.cumsum(cut) - cut[0]
        for axons in trace_axons(graph, used):
            expected = 0
            for at, first, last in zip(axons.at, axons.first, axons.last, strict=True):
                expected += len({chip[c] for c in range(first, last + 1)} - {chip[at]})
            assert axons.crossing(chip) == expected


# -- chips ----------------------------------------------------------------------------------------------


def borders(layout: Layout) -> list[int]:
    return np.cumsum([sum(part.cores for part in parts) for parts in layout.chips])[:-1].tolist()


def test_no_other_cut_is_better() -> None:
    """Against all cuts of the row of cores: fewest chips, then fewest axons led past a border."""
    several = 0
    for seed in range(60):
        graph, used = network(seed, 3)
        cores = sum(item.cores for item in used)
        rng = np.random.default_rng(seed)
        neurons, synapses = (
            np.concatenate([[0], *(np.diff(dealt(getattr(u, what), u.cores)) for u in used)]).cumsum()
            for what in ("neurons", "synapses")
        )
        limits = {"chip_neuron_cores": int(rng.integers(2, 5)), "chip_neurons": int(np.diff(neurons).max() * 2),
                  "chip_synapses": int(np.diff(synapses).max() * rng.integers(1, 3))}  # fmt: skip
        passing = spanning(trace_axons(graph, used), cores)
        assert passing[0] == passing[-1] == 0
        options = []
        for count in range(cores):
            for cut in itertools.combinations(range(1, cores), count):
                pieces = list(itertools.pairwise([0, *cut, cores]))
                if all(
                    b - a <= limits["chip_neuron_cores"]
                    and neurons[b] - neurons[a] <= limits["chip_neurons"]
                    and synapses[b] - synapses[a] <= limits["chip_synapses"]
                    for a, b in pieces
                ):
                    options.append((len(pieces), int(sum(passing[c] for c in cut))))
            if options:
                break
        layout = lay_out(graph, used, board(8, **limits))
        assert layout is not None
        assert (len(layout.chips), sum(passing[c] for c in borders(layout))) == min(options)
        several += len(layout.chips) > 1
    assert several > 30


def test_nothing_is_lost_and_every_limit_holds() -> None:
    for seed in range(30):
        graph, used = network(seed, 6)
        target = board(40, chip_neuron_cores=3, chip_neurons=60, chip_synapses=900)
        layout = lay_out(graph, used, target)
        if layout is None:
            assert any(u.neurons / u.cores > 60 or u.synapses / u.cores > 900 - 1 for u in used)
            continue
        for parts in layout.chips:
            assert 0 < sum(part.cores for part in parts) <= 3
            assert sum(part.neurons for part in parts) <= 60
            assert sum(part.synapses for part in parts) <= 900
        for item in used:
            own = [part for parts in layout.chips for part in parts if part.population == item.name]
            for what in ("cores", "neurons", "synapses", "axons"):
                assert sum(getattr(part, what) for part in own) == getattr(item, what)


# -- the pass -------------------------------------------------------------------------------------------


def two_chips() -> Graph:
    """133 cores of neurons, then one; the first population does not fit one chip."""
    net = Net((8, 260, 260), timesteps=2).encode().neuron("n0").conv("c", 1, (4, 4), stride=4).neuron("n1")
    return net.done("sum")


X = np.linspace(0, 1, 2 * 8 * 260 * 260, dtype=np.float32).reshape(2, 8, 260, 260)


def test_the_refusal_names_the_smallest_board_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = two_chips()
    with pytest.raises(HsnnError) as error:
        hc.compile(graph, calibration=X)
    (finding,) = error.value.findings
    assert finding.code == "E0501"
    assert finding.message.endswith("neuron cores, the chip has 128")
    assert finding.suggestion.startswith(f"--target {KAPOHO}: fits on 2 of its 8 chips; or fewer channels")

    ready = hc.compile(graph, calibration=X, target=KAPOHO).graph
    small, middle, large = (board(n, chip_neuron_cores=20) for n in (5, 8, 9))
    monkeypatch.setattr(place, "relatives", lambda target: [small, middle, large])
    (finding,) = Place().run(ready, PassContext(target=small)).findings
    assert finding.message == "167 neuron cores, 5 chips have 100"
    assert finding.suggestion.startswith("--target board9: fits on 9 of its 9 chips")
    monkeypatch.setattr(place, "relatives", lambda target: [small, middle])
    (finding,) = Place().run(ready, PassContext(target=small)).findings
    assert finding.suggestion.startswith("fewer channels")


def test_more_chips_than_there_are_although_the_sums_fit() -> None:
    """Three cores of which no two fit one chip."""
    net = Net((60,), timesteps=2).encode().neuron("a").linear("f", 60).neuron("b").linear("g", 60).neuron("c")
    x = np.random.default_rng(0).random((4, 60), np.float32)
    graph = hc.compile(net.done("sum"), calibration=x).graph
    (finding,) = Place().run(graph, PassContext(target=board(2, chip_neuron_cores=2, chip_neurons=100))).findings
    assert finding.code == "E0501"
    assert finding.message == "3 chips are needed, none of them overfull: the target has 2"
    assert not Place().run(graph, PassContext(target=board(3, chip_neuron_cores=2, chip_neurons=100))).findings


def test_a_single_core_that_is_too_large() -> None:
    graph, used = network(3)
    assert lay_out(graph, used, board(99, chip_neurons=1)) is None


def test_notes_and_report_of_two_chips() -> None:
    """The first population, 133 cores, feeds 34: cheapest is to leave it early, as soon as the rest fits one chip."""
    program = hc.compile(two_chips(), calibration=X, target=KAPOHO)
    (notes,) = [stage.notes for stage in program.stages if stage.name == "place"]
    assert notes[0].startswith("about 167 of 1,024 cores, on 2 of 8 chips; estimate: ")
    tables = {table.title: table for table in sections(program)}
    chips, between = tables["Chips"], tables["Between chips"]
    assert [row[1] for row in chips.rows] == [39, 128]
    assert sum(row[2] for row in chips.rows) == 540_800 + 65 * 65
    assert [row[-1] for row in chips.rows] == ["n0 (39 of 133 cores)", "n0 (94 of 133 cores), n1"]
    assert notes[1] == "chip 0, 39 cores: n0 (39 of 133 cores)"
    assert between.rows == [("n0", "n1", 540_800 * 39 // 133)]
    assert f"{between.rows[0][2]:,} axons cross" in notes[0]
    assert "estimate" in between.notes[0]
    assert tables["Against Kapoho Point (8 Intel Loihi 2 chips)"].rows[2][2] == 1024


def test_a_board_changes_nothing_but_the_manifest(tmp_path: Path) -> None:
    graph = Net((6,), timesteps=4).encode().neuron("n").linear("fc", 3).neuron("out").done("sum")
    x = np.random.default_rng(1).random((8, 6), np.float32)
    texts = {}
    for target in ("loihi2", KAPOHO):
        program = hc.compile(graph, calibration=x, target=target)
        program.save(tmp_path / target)
        manifest = json.loads((tmp_path / target / "manifest.json").read_text())
        (chip,) = manifest["chips"]
        assert [(part["population"], part["cores"], part["neurons"]) for part in chip] == [("n", 1, 6), ("out", 1, 3)]
        texts[target] = (tmp_path / target / "network.py").read_text()
        assert hc.load(tmp_path / target).target == target
    assert texts["loihi2"] == texts[KAPOHO]
