"""What is kept of a graph's signals, and that runs which go on from there give the same."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import nir
import numpy as np
import pytest
from test_correction import CONVERT, data
from value_graphs import Net, run_passes

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, ReLU
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.calibration import replay
from hsnn_compiler.passes.calibration.replay import Replay
from hsnn_compiler.reference.float_executor import FloatExecutor


def context() -> PassContext:
    return PassContext(calibration=data(40), timesteps=4, batch_size=16)


def residual() -> Graph:
    """Two convolutions, the second one beside a shortcut, a linear layer."""
    net = Net((2, 8, 8), seed=5).conv("c0", 6, padding=1).add("r0", ReLU()).conv("c1", 6, padding=1)
    return net.add("sum", Add(), "c1", "r0").add("r1", ReLU()).flatten().linear("fc", 10).done()


def converted() -> Graph:
    options = "calibrate-thresholds{method=mse,correct=none,mixtures=false}"
    return infer_types(run_passes(residual(), CONVERT + options, calibration=data(), timesteps=4)[-1].result.graph)


def whole(graph: Graph, names: Collection[str]) -> dict[str, np.ndarray]:
    trace = FloatExecutor(graph).run(data(40), [(name, "s") for name in names]).trace
    return {name: trace[name, "s"] for name in names}


def joined(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    assert [len(next(iter(batch.values()))) for batch in batches] == [16, 16, 8]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize("limit", [replay.MOST_BYTES, 100_000, 0])
def test_every_signal_is_the_same_wherever_a_run_begins(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_BYTES", limit)
    graph = converted()
    run = Replay(graph, context())
    names = [node.name for node in graph.topological() if node.kind not in ("Input", "Output")]
    for first, then in pairwise(names):
        for found in (joined(list(run.advance(graph, [first]))), joined(list(run.run(graph, [then])))):
            for name, signal in whole(graph, found).items():
                np.testing.assert_allclose(found[name], signal, atol=1e-4, err_msg=name)


def test_what_was_done_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = converted()
    ran: list[set[str]] = []

    class Watched(FloatExecutor):
        def __init__(self, part: Graph, **options: object) -> None:
            ran.append({node.name for node in part if node.is_neuron})
            super().__init__(part, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(replay, "FloatExecutor", Watched)
    run = Replay(graph, context())
    for name in ("r0.scale", "fc"):
        list(run.advance(graph, [name]))
    first, second = ran
    assert first == {"r0"}
    assert second == {node.name for node in graph if node.is_neuron} - {"r0"}


def test_a_change_behind_shows() -> None:
    graph = converted()
    run = Replay(graph, context())
    list(run.advance(graph, ["r0.scale"]))
    before = joined(list(run.run(graph, ["r1"])))["r1"]
    op = graph["r1"].op
    graph.update("r1", op=nir.IF(r=op.r, v_threshold=op.v_threshold / 4, v_reset=op.v_reset))
    after = joined(list(run.run(graph, ["r1"])))["r1"]
    assert after.sum() > 1.2 * before.sum()
    np.testing.assert_array_equal(after, whole(graph, ["r1"])["r1"])
