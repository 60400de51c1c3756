"""Schedule, placement, pipelines, and whole compilations."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from chip_graphs import random_network
from picks import Picks
from value_graphs import Net, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Add, BatchNorm, ReLU
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE, parse_pipeline, to_text
from hsnn_compiler.passes.usage import connections, totals, usages
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.torch_ops import bind
from hsnn_compiler.registry import PASSES
from hsnn_compiler.targets import load_target


def samples(graph: Graph, n: int = 32) -> np.ndarray:
    return np.random.default_rng(6).normal(size=(n, *graph["x"].shape)).astype(np.float32)


# -- schedule -------------------------------------------------------------------------------------------


def test_depths_and_delays_let_everything_arrive_together() -> None:
    for seed in range(60):
        graph, _ = random_network(Picks.seeded(seed))
        waiting = waits(graph)
        for node in graph:
            if not node.is_neuron:
                continue
            for synapse in graph.predecessors(node.name):
                if not synapse.is_synapse:
                    continue
                (source,) = graph.predecessors(synapse.name)
                while not source.is_neuron:
                    (source,) = graph.predecessors(source.name)
                assert source.schedule.depth + waiting[synapse.name] + 1 == node.schedule.depth
                assert waiting[synapse.name] >= 0
            assert node.schedule.period == graph.timesteps


def test_a_skip_that_is_too_long_is_refused() -> None:
    net = Net((2,), timesteps=4).encode().neuron("n0", threshold=[0.1])
    for i in range(1, 66):
        net.add(f"w{i}", nir.Linear(np.eye(2))).neuron(f"n{i}", threshold=[0.5])
    graph = net.add("add", Add(), "n65", "n0").neuron("last", threshold=[0.5]).done("sum")
    with pytest.raises(HsnnError) as error:
        run_passes(graph, DEFAULT_PIPELINE, calibration=np.abs(samples(graph)))
    assert {finding.code for finding in error.value.findings} == {"E0447"}


def test_hardware_reset_intervals_are_warned_about() -> None:
    for steps, reset, warned in ((8, "zero", False), (6, "zero", True), (6, "subtract", False)):
        graph = Net((3,), timesteps=steps).encode().neuron("n", reset=reset).done("sum")
        stages = run_passes(graph, DEFAULT_PIPELINE, calibration=samples(graph))
        codes = {finding.code for stage in stages for finding in stage.result.findings}
        assert ("W0446" in codes) == warned


# -- place ----------------------------------------------------------------------------------------------


def dense_matrix(op: object, shape: tuple[int, ...]) -> np.ndarray:
    """A synapse op as one matrix: its answer to each single spike."""
    size = int(np.prod(shape))
    one_hot = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    base = torch.zeros(1, *shape, dtype=torch.float64)
    function = bind(op, torch.float64)
    return (function(one_hot) - function(base)).reshape(size, -1).numpy()


def test_connections_are_those_of_the_dense_matrix() -> None:
    checked = 0
    for seed in range(25):
        graph, _ = random_network(Picks.seeded(seed))
        for node in graph:
            if node.is_synapse:
                matrix = dense_matrix(node.op, graph.predecessors(node.name)[0].shape)
                assert connections(graph, node) == np.count_nonzero(np.abs(matrix) > 1e-9), node.name
                checked += 1
    assert checked > 60


def test_cores_never_exceed_their_limits() -> None:
    target = load_target("loihi2")
    for seed in range(10):
        graph, _ = random_network(Picks.seeded(seed))
        used = usages(graph, target)
        assert [usage.neurons for usage in used] == [n.type.size for n in graph if n.is_neuron]
        for usage in used:
            assert usage.cores >= usage.neurons / target["core.neurons"]
            assert usage.cores >= 1
        assert {what: n for what, n, _ in totals(used, target)}["neuron cores"] == sum(u.cores for u in used)


def test_a_network_that_is_too_large_is_refused() -> None:
    net = Net((8, 400, 400), timesteps=2).encode().neuron("n0").conv("c", 8, 1).neuron("n1")
    graph = net.done("sum")
    with pytest.raises(HsnnError) as error:
        run_passes(graph, DEFAULT_PIPELINE, calibration=samples(graph, 1))
    assert {finding.code for finding in error.value.findings} == {"E0501"}


# -- pipelines --------------------------------------------------------------------------------------------


def test_pipeline_text_round_trip() -> None:
    texts = (
        DEFAULT_PIPELINE,
        "calibrate-thresholds{method=max,percentile=99.0,per_channel=False},quantise{bits=6}",
        "quantise",
    )
    for text in texts:
        assert to_text(parse_pipeline(text)) == text
    assert parse_pipeline(" quantise { bits = 6 } , place ") == parse_pipeline("quantise{bits=6},place")
    assert [item.name for item in parse_pipeline(DEFAULT_PIPELINE)] == list(PASSES)


NOT_UNDERSTOOD = (
    "nothing", "quantise{bits}", "quantise{bits=x}", "quantise{speed=1}", "quantise{bits=3", "quantise;place",
    "calibrate-thresholds{per_channel=maybe}",
)  # fmt: skip


@pytest.mark.parametrize("text", NOT_UNDERSTOOD)
def test_pipelines_that_are_not_understood(text: str) -> None:
    with pytest.raises(HsnnError) as error:
        parse_pipeline(text)
    assert {finding.code for finding in error.value.findings} == {"E0212"}


def test_wrong_order_is_refused() -> None:
    graph = Net((3,), timesteps=4).encode().neuron("n").linear("fc", 2).neuron("out").done("sum")
    for text in ("quantise", "schedule", "place", "convert-activations"):
        with pytest.raises(HsnnError) as error:
            run_passes(graph, text, calibration=samples(graph))
        assert {finding.code for finding in error.value.findings} <= {"E0220", "E0102"}


def test_every_pass_says_what_it_does() -> None:
    for item in parse_pipeline(DEFAULT_PIPELINE):
        assert item.contract in ("exact", "bounded", "lossy")
        assert item.summary().endswith((".", "them"))


# -- end to end ---------------------------------------------------------------------------------------------


def residual_ann(seed: int) -> Graph:
    net = Net((2, 8, 8), seed=seed)
    rng = net.rng

    def norm(name: str, n: int) -> None:
        net.add(
            name,
            BatchNorm(
                rng.uniform(0.5, 1.5, n), rng.normal(size=n) / 4, rng.normal(size=n) / 4, rng.uniform(0.5, 1.5, n)
            ),
        )

    net.conv("c0", 6, padding=1)
    norm("bn0", 6)
    net.add("r0", ReLU()).conv("c1", 6, padding=1)
    norm("bn1", 6)
    net.add("r1", ReLU()).conv("c2", 6, padding=1)
    net.add("add", Add(), "c2", "r0").add("r2", ReLU())
    net.pool("pool", 2).conv("c3", 8, stride=2, padding=1).conv("skip", 8, 1, "pool", stride=2)
    net.add("add2", Add(), "c3", "skip").add("r3", ReLU()).flatten()
    return net.linear("fc", 5).done()


@pytest.mark.parametrize("seed", range(3))
def test_a_residual_network_from_float_to_integers(seed: int) -> None:
    """ANN, spiking network, integers: each close to the one before it."""
    graph = residual_ann(seed)
    x = samples(graph, 64)
    plain = DEFAULT_PIPELINE.replace("calibrate-thresholds", "calibrate-thresholds{method=mse,correct=none}")
    stages = run_passes(graph, plain, calibration=x, timesteps=64)
    names = [stage.item.name for stage in stages]
    spiking = stages[names.index("lower-connections")].result.graph
    after = stages[-1].result.graph
    assert not [finding for stage in stages for finding in stage.result.findings if finding.is_error]
    ann = FloatExecutor(graph).run(x).output
    snn = FloatExecutor(spiking).run(x).output
    integer = LoihiExecutor(after).run(x)
    dequantised = FloatExecutor(after).run(x).output

    def agreement(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    assert agreement(snn, ann) > 0.97
    assert agreement(integer.output, snn) > 0.97
    assert agreement(integer.output, dequantised) > 0.99
    assert (integer.predictions() == snn.argmax(1)).mean() > 0.85
    assert any(waits(after).values()), "the skip connection waits"
    exact = [stage.result.graph for stage in stages if stage.item.contract == "exact"]
    first = names.index("calibrate-thresholds")
    base = FloatExecutor(stages[first].result.graph, torch.float64).run(x).output
    for name, stage in zip(names, stages, strict=True):
        if stage.item.contract == "exact" and names.index(name) in range(first + 1, names.index("quantise")):
            got = FloatExecutor(stage.result.graph, torch.float64).run(x).output
            wrong = np.abs(got - base).max(1) > 1e-5 * np.abs(base).max()
            # One spike may move where a potential meets its threshold exactly; sums of floats decide that.
            assert wrong.mean() <= 0.05, name
    assert exact


def test_context_layers_are_converted_to_the_type_of_their_default() -> None:
    context = PassContext(layers={"a": {"bits": "6", "threshold": "1.5"}})
    assert context.layer("a", "bits", 8) == 6
    assert context.layer("a", "threshold", 0.0) == 1.5
    assert context.layer("b", "bits", 8) == 8
