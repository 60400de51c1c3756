"""Run a graph on Lava and in the integer executor, and compare everything there is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import raw_graphs
from chip_graphs import signals

from hsnn_compiler.backends.lava import simulate as lava_simulate
from hsnn_compiler.backends.lava.emit import check, emit
from hsnn_compiler.backends.lava.simulate_raw import run_raw
from hsnn_compiler.ir import Graph
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.verify.traces import compare


def on_lava(graph: Graph, x: np.ndarray, record: Sequence[Record] | None = None) -> Result:
    assert check(graph) == []
    with tempfile.TemporaryDirectory() as folder:
        emit(graph, Path(folder), "a random network")
        return lava_simulate.simulate(graph, Path(folder), x, record or signals(graph), deadline_s=60)


def assert_equal(graph: Graph, x: np.ndarray, record: Sequence[Record] | None = None) -> Result:
    record = record or signals(graph)
    lava, reference = on_lava(graph, x, record), LoihiExecutor(graph).run(x, record)
    assert set(lava.trace) == set(reference.trace) == set(record)
    differences = compare(lava, reference)
    assert not differences, "\n".join(map(str, differences))
    assert lava.outputs.keys() == reference.outputs.keys()
    for name, output in reference.outputs.items():
        np.testing.assert_array_equal(lava.outputs[name], output)
    return reference


def assert_raw_equal(raw: raw_graphs.Raw, *, sparse: bool | None = None) -> Result:
    """Every spike, payload, current and potential of a raw graph, and what it puts out."""
    record = raw_graphs.signals(raw.graph)
    options = {"reset_interval": raw.reset_interval}
    reference = LoihiExecutor(raw.graph).run(raw.inputs, record, **options)
    lava = run_raw(raw.graph, raw.inputs, record, sparse=sparse, deadline_s=100, **options)
    assert set(lava.trace) == set(reference.trace) == set(record)
    differences = compare(lava, reference)
    assert not differences, "\n".join(map(str, differences))
    assert lava.outputs.keys() == reference.outputs.keys()
    for name, output in reference.outputs.items():
        np.testing.assert_array_equal(lava.outputs[name], output)
    assert lava.spikes == {name: reference.spikes[name] for name in lava.spikes}
    return reference


def failures(seeds: Iterable[int], check_seed: Callable[[int], object]) -> str:
    """Run a check for many seeds, two at a time; what failed, by seed. Lava's own failures count too."""

    def outcome(seed: int) -> str:
        try:
            check_seed(seed)
        except Exception as error:
            return f"seed {seed}: {type(error).__name__}: {error}"
        return ""

    with ThreadPoolExecutor(2) as pool:
        return "\n".join(filter(None, pool.map(outcome, seeds)))
