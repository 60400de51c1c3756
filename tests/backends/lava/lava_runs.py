"""Run a graph on Lava and in the integer executor, and compare everything there is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from chip_graphs import signals

from hsnn_compiler.backends.lava import simulate as lava_simulate
from hsnn_compiler.backends.lava.emit import check, emit
from hsnn_compiler.ir import Graph
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.result import Result
from hsnn_compiler.verify.traces import compare


def on_lava(graph: Graph, x: np.ndarray) -> Result:
    assert check(graph) == []
    with tempfile.TemporaryDirectory() as folder:
        emit(graph, Path(folder), "a random network")
        return lava_simulate.simulate(graph, Path(folder), x, signals(graph), deadline_s=60)


def assert_equal(graph: Graph, x: np.ndarray) -> Result:
    lava, reference = on_lava(graph, x), LoihiExecutor(graph).run(x, signals(graph))
    assert set(lava.trace) == set(reference.trace) == set(signals(graph))
    differences = compare(lava, reference)
    assert not differences, "\n".join(map(str, differences))
    assert lava.outputs.keys() == reference.outputs.keys()
    for name, output in reference.outputs.items():
        np.testing.assert_array_equal(lava.outputs[name], output)
    return reference
